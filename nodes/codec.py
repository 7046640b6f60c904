"""The nodes between sound and tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..musicgen.audio import resampled_length
from ..musicgen.codec.cyclic import decode_cyclic
from ..musicgen.loudness import CEILING_DB, apply_gain, integrated_loudness, loudness_gain, unclipped_gain
from .host import patchers, previews, progress
from .host.telling import Node
from .inputs.long_form import finished
from .inputs.sound import read_audio
from .inputs.tokens import encoded_tokens, read_tokens
from .sockets import (
    CATEGORY,
    CodecHandle,
    CodecSocket,
    LongForm,
    LongFormSocket,
    PlayerSocket,
    Tokens,
    TokensSocket,
)

UNCLIPPED, AS_IT_IS, TO_LOUDNESS = "avoid clipping", "as it is", "to a loudness"
LOUDNESS = -14.0
_NAMED, _LISTED = 4, 12


class MusicGenEnCodecDecode(Node):
    """Tokens -> AUDIO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenEnCodecDecode",
            display_name="MusicGen EnCodec Decode",
            category=CATEGORY,
            essentials_category="Audio",
            description="Decodes tokens into sound with the EnCodec model that they belong to. The node plays it, the "
            "pieces of a batch one after another.",
            search_aliases=["encodec", "tokens to audio", "decode music", "normalize", "loudness", "lufs"],
            inputs=[
                CodecSocket.Input("codec", tooltip="The codec from the loader whose model made the tokens."),
                TokensSocket.Input("tokens", tooltip="Tokens from MusicGen Sample Tokens or MusicGen EnCodec Encode."),
                io.Combo.Input(
                    "level",
                    options=[UNCLIPPED, AS_IT_IS, TO_LOUDNESS],
                    default=UNCLIPPED,
                    optional=True,
                    tooltip=f"{UNCLIPPED}: an item whose peak is beyond full scale is lowered to a peak of -1 dBFS; "
                    f"every other item keeps its level. {AS_IT_IS}: nothing is changed, and saving may clip. "
                    f"{TO_LOUDNESS}: every item gets the loudness below, or as much as a peak of -1 dBFS allows.",
                ),
                io.Float.Input(
                    "loudness",
                    display_name="loudness (LUFS)",
                    default=LOUDNESS,
                    min=-60.0,
                    max=0.0,
                    step=0.5,
                    optional=True,
                    advanced=True,
                    tooltip=f"Integrated loudness after ITU-R BS.1770, for the level '{TO_LOUDNESS}'. Streaming "
                    "services play at about -14 LUFS, broadcast at -23.",
                ),
                PlayerSocket.Input("audioUI", optional=True, tooltip="Plays the sound after a run."),
                LongFormSocket.Input(
                    "long_form",
                    display_name="long form",
                    optional=True,
                    tooltip="From MusicGen Long Form: holds the level of a long piece, and fades its beginning and "
                    "its end. The level above applies afterwards.",
                ),
            ],
            outputs=[
                io.Audio.Output("audio", display_name="audio", tooltip="The sound, at the sample rate of the codec.")
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        codec: CodecHandle,
        tokens: Tokens,
        level: str = UNCLIPPED,
        loudness: float = LOUDNESS,
        long_form: LongForm | None = None,
        **_player: Any,
    ) -> io.NodeOutput:
        rate = codec.patcher.model.sample_rate
        rows = _decode(codec, read_tokens(tokens, codec), tokens["num_samples"], loop=bool(tokens.get("loop")))
        rows = [finished(row, rate, long_form) for row in rows]
        gains = _gains(rows, rate, level, loudness)
        rows = [apply_gain(row, gain) if gain else row for row, gain in zip(rows, gains, strict=True)]
        lines = [
            line for line in (_changes(rows, gains, rate, level), _order(len(rows), rows[0].shape[2] / rate)) if line
        ]
        if lines:
            progress.show(cls.hidden.unique_id, "\n".join(lines))
        audio = {"waveform": torch.cat(rows), "sample_rate": rate}
        return io.NodeOutput(audio, ui=previews.player(audio, cls))


