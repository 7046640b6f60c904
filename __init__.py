"""ComfyUI's door to this node pack. Everything else lives in `nodes/` and `musicgen/`."""

WEB_DIRECTORY = "web"


async def comfy_entrypoint():
    """Return the pack's extension; imported here so that pytest can import this file without ComfyUI."""
    from .nodes import MusicGenExtension

    return MusicGenExtension()
