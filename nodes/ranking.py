"""The node that sorts a batch by how well each piece does what was asked."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..musicgen.evaluation.asked import KEY_NAMES
from .host import blocking, previews, progress
from .host.telling import Node
from .inputs.batches import pick_audio, pick_tokens
from .inputs.ranking import AS_DESCRIBED, draw_ranking, read_ranking
from .inputs.widgets import bpm_input
from .sockets import CATEGORY, MelodyBatch, MelodySocket, Tokens, TokensSocket


class MusicGenRank(Node):
    """A batch -> the batch from the best piece to the worst, or its best pieces."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenRank",
            display_name="MusicGen Rank",
            category=CATEGORY,
            description="Sorts a batch from the best piece to the worst and keeps as many as you want: by tempo, key, "
            "melody and description. Silent, stuck and clipped pieces come last.",
            search_aliases=["best of n", "best of four", "sort batch", "clap score", "choose best", "rerank", "filter"],
            inputs=[
                io.Audio.Input(
                    "audio", tooltip="A batch of sound, from MusicGen EnCodec Decode, up to 300 seconds a piece."
                ),
                io.Int.Input(
                    "keep",
                    display_name="pieces to keep (keep)",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Number of pieces to pass on, the best ones. 0 passes on all, sorted.",
                ),
                TokensSocket.Input(
                    "tokens",
                    optional=True,
                    tooltip="The tokens of the same batch. They are sorted alike, tell the description, and show "
                    "pieces that repeat themselves without end.",
                ),
                MelodySocket.Input(
                    "melody", optional=True, tooltip="The melody that the pieces should follow, one or one for each."
                ),
                io.String.Input(
                    "caption",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Description of the music. Where it is empty, the one that the tokens were sampled from. "
                    "It counts by its tempo and its key, and by CLAP where CLAP's weights are in "
                    "models/audio_encoders.",
                ),
                bpm_input(
                    "The tempo that the pieces should have. 0 takes it from the description, if that names "
                    "one, as in 120 bpm.",
                    default=0.0,
                    low=0.0,
                    high=300.0,
                    optional=True,
                ),
                io.Combo.Input(
                    "key",
                    options=[AS_DESCRIBED, *KEY_NAMES],
                    default=AS_DESCRIBED,
                    optional=True,
                    tooltip=f"The key that the pieces should have. {AS_DESCRIBED}: from the description, if that "
                    "names one, as in A minor.",
                ),
            ],
            outputs=[
                TokensSocket.Output(
                    "tokens", display_name="tokens", tooltip="The tokens, the best piece first. Needs tokens."
                ),
                io.Audio.Output("audio", display_name="audio", tooltip="The sound, the best piece first."),
                io.Image.Output("picture", display_name="picture", tooltip="A table of the scores, the best on top."),
                io.Float.Output(
                    "scores",
                    display_name="scores",
                    is_output_list=True,
                    tooltip="A list with the score of each piece that is passed on, 0 to 1.",
                ),
                io.String.Output("figures", display_name="figures", tooltip="A line for each piece, the best first."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        audio: dict[str, Any],
        keep: int,
        tokens: Tokens | None = None,
        melody: MelodyBatch | None = None,
        caption: str = "",
        bpm: float = 0.0,
        key: str = AS_DESCRIBED,
    ) -> io.NodeOutput:
        ranked, notes = read_ranking(audio, tokens, melody, caption, bpm, key, cls.hidden.unique_id)
        text, image = "\n".join([ranked.text(), *notes]), draw_ranking(ranked)
        progress.show(cls.hidden.unique_id, text)
        items = list(ranked.order[: keep or None])
        missing = "MusicGen Rank has no tokens to sort; connect the tokens of the batch to it."
        return io.NodeOutput(
            blocking.blocked(missing) if tokens is None else pick_tokens(tokens, items),
            pick_audio(audio, items),
            image,
            [ranked.scores[item] for item in items],
            text,
            ui=previews.pictures(image, cls),
        )
