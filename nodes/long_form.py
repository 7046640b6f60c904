"""The node that says how a piece longer than the model's window is made."""

from __future__ import annotations

from comfy_api.latest import io

from .host.telling import Node
from .inputs.long_form import ENDINGS, OPEN, read_long_form
from .inputs.widgets import beats_per_bar_input, bpm_input
from .sockets import CATEGORY, LongFormSocket


class MusicGenLongForm(Node):
    """Windows, guard, beginning and end -> MUSICGEN_LONG_FORM."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenLongForm",
            display_name="MusicGen Long Form",
            category=CATEGORY,
            description="Lets a piece of several windows hold together: windows that drift away from the first one "
            "are drawn again. Connect it to MusicGen Sample Tokens, and to MusicGen EnCodec Decode for an even level, "
            "fades and the end.",
            search_aliases=["long music", "minutes", "window", "overlap", "drift", "fade out", "outro", "ending"],
            inputs=[
                io.Int.Input(
                    "tries",
                    default=4,
                    min=1,
                    max=16,
                    tooltip="How often a window is drawn at most. Only windows beyond the tolerance are drawn again, "
                    "and the best try stays. 1 measures the drift and draws nothing again.",
                ),
                io.Float.Input(
                    "tolerance",
                    default=1.0,
                    min=0.1,
                    max=10.0,
                    step=0.1,
                    tooltip="The drift from the first window that is near enough. 1: loudness within 2 dB, spectrum "
                    "within 3 dB, and pitch classes correlated to .85. Less holds tighter and takes more tries.",
                ),
                io.Boolean.Input(
                    "even",
                    display_name="hold the level (even)",
                    default=True,
                    tooltip="The decoder holds the loudness of each ten seconds near that of the first ten, by 6 dB at "
                    "most. Turn it off for music that should grow.",
                ),
                io.Combo.Input(
                    "ending",
                    options=list(ENDINGS),
                    default=OPEN,
                    tooltip="as it comes: the piece stops where it is. fade out: it fades. on the key note: of the "
                    "tries for the last window that are near enough, the one stays whose last second rests most on the "
                    "chord of the key, and its last part fades.",
                ),
                io.String.Input(
                    "fade_out",
                    display_name="length of the end",
                    default="4s",
                    tooltip="How long the end fades, such as 4s or 2 bars.",
                ),
                io.String.Input(
                    "fade_in",
                    display_name="length of the beginning",
                    default="0s",
                    optional=True,
                    tooltip="How long the beginning fades in, such as 2s or 1 bar. 0s: it does not.",
                ),
                io.String.Input(
                    "window",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="How much is sampled at a time, such as 20s or 8 bars. Empty: as much as the model was "
                    "trained on; more is outside of its training.",
                ),
                io.String.Input(
                    "overlap",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="How much of a window is the end of the one before it, such as 10s or 4 bars. Empty: two "
                    "fifths, or what the model's authors took.",
                ),
                bpm_input("Tempo, for lengths in bars.", optional=True, advanced=True),
                beats_per_bar_input("Beats in one bar, for lengths in bars.", optional=True, advanced=True),
            ],
            outputs=[
                LongFormSocket.Output(
                    "long_form",
                    display_name="long form",
                    tooltip="For long form of MusicGen Sample Tokens and of MusicGen EnCodec Decode.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        tries: int,
        tolerance: float,
        even: bool,
        ending: str,
        fade_out: str,
        fade_in: str = "0s",
        window: str = "",
        overlap: str = "",
        bpm: float = 120.0,
        beats_per_bar: int = 4,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            read_long_form(
                tries=tries,
                tolerance=tolerance,
                even=even,
                ending=ending,
                fade_out=fade_out,
                fade_in=fade_in,
                window=window,
                overlap=overlap,
                bpm=bpm,
                beats_per_bar=beats_per_bar,
            )
        )
