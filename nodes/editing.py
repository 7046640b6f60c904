"""The node that edits tokens without a model."""

from __future__ import annotations

from comfy_api.latest import io

from ..musicgen.times import Meter
from .host import progress
from .host.telling import Node
from .inputs.editing import DROP, JOIN, KEEP, MIX, OPERATIONS, REMOVE, REPEAT, REVERSE, edit_tokens, seconds_of
from .inputs.widgets import meter_inputs
from .sockets import CATEGORY, CodecHandle, CodecSocket, Tokens, TokensSocket


class MusicGenEditTokens(Node):
    """Tokens -> tokens, cut, joined or mixed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenEditTokens",
            display_name="MusicGen Edit Tokens",
            category=CATEGORY,
            description="Edits tokens exactly, before they are decoded: cuts, joins, repeats and reorders sections, "
            "and exchanges or drops codebooks. It needs no model and takes no time.",
            search_aliases=[
                "cut",
                "trim",
                "slice",
                "splice",
                "concatenate",
                "reorder sections",
                "codebook",
                "rearrange",
            ],
            inputs=[
                TokensSocket.Input("tokens", tooltip="The piece to edit, from any node that gives tokens."),
                io.Combo.Input(
                    "operation",
                    options=list(OPERATIONS),
                    default=KEEP,
                    tooltip=f"{KEEP}: the ranges, in the order in which they are written. {REMOVE}: all else. "
                    f"{REPEAT}: the piece, or the ranges, several times. {REVERSE}: the last section first, each "
                    f"forwards. {JOIN}: the piece, then other. {MIX}: some codebooks of other. {DROP}: some codebooks "
                    "fall silent.",
                ),
                io.String.Input(
                    "ranges",
                    default="0s - 4s",
                    multiline=True,
                    tooltip="Ranges of time, one in each line: 4s - 8s, 1:05 - end, bar 3 to bar 5, 4s for 2 bars, "
                    f"0% - 50%. For {REVERSE} also one length such as 2 bars. Empty for the whole piece, where that "
                    "has a meaning.",
                ),
                io.Int.Input(
                    "repeats", default=2, min=1, max=1000, tooltip=f"How many times the music comes, for {REPEAT}."
                ),
                io.String.Input(
                    "codebooks",
                    default="3-4",
                    tooltip=f"Numbers of codebooks, for {MIX} and {DROP}, such as 1-2 or 3, 4. The lowest hold the "
                    "notes, the highest the finest detail of the sound.",
                ),
                *meter_inputs(),
                TokensSocket.Input(
                    "other", optional=True, tooltip=f"A second piece of the same codec, for {JOIN} and {MIX}."
                ),
                CodecSocket.Input("codec", optional=True, tooltip=f"The codec of the tokens, for {DROP}."),
            ],
            outputs=[
                TokensSocket.Output(
                    "tokens",
                    display_name="tokens",
                    tooltip="The tokens, for MusicGen EnCodec Decode or for prompt of MusicGen Sample Tokens.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        tokens: Tokens,
        operation: str,
        ranges: str,
        repeats: int,
        codebooks: str,
        bpm: float,
        beats_per_bar: int,
        other: Tokens | None = None,
        codec: CodecHandle | None = None,
    ) -> io.NodeOutput:
        made = edit_tokens(
            operation,
            tokens,
            ranges=ranges,
            repeats=repeats,
            codebooks=codebooks,
            meter=Meter(bpm, beats_per_bar),
            other=other,
            codec=codec,
        )
        progress.show(cls.hidden.unique_id, f"{seconds_of(tokens):g} s -> {seconds_of(made):g} s")
        return io.NodeOutput(made)
