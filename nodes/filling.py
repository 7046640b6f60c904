"""The nodes that sample a part of a piece so that it fits the rest: sections, variations, and loops."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..musicgen.times import Meter
from .host import progress
from .host.telling import Node
from .inputs.filling import Choice, Conditions, fill_tokens, loop_tokens, read_loop
from .inputs.widgets import batch_size_input, choice_inputs, meter_inputs, sampling_inputs, seed_input
from .sockets import (
    CATEGORY,
    MAX_SECONDS,
    CodecHandle,
    CodecSocket,
    MelodyBatch,
    MelodySocket,
    ModelHandle,
    ModelSocket,
    StyleBatch,
    StyleSocket,
    Tokens,
    TokensSocket,
)


def _model_inputs() -> list[io.Input]:
    return [
        ModelSocket.Input("model", tooltip="The language model, from MusicGen Loader or MusicGen LoRA Loader."),
        io.Conditioning.Input(
            "positive",
            tooltip="Conditioning from MusicGen Text Encode: it describes the music. Core nodes may combine it, "
            "average it or limit it to a range of the piece.",
        ),
    ]


def _condition_inputs() -> list[io.Input]:
    return [
        io.Conditioning.Input(
            "negative",
            optional=True,
            tooltip="Conditioning to guide away from. Without it, guidance leads away from music without a "
            "description.",
        ),
        MelodySocket.Input(
            "melody",
            optional=True,
            tooltip="A melody to follow, from MusicGen Melody Chroma. Melody models only.",
        ),
        StyleSocket.Input(
            "style", optional=True, tooltip="A style to take up, from MusicGen Style. Style models only."
        ),
        CodecSocket.Input(
            "codec",
            optional=True,
            tooltip="The codec from the same loader. With it, the likeliest candidates of the last round are decoded, "
            "and the one with the smoothest seam stays.",
        ),
    ]


class MusicGenFill(Node):
    """Tokens -> tokens with a section sampled anew."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenFill",
            display_name="MusicGen Fill",
            category=CATEGORY,
            description="Samples a section of a piece anew, so that it fits the music before and behind it; or music "
            "before a piece; or a variation, which keeps the lower codebooks. All other tokens stay bit for bit.",
            search_aliases=["inpaint", "repaint", "infill", "re-roll", "retake", "extend left", "intro", "variation"],
            inputs=[
                *_model_inputs(),
                TokensSocket.Input("tokens", tooltip="The piece to change. Each piece of a batch is changed alone."),
                io.String.Input(
                    "sections",
                    default="4s - 6s",
                    multiline=True,
                    tooltip="Sections to sample anew, one in each line: 4s - 6s, bar 3 to bar 5, 4s for 1 bar, 80% - "
                    "end. They must not overlap. Empty for none, or for the whole piece where codebooks are kept.",
                ),
                io.Float.Input(
                    "before",
                    display_name="music before (s)",
                    default=0.0,
                    min=0.0,
                    max=300.0,
                    step=0.1,
                    tooltip="Seconds of new music to put before the piece.",
                ),
                io.Int.Input(
                    "kept_codebooks",
                    display_name="kept codebooks",
                    default=0,
                    min=0,
                    max=31,
                    tooltip="Number of the lowest codebooks that stay. 0 samples all anew. 1 or 2 keep the notes and "
                    "vary the sound.",
                ),
                *choice_inputs(),
                seed_input(),
                *sampling_inputs(),
                *meter_inputs(),
                *_condition_inputs(),
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
        model: ModelHandle,
        positive: list[Any],
        tokens: Tokens,
        sections: str,
        before: float,
        kept_codebooks: int,
        candidates: int,
        rounds: int,
        seed: int,
        cfg_coef: float,
        temperature: float,
        top_k: int,
        top_p: float,
        bpm: float,
        beats_per_bar: int,
        negative: list[Any] | None = None,
        melody: MelodyBatch | None = None,
        style: StyleBatch | None = None,
        codec: CodecHandle | None = None,
    ) -> io.NodeOutput:
        numbers = {"cfg_coef": cfg_coef, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        conditions = Conditions(model, positive, negative, melody, style, numbers)
        made, told = fill_tokens(
            tokens,
            conditions,
            Choice(candidates, rounds, codec, cls.hidden.unique_id),
            sections=sections,
            before=before,
            kept=kept_codebooks,
            meter=Meter(bpm, beats_per_bar),
        )
        progress.show(cls.hidden.unique_id, told)
        return io.NodeOutput(made)


class MusicGenLoop(Node):
    """Bars at a tempo -> tokens whose end flows into their beginning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenLoop",
            display_name="MusicGen Loop",
            category=CATEGORY,
            description="Samples a loop of a number of bars, exact to the sample, whose end flows into its beginning; "
            "or makes one of a piece. MusicGen EnCodec Decode decodes it without a click. Loops of one tempo and as "
            "many bars can be stacked.",
            search_aliases=["seamless loop", "looping", "sample pack", "beat loop", "game music", "stem loop"],
            inputs=[
                *_model_inputs(),
                *meter_inputs(),
                io.Float.Input(
                    "bars",
                    default=4.0,
                    min=0.25,
                    max=1000.0,
                    step=0.25,
                    tooltip=f"Number of bars. The loop must last from 1 to {MAX_SECONDS:.0f} seconds.",
                ),
                batch_size_input(),
                *choice_inputs(),
                seed_input(),
                *sampling_inputs(),
                *_condition_inputs(),
                TokensSocket.Input(
                    "tokens",
                    optional=True,
                    tooltip="A piece to make the loop of, from its first bar on, instead of a new one. Only the end of "
                    "the loop is sampled anew.",
                ),
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
        model: ModelHandle,
        positive: list[Any],
        bpm: float,
        beats_per_bar: int,
        bars: float,
        batch_size: int,
        candidates: int,
        rounds: int,
        seed: int,
        cfg_coef: float,
        temperature: float,
        top_k: int,
        top_p: float,
        negative: list[Any] | None = None,
        melody: MelodyBatch | None = None,
        style: StyleBatch | None = None,
        codec: CodecHandle | None = None,
        tokens: Tokens | None = None,
    ) -> io.NodeOutput:
        numbers = {"cfg_coef": cfg_coef, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        conditions = Conditions(model, positive, negative, melody, style, numbers)
        length, bar = read_loop(bars, Meter(bpm, beats_per_bar), model)
        choice = Choice(candidates, rounds, codec, cls.hidden.unique_id)
        made, told = loop_tokens(conditions, choice, length, bar, batch_size=batch_size, piece=tokens)
        progress.show(cls.hidden.unique_id, told)
        return io.NodeOutput(made)
