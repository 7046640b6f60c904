"""Tools of the repository, not of the pack: they set up an environment and drive a real ComfyUI."""
