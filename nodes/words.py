"""The node that writes tempo and key into a description."""

from __future__ import annotations

from comfy_api.latest import io

from ..musicgen.notation.wording import KEYS, with_tempo_and_key
from .host import progress
from .host.telling import Node
from .inputs.widgets import bpm_input
from .sockets import CATEGORY

ANY = "any"


class MusicGenTempoKey(Node):
    """Description, tempo and key -> a description with the words that models know."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenTempoKey",
            display_name="MusicGen Tempo and Key",
            category=CATEGORY,
            description="Writes a tempo and a key into a description, in the words that MusicGen was trained on. "
            "MusicGen Rank measures both and puts the pieces first that keep them.",
            search_aliases=["bpm", "tempo", "key", "scale", "c major", "prompt"],
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="Describe the music without its tempo and its key.",
                ),
                bpm_input("The tempo. 0 names none.", low=0.0, step=1.0),
                io.Combo.Input("key", options=[ANY, *KEYS], default=ANY, tooltip="The key. any names none."),
            ],
            outputs=[
                io.String.Output("text", display_name="text", tooltip="The description, for MusicGen Text Encode."),
                io.Float.Output("bpm", display_name="bpm", tooltip="The tempo, for MusicGen Duration."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, text: str, bpm: float, key: str) -> io.NodeOutput:
        words = with_tempo_and_key(text, bpm or None, None if key == ANY else key)
        progress.show(cls.hidden.unique_id, words)
        return io.NodeOutput(words, bpm)
