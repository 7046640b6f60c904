"""Onsets and loudness over time as curves from 0 to 1, one value for each picture of an animation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..loudness import momentary_loudness
from .rhythm import ENVELOPE_RATE, onset_envelope

RANGE_DB = 40.0
"""A loudness this far below the loudest picture, or further, is 0."""

_FLOOR = 1e-3
"""Mean rise of the mel bands, in nepers, below which an onset is noise."""


def picture_curves(
    audio: Tensor, sample_rate: int, fps: float, frames: int | None = None, *, fade: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Measure onsets and loudness of audio for each picture of an animation.

    Args:
        audio: `[C, L]`.
        sample_rate: samples per second.
        fps: pictures per second.
        frames: number of pictures; None for as many as the audio lasts.
        fade: seconds in which an onset fades to 1/e.

    Returns:
        Onsets and loudness, `[frames]` each, in 0..1; 0 beyond the end of the audio.

    Raises:
        ValueError: the rate is not above 0.
    """
    if not fps > 0:
        raise ValueError(f"fps is {fps}; allowed is above 0.")
    seconds = audio.shape[-1] / sample_rate
    count = max(1, round(seconds * fps)) if frames is None else frames
    envelope = onset_envelope(audio.mean(dim=0, keepdim=True), sample_rate)[0]
    envelope = envelope if len(envelope) else torch.zeros(1)
    heard = math.ceil(seconds * fps - 1e-9)  # pictures that begin before the sound ends
    onsets = _fading(
        _at_pictures(envelope, ENVELOPE_RATE, fps, count, heard), math.exp(-1 / (fade * fps)) if fade else 0.0
    )
    peak = onsets.max()
    onsets = onsets / peak if peak > _FLOOR else torch.zeros_like(onsets)
    power, rate = momentary_loudness(audio[None], sample_rate)
    loudness = _at_pictures(power[0].clamp_min(-200.0).float(), rate, fps, count, heard, beyond=-200.0)
    top = loudness.max()
    loudness = (1 + (loudness - top) / RANGE_DB).clamp(0, 1) if top > -70.0 else torch.zeros_like(loudness)
    return onsets, loudness


def beat_curve(beats: Tensor, fps: float, frames: int, *, fade: float = 0.0) -> Tensor:
    """Return 1 for each picture in which a beat falls, fading behind it: beats `[N]` in seconds -> `[frames]`.

    >>> beat_curve(torch.tensor([0.0, 0.5]), fps=4.0, frames=4)
    tensor([1., 0., 1., 0.])

    Args:
        beats: in seconds.
        fps: pictures per second.
        frames: number of pictures.
        fade: seconds in which a beat fades to 1/e.
    """
    curve = torch.zeros(frames)
    pictures = (beats * fps + 1e-6).long()
    curve[pictures[pictures < frames]] = 1.0
    return _fading(curve, math.exp(-1 / (fade * fps)) if fade else 0.0)


def _at_pictures(curve: Tensor, rate: float, fps: float, count: int, heard: int, beyond: float = 0.0) -> Tensor:
    """The highest value of a curve `[F]` while each of the `heard` pictures is shown, and `beyond` after: `[count]`."""
    values = torch.full((count,), beyond)
    for picture in range(min(count, heard)):
        first, last = int(picture * rate / fps), math.ceil((picture + 1) * rate / fps - 1e-9)
        first = min(first, len(curve) - 1)  # a curve ends with its last whole step
        part = curve[first : max(first + 1, last)]
        values[picture] = part.max()
    return values


def _fading(curve: Tensor, factor: float) -> Tensor:
    """Each value, or the factor times the value before where that is higher."""
    values, last = curve.tolist(), 0.0
    for index, value in enumerate(values):
        values[index] = last = max(value, last * factor)
    return torch.tensor(values)
