"""The running server, which tests of single nodes do without."""

from __future__ import annotations

from comfy_api.latest import ComfyAPI, io


async def offer_replacement(replacement: io.NodeReplace) -> None:
    """Offer a node in the place of another pack's, if a server runs."""
    from server import PromptServer

    if getattr(PromptServer, "instance", None) is not None:
        await ComfyAPI().node_replacement.register(replacement)
