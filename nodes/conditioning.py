"""The nodes that make conditions: a description, a melody, a style."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..musicgen.conditioning.melody import extract_melody
from ..musicgen.images import chroma_image
from .host import patchers
from .host.telling import Node
from .inputs.conditions import style_of
from .inputs.sound import read_audio
from .inputs.texts import encode_texts
from .sockets import (
    CATEGORY,
    MAX_HEARD_SECONDS,
    MelodyBatch,
    MelodySocket,
    ModelHandle,
    ModelSocket,
    StyleBatch,
    StyleSocket,
    TextEncoderHandle,
    TextEncoderSocket,
)


class MusicGenTextEncode(Node):
    """A description -> native CONDITIONING: raw T5 states and their mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenTextEncode",
            display_name="MusicGen Text Encode",
            category=CATEGORY,
            essentials_category="Audio",
            description="Encodes a description of music into conditioning for MusicGen Sample Tokens. The core nodes "
            "Conditioning (Average), (Combine), (Concat), Zero Out and SetTimestepRange work on it.",
            search_aliases=[
                "music",
                "music prompt",
                "describe music",
                "text to music",
                "song",
                "beat",
                "instrumental",
                "sound effect",
                "sfx",
                "t5 encode",
            ],
            inputs=[
                TextEncoderSocket.Input("text_encoder", tooltip="The text encoder, from MusicGen Loader."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="Describe the music: genre, instruments, mood, tempo. An empty text, or one of white "
                    "space, is no description. (drums:1.4) gives words more weight.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning",
                    display_name="conditioning",
                    tooltip="The encoded description, for positive or negative of MusicGen Sample Tokens.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, text_encoder: TextEncoderHandle, text: str) -> io.NodeOutput:
        return io.NodeOutput(encode_texts(text_encoder, [text], cls.hidden.unique_id)[0])


class MusicGenMelodyChroma(Node):
    """AUDIO -> the melody in it, and a picture of it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenMelodyChroma",
            display_name="MusicGen Melody Chroma",
            category=CATEGORY,
            description="Extracts the melody of a recording: the loudest of the twelve pitch classes in each frame. "
            "Melody models follow it. A recording without drums and bass gives the cleanest melody.",
            search_aliases=["melody to music", "hum", "humming", "whistle", "sing", "tune", "cover song", "chromagram"],
            inputs=[
                io.Audio.Input(
                    "audio",
                    tooltip="A hummed, sung or played melody of any sample rate and any number of channels, up to 300 "
                    "seconds. A melody shorter than the piece repeats.",
                )
            ],
            outputs=[
                MelodySocket.Output(
                    "melody",
                    display_name="melody",
                    tooltip="The melody, for MusicGen Sample Tokens with a melody model.",
                ),
                io.Image.Output(
                    "chromagram",
                    display_name="chromagram",
                    tooltip="A picture of the melody: time runs to the right, pitch classes rise from C.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, audio: io.Audio.Type) -> io.NodeOutput:
        waveform, sample_rate = read_audio(audio, cls.hidden.unique_id, MAX_HEARD_SECONDS)
        items = tuple(extract_melody(item, sample_rate) for item in waveform)
        images = torch.stack([chroma_image(item.chroma) for item in items])
        return io.NodeOutput(MelodyBatch(items), images)


class MusicGenStyle(Node):
    """AUDIO -> its style, as tokens for a style model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenStyle",
            display_name="MusicGen Style",
            category=CATEGORY,
            description="Encodes the style of a recording, from an excerpt of a few seconds, for music of the same "
            "kind with other notes. Only for musicgen-style and models made from it. Meta's weights are licensed "
            "CC-BY-NC 4.0: no commercial use.",
            search_aliases=["style transfer", "audio reference", "reference track", "sound like", "similar"],
            inputs=[
                ModelSocket.Input("model", tooltip="A style model, from MusicGen Loader."),
                io.Audio.Input(
                    "audio",
                    tooltip="A recording in the style that the music will take up, of any sample rate and any number "
                    "of channels, at least as long as the excerpt.",
                ),
                io.Float.Input(
                    "excerpt_length",
                    display_name="excerpt length (s)",
                    default=3.0,
                    min=1.5,
                    max=4.5,
                    step=0.1,
                    tooltip="Length of the excerpt in seconds.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Chooses the start of the excerpt. To choose it yourself, cut the recording to the length "
                    "of the excerpt with Trim Audio Duration.",
                ),
                io.Int.Input(
                    "eval_q",
                    display_name="style detail (eval_q)",
                    default=3,
                    min=1,
                    max=6,
                    optional=True,
                    advanced=True,
                    tooltip="Number of codebooks for the style. With fewer, the music keeps less of the recording and "
                    "has more freedom.",
                ),
            ],
            outputs=[
                StyleSocket.Output(
                    "style", display_name="style", tooltip="The style, for MusicGen Sample Tokens with the same model."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model: ModelHandle, audio: io.Audio.Type, excerpt_length: float, seed: int, eval_q: int | None = None
    ) -> io.NodeOutput:
        waveform, sample_rate = read_audio(audio, cls.hidden.unique_id, MAX_HEARD_SECONDS)
        style = style_of(model)
        conditioner = style.patcher.model
        with patchers.on_device(style.patcher, memory_required=conditioner.memory_required(excerpt_length), whole=True):
            items = tuple(
                conditioner.encode(
                    item, sample_rate, excerpt_length=excerpt_length, seed=seed + index, eval_q=eval_q
                ).cpu()
                for index, item in enumerate(waveform)
            )
        return io.NodeOutput(StyleBatch(items, style.fingerprint, model.name))
