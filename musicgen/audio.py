"""Audio as tensors: checks, channel conversion, resampling. No files, no models."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .environment import imported

MAX_CHANNELS = 32
"""Most channels allowed; a tensor with more most likely has time and channels swapped."""
_HIGHEST_PEAK = 100.0
"""40 dB beyond full scale; larger floats are whole-number samples that were not scaled."""
_SCALED_BITS = (8, 16, 32)
_MAX_RATIO_TERM = 2000
_LOWPASS_WIDTH = 24

_HALF, _ROOT_HALF = 0.5, 0.5**0.5
# The weight of each channel in the left channel of a stereo mix (ITU-R BS.775, table 2; mirrored for the right one), in
# the channel order of WAV and FLAC files. The low-frequency channel has no part in it.
_LEFT: dict[int, tuple[str, tuple[float, ...]]] = {
    3: ("3.0", (1, 0, _ROOT_HALF)),
    4: ("quadraphonic", (1, 0, _ROOT_HALF, 0)),
    5: ("5.0", (1, 0, _ROOT_HALF, _ROOT_HALF, 0)),
    6: ("5.1", (1, 0, _ROOT_HALF, 0, _ROOT_HALF, 0)),
    7: ("6.1", (1, 0, _ROOT_HALF, 0, _HALF, _ROOT_HALF, 0)),
    8: ("7.1", (1, 0, _ROOT_HALF, 0, _ROOT_HALF, 0, _ROOT_HALF, 0)),
}
_PAIRS = {3: [(0, 1)], 4: [(0, 1), (2, 3)], 5: [(0, 1), (3, 4)], 6: [(0, 1), (4, 5)], 7: [(0, 1), (5, 6)]}
_PAIRS[8] = [(0, 1), (4, 5), (6, 7)]


def as_tensor(value: Any, name: str, allowed: str) -> Tensor:
    """Return a tensor or a NumPy array as a tensor.

    Args:
        value: an argument of any type.
        name: the argument's name, for an error.
        allowed: the end of the error's sentence: the allowed values, and a remedy.

    Raises:
        ValueError: the value is neither a tensor nor an array of numbers; the message shows it.
    """
    if isinstance(value, Tensor):
        return value
    if hasattr(value, "__array__") and hasattr(value, "dtype") and value.dtype.kind in "iuf":
        import numpy as np

        array = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    raise ValueError(f"{name} is {shown(value)}; allowed is {allowed}.")


def as_audio(audio: Any, name: str = "audio") -> Tensor:
    """Return audio as a tensor; see :func:`as_tensor`."""
    return as_tensor(
        audio,
        name,
        "a tensor [batch, channels, samples] or a NumPy array of that shape, so read a file first, for example with "
        "torchaudio.load or soundfile.read",
    )


def shown(value: Any) -> str:
    """Return a value and its type as text for an error; long values are cut.

    >>> shown("song.wav")
    "'song.wav' (str)"
    """
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def check_audio(audio: Any, sample_rate: Any, name: str = "audio") -> Tensor:
    """Return audio `[B, C, L]` as float32.

    Whole numbers of 8, 16 or 32 bits, as in files, are scaled to the range -1 to 1.

    Args:
        audio: a tensor or a NumPy array `[B, C, L]`.
        sample_rate: samples per second.
        name: the argument's name, for an error.

    Raises:
        ValueError: the type, shape or sample rate is not allowed; there are no samples, or NaN or infinite ones; or
            the full scale is unknown, as for whole numbers of 64 bits and for floats far beyond 1.
    """
    audio = as_audio(audio, name)
    _check_shape(audio.shape, name)
    check_rate(sample_rate, name)
    if audio.is_complex() or audio.dtype == torch.bool:
        raise ValueError(f"{name} holds {audio.dtype}; allowed are floats of about -1 to 1, or whole numbers.")
    audio = audio.to(torch.float32) if audio.is_floating_point() else _scaled(audio, name)
    lowest, highest = (float(end) for end in torch.aminmax(audio))
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise ValueError(f"{name} holds NaN or infinite samples; only finite samples are allowed, so repair it first.")
    if max(-lowest, highest) > _HIGHEST_PEAK:
        raise ValueError(
            f"{name} runs from {lowest:g} to {highest:g}; allowed are floats of about -1 to 1, so divide samples of 16 "
            "bits by 32768 first."
        )
    return audio


def _check_shape(shape: torch.Size, name: str) -> None:
    if len(shape) != 3:
        raise ValueError(f"{name} has shape {list(shape)}; allowed is [batch, channels, samples].")
    if 0 in shape:
        raise ValueError(f"{name} is empty: its shape is {list(shape)}; give at least one sample of sound.")
    if shape[1] > MAX_CHANNELS:
        raise ValueError(
            f"{name} has {shape[1]} channels of {shape[2]} samples; allowed is [batch, channels, samples] with at most "
            f"{MAX_CHANNELS} channels, so swap time and channels first with .transpose(-1, -2)."
        )


def check_rate(sample_rate: Any, name: str = "audio") -> int:
    """Return a sample rate as an int.

    Raises:
        ValueError: the rate is no whole number of at least 1.
    """
    try:
        rate = None if isinstance(sample_rate, str | bytes | bool) else int(sample_rate)
    except (TypeError, ValueError, OverflowError):
        rate = None
    if rate is None or rate != sample_rate:
        raise ValueError(
            f"{name} has a sample_rate of {shown(sample_rate)}; allowed is a whole "
            "number of samples per second, such as 44100."
        )
    if rate < 1:
        raise ValueError(f"{name} has a sample rate of {rate}; allowed is 1 or more samples per second.")
    return rate


def _scaled(audio: Tensor, name: str) -> Tensor:
    """Scale whole-number samples to float32 in the range -1 to 1."""
    bits = torch.iinfo(audio.dtype).bits
    if bits not in _SCALED_BITS:
        raise ValueError(
            f"{name} holds whole numbers of {bits} bits, whose full scale is unknown; allowed are floats of about "
            "-1 to 1, and whole numbers of 8, 16 or 32 bits."
        )
    full_scale = float(1 << bits - 1)
    middle = full_scale if torch.iinfo(audio.dtype).min == 0 else 0.0
    wide = torch.float64 if bits == 32 else torch.float32
    return ((audio.to(wide) - middle) / full_scale).to(torch.float32)


def describe_downmix(channels: int) -> str:
    """Describe in a sentence how :func:`downmix` mixes a number of channels.

    >>> describe_downmix(6)
    '5.1 sound was mixed to stereo by ITU-R BS.775.'
    """
    if channels in _LEFT:
        return f"{_LEFT[channels][0]} sound was mixed to stereo by ITU-R BS.775."
    return f"Sound of {channels} channels, which have no standard order, was averaged."


def downmix(audio: Tensor) -> Tensor:
    """Mix audio `[B, C, L]` with three or more channels to stereo `[B, 2, L]`; mono and stereo stay unchanged.

    Three to eight channels must have the order of WAV and FLAC files (front, centre, low frequencies, surround). They
    are mixed with the coefficients of ITU-R BS.775, and an item whose mix exceeds full scale is lowered to it. More
    channels have no standard order and are averaged.
    """
    channels = audio.shape[1]
    if channels <= 2:
        return audio
    if channels not in _LEFT:
        return audio.mean(dim=1, keepdim=True).expand(-1, 2, -1)
    left = torch.tensor(_LEFT[channels][1], dtype=audio.dtype, device=audio.device)
    mirror = list(range(channels))
    for first, second in _PAIRS[channels]:
        mirror[first], mirror[second] = second, first
    mix = torch.stack([left, left[mirror]]) @ audio  # [2, C] @ [B, C, L] -> [B, 2, L]
    peak = mix.abs().flatten(1).amax(dim=1)
    return mix / peak.clamp(min=1.0)[:, None, None]


def convert_channels(audio: Tensor, channels: int) -> Tensor:
    """Convert audio `[B, C, L]` to 1 or 2 channels by mixing it to stereo, averaging, or copying the mono channel.

    >>> convert_channels(torch.tensor([[[1.0], [3.0]]]), 1)
    tensor([[[2.]]])
    """
    if audio.shape[1] == channels:
        return audio
    audio = downmix(audio)
    if audio.shape[1] == channels:
        return audio
    return audio.mean(dim=1, keepdim=True).expand(-1, channels, -1)


def resample(audio: Tensor, sample_rate: int, to_rate: int) -> Tensor:
    """Resample `[..., L]` by a windowed sinc, as wide as the filter that made MusicGen's training data.

    The first and the last sample continue beyond the ends of the recording, as in that filter, so that an excerpt
    begins and ends without a click. A ratio of the two rates with a term above 2000 is rounded, by less than a cent of
    pitch, since the filter's table grows with the product of the terms.

    Raises:
        ValueError: the sample rate is too low for the rate to resample to.
    """
    sample_rate, to_rate = int(sample_rate), int(to_rate)
    if sample_rate == to_rate:
        return audio
    from fractions import Fraction  # brings decimal, a tenth of the library's own import

    functional = imported("torchaudio.functional")
    ratio = Fraction(sample_rate, to_rate)
    if max(ratio.numerator, ratio.denominator) > _MAX_RATIO_TERM:
        larger = max(1.0, sample_rate / to_rate)
        ratio = ratio.limit_denominator(max(1, int(_MAX_RATIO_TERM / larger)))
    if ratio == 0:
        raise ValueError(f"audio has a sample rate of {sample_rate}, too low to be resampled to {to_rate}.")
    if ratio == 1:
        return audio
    # torchaudio pads with silence, so extend both ends by the filter's reach first, in whole steps of the ratio.
    reach = math.ceil(_LOWPASS_WIDTH * max(1.0, sample_rate / to_rate) / 0.945) + 1
    steps = -(-reach // ratio.numerator)
    before, after = (
        edge.expand(*audio.shape[:-1], steps * ratio.numerator) for edge in (audio[..., :1], audio[..., -1:])
    )
    out = functional.resample(
        torch.cat([before, audio, after], dim=-1),
        ratio.numerator,
        ratio.denominator,
        lowpass_filter_width=_LOWPASS_WIDTH,
        rolloff=0.945,
    )
    length = -(-audio.shape[-1] * ratio.denominator // ratio.numerator)
    return out.narrow(-1, steps * ratio.denominator, length)


def resampled_length(num_samples: int, sample_rate: int, to_rate: int) -> int:
    """Return the number of samples at another rate, rounded up.

    >>> resampled_length(44101, 44100, 32000)
    32001
    """
    return -(-num_samples * to_rate // sample_rate)


def mel_filter_bank(sample_rate: int, n_fft: int, num_mels: int) -> Tensor:
    """Return triangular filters `[num_mels, n_fft // 2 + 1]`, evenly spaced on the mel scale up to half the rate."""
    top = 2595.0 * math.log10(1.0 + sample_rate / 2 / 700.0)
    edges = 700.0 * (10 ** (torch.linspace(0.0, top, num_mels + 2, dtype=torch.float64) / 2595.0) - 1.0)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft
    # Make no triangle narrower than the distance of two bins, or it might contain no bin.
    width = torch.clamp(edges[1:] - edges[:-1], min=sample_rate / n_fft)
    centre = edges[1:-1, None]
    rising = 1.0 - (centre - bins) / width[:-1, None]
    falling = 1.0 - (bins - centre) / width[1:, None]
    return torch.minimum(rising, falling).clamp_min(0.0).to(torch.float32)
