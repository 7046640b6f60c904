"""The node that measures a batch of sound."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..musicgen.evaluation.batch import NUMBERS, PULSE, measure_batch
from .host import previews, progress
from .host.telling import Node
from .inputs.measures import AUTO, ENCODEC, WEIGHTS, listening, read_clap, read_ears, read_sounds
from .sockets import CATEGORY, CodecHandle, CodecSocket


class MusicGenMeasure(Node):
    """AUDIO -> figures, a number for each item, and a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenMeasure",
            display_name="MusicGen Measure",
            category=CATEGORY,
            description="Measures each piece of a batch beside a reference recording and a caption, so that settings "
            "and seeds can be compared and ranked.",
            search_aliases=["evaluate", "metrics", "fad", "clap score", "rank audio", "quality score", "compare audio"],
            inputs=[
                io.Audio.Input("audio", tooltip="The pieces to measure, up to 300 seconds each."),
                io.Combo.Input(
                    "embedding",
                    options=[AUTO, ENCODEC, *WEIGHTS],
                    default=AUTO,
                    tooltip="The model that compares sounds. auto: EnCodec where a codec is connected, else the first "
                    "of clap, mert and vggish whose weights are in models/audio_encoders.",
                ),
                io.Combo.Input(
                    "number",
                    options=list(NUMBERS),
                    default=PULSE,
                    tooltip="The number of each piece that scores and ranking give. fad, likeness and chroma cosine "
                    "need a reference, CLAP score needs a caption and the weights of CLAP.",
                ),
                CodecSocket.Input(
                    "codec", optional=True, tooltip="The codec of MusicGen Loader, for EnCodec's embedding."
                ),
                io.Audio.Input(
                    "reference",
                    optional=True,
                    tooltip="One recording or a batch to compare with, up to 300 seconds each.",
                ),
                io.String.Input(
                    "caption",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="The description that the pieces follow, for the CLAP score.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "figures", display_name="figures", tooltip="The figures of the batch, then a line for each piece."
                ),
                io.Float.Output(
                    "scores",
                    display_name="scores",
                    is_output_list=True,
                    tooltip="A list with the chosen number of each piece.",
                ),
                io.String.Output(
                    "ranking",
                    display_name="ranking",
                    tooltip="Numbers of the pieces from the best to the worst, for marked of MusicGen Pick.",
                ),
                io.Image.Output(
                    "map",
                    display_name="map",
                    tooltip="A picture of the embeddings: the reference grey, each piece in a colour of its own.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        audio: dict[str, Any],
        embedding: str,
        number: str,
        codec: CodecHandle | None = None,
        reference: dict[str, Any] | None = None,
        caption: str = "",
    ) -> io.NodeOutput:
        node_id = cls.hidden.unique_id
        sounds = read_sounds(audio, node_id)
        other = None if reference is None else read_sounds(reference, node_id)
        ears = read_ears()
        clap, notes = read_clap(caption, number, ears)
        longest = max(each.audio.shape[2] / each.sample_rate for each in (sounds, other) if each is not None)
        with listening(embedding, codec, ears, longest) as listener:
            report, texts = progress.PartReporter(), [caption] if clap is not None else []
            found = measure_batch(sounds, listener=listener, reference=other, captions=texts, clap=clap, on_item=report)
        ranking = found.ranking(number)
        text = "\n".join([found.text(), *notes])
        progress.show(node_id, text)
        order = ", ".join(str(item + 1) for item in ranking)
        image = found.picture[None]
        return io.NodeOutput(text, list(found.numbers[number]), order, image, ui=previews.pictures(image, cls))
