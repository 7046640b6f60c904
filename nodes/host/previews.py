"""Pictures and players on a node, through the files that ComfyUI's frontend reads."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ui
from torch import Tensor


def pictures(images: Tensor, node: Any) -> Any:
    """Show images [B, H, W, 3] on a node."""
    return ui.PreviewImage(images, cls=node)


def player(audio: dict[str, Any], node: Any) -> Any:
    """Play AUDIO on a node."""
    return ui.PreviewAudio(audio, cls=node)
