"""The node that draws: codes, patterns, melodies and sound as pictures."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..musicgen.plots.canvas import THEMES, Look
from .host import previews
from .host.telling import Node
from .inputs.plots import PLOTS, read_plot
from .sockets import CATEGORY, MelodyBatch, MelodySocket, Tokens, TokensSocket


class MusicGenPlot(Node):
    """Tokens, a melody or AUDIO -> a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenPlot",
            display_name="MusicGen Plot",
            category=CATEGORY,
            description="Draws tokens or sound as a picture with labelled axes, one picture for each item of a batch.",
            search_aliases=[
                "spectrogram",
                "waveform",
                "chromagram",
                "piano roll",
                "visualize audio",
                "audio to image",
                "loudness curve",
                "codebooks",
            ],
            inputs=[
                io.Combo.Input(
                    "plot",
                    options=list(PLOTS),
                    default="spectrogram",
                    tooltip="codes: each codebook over time. pattern: the step that makes each code. Both need tokens. "
                    "melody: the notes as a piano roll, from a melody or from audio. spectrogram: mel bands. "
                    "waveform: with the peak level. loudness: after ITU-R BS.1770. These three need audio.",
                ),
                io.Combo.Input(
                    "theme",
                    options=list(THEMES),
                    default="dark",
                    tooltip="Dark or light background, to match ComfyUI's own colours.",
                ),
                TokensSocket.Input(
                    "tokens", optional=True, tooltip="Tokens from MusicGen Sample Tokens, for codes and pattern."
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Sound, for spectrogram, waveform, loudness, and for melody where none is connected.",
                ),
                MelodySocket.Input("melody", optional=True, tooltip="A melody from MusicGen Melody Chroma."),
                io.String.Input(
                    "title",
                    default="",
                    optional=True,
                    tooltip="Text above the picture. Where it is empty, the picture says which plot it is.",
                ),
                io.Int.Input(
                    "width",
                    default=768,
                    min=256,
                    max=4096,
                    step=8,
                    optional=True,
                    advanced=True,
                    tooltip="Width of the picture in pixels.",
                ),
                io.Int.Input(
                    "height",
                    default=384,
                    min=160,
                    max=4096,
                    step=8,
                    optional=True,
                    advanced=True,
                    tooltip="Height of the picture in pixels.",
                ),
            ],
            outputs=[io.Image.Output("image", display_name="image", tooltip="One picture for each item of the batch.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        plot: str,
        theme: str,
        tokens: Tokens | None = None,
        audio: dict[str, Any] | None = None,
        melody: MelodyBatch | None = None,
        title: str = "",
        width: int = 768,
        height: int = 384,
    ) -> io.NodeOutput:
        look = Look(theme, width, height, title)
        image = read_plot(plot, look, tokens=tokens, audio=audio, melody=melody, node_id=cls.hidden.unique_id)
        return io.NodeOutput(image, ui=previews.pictures(image, cls))
