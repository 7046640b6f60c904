"""What sets up and drives a real ComfyUI, for quickstart and the tests."""
