"""The node that picks items out of a batch."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host import blocking, progress
from .host.telling import Node
from .inputs.batches import pick_audio, pick_items, pick_tokens
from .sockets import CATEGORY, Tokens, TokensSocket


class MusicGenPick(Node):
    """A batch -> some of its items."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenPick",
            display_name="MusicGen Pick",
            category=CATEGORY,
            description="Picks one or more pieces out of a batch. Play the batch on MusicGen EnCodec Decode, then "
            "write the numbers of the pieces that you want to keep into marked.",
            search_aliases=["choose", "select", "pick best", "favourite", "batch item", "audio from batch"],
            inputs=[
                io.Int.Input(
                    "index",
                    display_name="piece (index)",
                    default=1,
                    min=-64,
                    max=64,
                    tooltip="Number of the piece in the batch. 1 is the first piece, -1 the last one. The numbers that "
                    "you mark below go first.",
                ),
                io.String.Input(
                    "marked",
                    display_name="marked pieces",
                    default="",
                    optional=True,
                    tooltip="Numbers of the pieces to keep, in their order, such as 2 or 1, 3 or 2-4. Where this is "
                    "empty, the node picks the piece above.",
                ),
                TokensSocket.Input(
                    "tokens",
                    optional=True,
                    tooltip="A batch of tokens, from MusicGen Sample Tokens. Connect tokens, audio or both.",
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="A batch of sound, from MusicGen EnCodec Decode. The node picks the same pieces from it.",
                ),
            ],
            outputs=[
                TokensSocket.Output(
                    "tokens", display_name="tokens", tooltip="The tokens of the picked pieces. Needs tokens."
                ),
                io.Audio.Output("audio", display_name="audio", tooltip="The sound of the picked pieces. Needs audio."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, index: int, marked: str = "", tokens: Tokens | None = None, audio: dict[str, Any] | None = None
    ) -> io.NodeOutput:
        items = pick_items(index, marked, tokens, audio)
        progress.show(cls.hidden.unique_id, f"picked {', '.join(str(item + 1) for item in items)}")
        missing = "MusicGen Pick has no {0} to pick from; connect the {0} of the batch to it."
        return io.NodeOutput(
            blocking.blocked(missing.format("tokens")) if tokens is None else pick_tokens(tokens, items),
            blocking.blocked(missing.format("audio")) if audio is None else pick_audio(audio, items),
        )