def _decode(codec: CodecHandle, codes: Tensor, num_samples: int | None, *, loop: bool) -> list[Tensor]:
    """The sound [1, C, L] of each item of codes [B, K, T]."""
    module = codec.patcher.model
    decode = partial(decode_cyclic, module) if loop else module.decode
    memory = module.memory_required(codes.shape[2] * module.config.hop_length)
    report = progress.PartReporter(len(codes))
    with patchers.on_device(codec.patcher, memory_required=memory, whole=True):
        return [
            decode(row, num_samples, on_progress=partial(report, part=index)).cpu()
            for index, row in enumerate(codes.split(1))
        ]


def _gains(rows: list[Tensor], sample_rate: int, level: str, loudness: float) -> list[Tensor]:
    """The gain in dB [1] of each item [1, C, L]."""
    if level == TO_LOUDNESS:
        return [loudness_gain(row, sample_rate, loudness) for row in rows]
    return [unclipped_gain(row) if level == UNCLIPPED else torch.zeros(1) for row in rows]


def _changes(rows: list[Tensor], gains: list[Tensor], sample_rate: int, level: str) -> str:
    """A line that tells which items got another level, and how much; empty where none did."""
    found = []
    for number, (row, gain) in enumerate(zip(rows, gains, strict=True), start=1):
        if gain:
            item = f"item {number}: " if len(rows) > 1 else ""
            reached = f", now {integrated_loudness(row, sample_rate).item():.1f} LUFS" if level == TO_LOUDNESS else ""
            found.append(f"{item}{gain.item():+.1f} dB{reached}")
    if not found:
        return ""
    more = f"; and {len(found) - _NAMED} more items" if len(found) > _NAMED else ""
    why = "" if level == TO_LOUDNESS else f" (its peak was beyond full scale and is now at {CEILING_DB:g} dBFS)"
    return f"Level: {'; '.join(found[:_NAMED])}{more}{why}"


def _order(count: int, seconds: float) -> str:
    """A line that tells where each item begins in the player; empty for a single one."""
    if count == 1:
        return ""
    starts = previews.starts_in_a_row(count, seconds)
    times = ", ".join(f"{int(start // 60)}:{start % 60:04.1f}" for start in starts[:_LISTED])
    return f"Plays {count} pieces one after another; they begin at {times}{' ...' if count > _LISTED else ''}"


class MusicGenEnCodecEncode(Node):
    """AUDIO -> tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenEnCodecEncode",
            display_name="MusicGen EnCodec Encode",
            category=CATEGORY,
            description="Encodes sound into tokens, so that MusicGen Sample Tokens can continue a recording.",
            search_aliases=["encodec", "audio to tokens", "continue music", "extend song", "audio prompt"],
            inputs=[
                CodecSocket.Input("codec", tooltip="The codec from the loader whose model will continue the sound."),
                io.Audio.Input(
                    "audio",
                    tooltip="A recording of any sample rate and any number of channels. It is resampled, and mixed to "
                    "mono or stereo as the codec needs.",
                ),
            ],
            outputs=[
                TokensSocket.Output(
                    "tokens",
                    display_name="tokens",
                    tooltip="The sound as tokens, for prompt of MusicGen Sample Tokens or for MusicGen EnCodec Decode.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, codec: CodecHandle, audio: io.Audio.Type) -> io.NodeOutput:
        waveform, sample_rate = read_audio(audio, cls.hidden.unique_id)
        module = codec.patcher.model
        samples = resampled_length(waveform.shape[2], sample_rate, module.sample_rate)
        report = progress.PartReporter(len(waveform))
        with patchers.on_device(codec.patcher, memory_required=module.memory_required(samples), whole=True):
            rows = [
                module.encode(row, sample_rate, on_progress=partial(report, part=index)).cpu()
                for index, row in enumerate(waveform.split(1))
            ]
        return io.NodeOutput(encoded_tokens(torch.cat(rows), codec, samples))
