"""Audio as tensors: checks, channel conversion, resampling. No files, no models."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from .environment import imported

_MAX_RATIO_TERM = 2000


def check_audio(audio: Tensor, sample_rate: int, what: str = "audio") -> Tensor:
    """Return audio `[B, C, L]` as float32.

    Args:
        audio: `[B, C, L]` in any dtype.
        sample_rate: samples per second.
        what: the name of the audio in an error.

    Raises:
        ValueError: the audio has another shape, no samples, NaN or infinite samples, or a sample rate
            below 1.
    """
    if audio.dim() != 3:
        raise ValueError(f"{what} has shape {list(audio.shape)}; allowed is [batch, channels, samples].")
    if audio.shape[0] == 0 or audio.shape[1] == 0 or audio.shape[2] == 0:
        raise ValueError(f"{what} is empty: its shape is {list(audio.shape)}; give at least one sample of sound.")
    if sample_rate < 1:
        raise ValueError(f"{what} has a sample rate of {sample_rate}; allowed is 1 or more samples per second.")
    audio = audio.to(torch.float32)
    if not bool(torch.isfinite(audio).all()):
        raise ValueError(f"{what} holds NaN or infinite samples; only finite samples are allowed, so repair it first.")
    return audio


def convert_channels(audio: Tensor, channels: int) -> Tensor:
    """Convert audio `[B, C, L]` to another number of channels, each of them the average of the given ones.

    >>> convert_channels(torch.tensor([[[1.0], [3.0]]]), 1)
    tensor([[[2.]]])
    """
    if audio.shape[1] == channels:
        return audio
    return audio.mean(dim=1, keepdim=True).expand(-1, channels, -1)


def resample(audio: Tensor, sample_rate: int, to_rate: int) -> Tensor:
    """Resample `[..., L]` by a windowed sinc, as wide as the filter that made MusicGen's training data.

    A ratio of the two rates with a term above 2000 is rounded, by less than a cent of pitch, since the
    filter's table grows with the product of the terms.

    Raises:
        ValueError: the sample rate is too low for the rate to resample to.
    """
    sample_rate, to_rate = int(sample_rate), int(to_rate)
    if sample_rate == to_rate:
        return audio
    functional = imported("torchaudio.functional")
    ratio = Fraction(sample_rate, to_rate)
    if max(ratio.numerator, ratio.denominator) > _MAX_RATIO_TERM:
        larger = max(1.0, sample_rate / to_rate)
        ratio = ratio.limit_denominator(max(1, int(_MAX_RATIO_TERM / larger)))
    if ratio == 0:
        raise ValueError(f"audio has a sample rate of {sample_rate}, too low to be resampled to {to_rate}.")
    if ratio == 1:
        return audio
    return functional.resample(audio, ratio.numerator, ratio.denominator, lowpass_filter_width=24, rolloff=0.945)


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
