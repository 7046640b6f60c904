"""AUDIO values from the sockets, checked and put into the library's terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...musicgen.audio import as_audio, check_audio, check_rate, describe_downmix, downmix, shown
from ..host import progress
from ..sockets import MAX_SECONDS


def read_audio(audio: Any, node_id: str | None = None, max_seconds: float = MAX_SECONDS) -> tuple[Tensor, int]:
    """An AUDIO value -> waveform float32 [B, C, L] with C of 1 or 2, and its sample rate.

    Surround sound is mixed to stereo, and the node says so.
    """
    if audio is None:
        raise ValueError(
            "the audio is None, as from a video without sound; connect a node that gives sound, such as Load Audio."
        )
    waveform, rate = field(audio, "waveform"), check_rate(field(audio, "sample_rate"), "the audio")
    waveform = as_audio(waveform, "the audio's waveform")
    if waveform.dim() == 3 and waveform.shape[2] > max_seconds * rate:
        raise ValueError(
            f"the audio is {waveform.shape[2] / rate:.0f} seconds long; allowed are {max_seconds:.0f} seconds, "
            "so cut it first, for example with Trim Audio Duration."
        )
    waveform = check_audio(waveform, rate, "the audio's waveform")
    if waveform.shape[1] > 2:
        progress.show(node_id, describe_downmix(waveform.shape[1]))
    return downmix(waveform), rate


def field(audio: Any, name: str) -> Any:
    """A field of an AUDIO value, which may be a dict or a mapping that reads its file only now."""
    try:
        value = audio[name]
    except (KeyError, TypeError, IndexError, AttributeError):
        value = None
    if value is None:
        is_dict = isinstance(audio, Mapping)
        arrived = f"holds {', '.join(map(str, audio)) or 'nothing'}" if is_dict else f"is {shown(audio)}"
        raise ValueError(
            f"the audio {arrived} and has no {name}; allowed is a dict with a waveform [batch, channels, samples] "
            "and a sample_rate, so connect the AUDIO output of a node such as Load Audio."
        )
    return value
