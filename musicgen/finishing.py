"""The finish of a long piece: a level that holds, a beginning and an end. Sound in, sound out; nothing is sampled."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .loudness import integrated_loudness

STRETCH = 10.0
"""Seconds of a stretch whose loudness is held."""
MOST_DB = 6.0
"""The largest gain of :func:`hold_level`, up or down."""
_QUIET = -50.0


def level_gains(audio: Tensor, sample_rate: int, seconds: float = STRETCH) -> Tensor:
    """Return the gain in dB that brings each stretch of a sound to the loudness of the first: `[stretches]`.

    A stretch far quieter than the first is a pause, not a drift, and gets the gain of the one before it.

    Args:
        audio: `[C, L]`, mono or stereo.
        sample_rate: samples per second.
        seconds: length of a stretch; the last one may be shorter.
    """
    size = max(1, round(seconds * sample_rate))
    stretches = [part for part in audio.split(size, dim=1) if part.shape[1] >= min(size, audio.shape[1]) // 2]
    levels = [float(integrated_loudness(part[None], sample_rate)) for part in stretches]
    gains: list[float] = []
    for level in levels:
        wanted = levels[0] - level
        fits = math.isfinite(wanted) and level > _QUIET and abs(wanted) <= 2 * MOST_DB
        gains.append(min(MOST_DB, max(-MOST_DB, wanted)) if fits else gains[-1] if gains else 0.0)
    return torch.tensor(gains)


def hold_level(audio: Tensor, sample_rate: int, seconds: float = STRETCH) -> Tensor:
    """Return a sound `[C, L]` whose loudness stays near that of its first stretch.

    The gain goes evenly from the middle of one stretch to the middle of the next, so that nothing inside a stretch
    is compressed; see :func:`level_gains`.
    """
    gains, size = level_gains(audio, sample_rate, seconds), max(1, round(seconds * sample_rate))
    if not bool(gains.any()):
        return audio
    # [stretches] -> [L]: linear in dB between the middles, level beyond the first and the last one.
    place = (torch.arange(audio.shape[1], dtype=torch.float64) / size - 0.5).clamp(0, len(gains) - 1)
    low = place.floor().long().clamp_max(max(0, len(gains) - 2))
    high = (low + 1).clamp_max(len(gains) - 1)
    curve = torch.lerp(gains[low].double(), gains[high].double(), place - low)
    return audio * (10 ** (curve / 20)).to(audio.dtype)


def fade(audio: Tensor, sample_rate: int, *, beginning: float = 0.0, ending: float = 0.0) -> Tensor:
    """Return a sound `[..., L]` that grows out of silence and ends in it, along half a cosine.

    >>> fade(torch.ones(1, 4), sample_rate=1, ending=2.0)
    tensor([[1.0000, 1.0000, 0.8536, 0.1464]])

    Args:
        audio: `[..., L]`.
        sample_rate: samples per second.
        beginning: seconds of the beginning; at most half of the sound.
        ending: seconds of the end; at most half of the sound.

    Raises:
        ValueError: a length is negative.
    """
    if beginning < 0 or ending < 0:
        raise ValueError(f"fades are {beginning:g} and {ending:g} s long; allowed are 0, for none, and more.")
    length = audio.shape[-1]
    up, down = (min(round(each * sample_rate), length // 2) for each in (beginning, ending))
    if not up and not down:
        return audio
    curve = F.pad(_slope(up, audio), (0, length - up), value=1.0) * F.pad(
        _slope(down, audio).flip(0), (length - down, 0), value=1.0
    )
    return audio * curve


def _slope(count: int, like: Tensor) -> Tensor:
    """Half a cosine from 0 to 1 in `count` samples, which are the middles of as many steps."""
    place = (torch.arange(count, dtype=torch.float64) + 0.5) / max(count, 1)
    return (0.5 - 0.5 * torch.cos(math.pi * place)).to(like)
