"""The entry point for ComfyUI. Everything else is in `nodes/` and `musicgen/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import MusicGenExtension

WEB_DIRECTORY = "web"


async def comfy_entrypoint() -> MusicGenExtension:
    """Return the pack's extension; imported here so that pytest can import this file without ComfyUI."""
    from .nodes import MusicGenExtension

    return MusicGenExtension()
