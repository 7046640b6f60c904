"""The nodes between sound and tokens."""

from __future__ import annotations

from functools import partial

import torch
from comfy_api.latest import io

from ..musicgen.audio import resampled_length
from .host import patchers, progress
from .inputs import encoded_tokens, read_audio, read_tokens
from .sockets import CATEGORY, CodecHandle, CodecSocket, Tokens, TokensSocket


class MusicGenEnCodecDecode(io.ComfyNode):
    """Tokens -> AUDIO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenEnCodecDecode",
            display_name="MusicGen EnCodec Decode",
            category=CATEGORY,
            description="Turns tokens into sound with the EnCodec decoder of the model they come from.",
            search_aliases=["encodec", "tokens to audio", "decode music", "musicgen decode"],
            inputs=[
                CodecSocket.Input("codec", tooltip="The codec of the loader whose model made the tokens."),
                TokensSocket.Input("tokens", tooltip="Tokens of MusicGen Sample Tokens or MusicGen EnCodec Encode."),
            ],
            outputs=[
                io.Audio.Output("audio", display_name="audio", tooltip="The sound, at the codec's own sample rate.")
            ],
        )

    @classmethod
    def execute(cls, codec: CodecHandle, tokens: Tokens) -> io.NodeOutput:
        codes = read_tokens(tokens, codec)
        module = codec.patcher.model
        samples = codes.shape[2] * module.config.hop_length
        report = progress.PartReporter(len(codes))
        with patchers.on_device(codec.patcher, memory_required=module.memory_required(samples), whole=True):
            rows = [
                module.decode(row, tokens["num_samples"], on_progress=partial(report, part=index)).cpu()
                for index, row in enumerate(codes.split(1))
            ]
        return io.NodeOutput({"waveform": torch.cat(rows), "sample_rate": module.sample_rate})


class MusicGenEnCodecEncode(io.ComfyNode):
    """AUDIO -> tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenEnCodecEncode",
            display_name="MusicGen EnCodec Encode",
            category=CATEGORY,
            description="Turns sound into tokens, so that MusicGen Sample Tokens can continue a recording.",
            search_aliases=["encodec", "audio to tokens", "continue music", "audio prompt", "musicgen encode"],
            inputs=[
                CodecSocket.Input("codec", tooltip="The codec of the loader whose model shall continue the sound."),
                io.Audio.Input(
                    "audio",
                    tooltip="Mono or stereo of any sample rate; it is resampled and mixed to what the codec needs.",
                ),
            ],
            outputs=[
                TokensSocket.Output(
                    "tokens",
                    display_name="tokens",
                    tooltip="The sound as tokens, for prompt or for MusicGen EnCodec Decode.",
                )
            ],
        )

    @classmethod
    def execute(cls, codec: CodecHandle, audio: io.Audio.Type) -> io.NodeOutput:
        waveform, sample_rate = read_audio(audio)
        module = codec.patcher.model
        samples = resampled_length(waveform.shape[2], sample_rate, module.sample_rate)
        report = progress.PartReporter(len(waveform))
        with patchers.on_device(codec.patcher, memory_required=module.memory_required(samples), whole=True):
            rows = [
                module.encode(row, sample_rate, on_progress=partial(report, part=index)).cpu()
                for index, row in enumerate(waveform.split(1))
            ]
        return io.NodeOutput(encoded_tokens(torch.cat(rows), codec, samples))
