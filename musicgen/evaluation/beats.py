"""Beats: where a listener would tap, by dynamic programming (Ellis 2007, "Beat tracking by dynamic programming")."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .rhythm import ENVELOPE_RATE, onset_autocorrelation, onset_envelope

_TIGHTNESS = 100.0
"""Cost of a step between beats, times the square of the logarithm of its length in beats."""
_FAINTEST = 1e-3
"""Onsets below this, in nepers, are noise."""
_FASTEST, _USUAL, _SPREAD = 240.0, 120.0, 0.9
"""Tempi in beats per minute, and the standard deviation of the tempi that people tap, in octaves."""
_SHORTEST = 2.0
"""Seconds of sound below which no tempo can be told."""


def beat_times(audio: Tensor, sample_rate: int, bpm: float | None = None) -> tuple[Tensor, float]:
    """Find the beats of a mono sound.

    Args:
        audio: `[L]`.
        sample_rate: samples per second.
        bpm: the tempo if it is known; else the one that fits the onsets best.

    Returns:
        The beats in seconds, float64 `[N]`, and the tempo in beats per minute; none and 0 for a sound without onsets.

    Raises:
        ValueError: the tempo is not above 0.
    """
    if bpm is not None and not bpm > 0:
        raise ValueError(f"bpm is {bpm:g}; allowed is above 0.")
    if len(audio) < _SHORTEST * sample_rate:
        return torch.zeros(0, dtype=torch.float64), 0.0
    envelope = onset_envelope(audio[None], sample_rate)[0].numpy().astype(np.float64)
    if envelope.max() < _FAINTEST:
        return torch.zeros(0, dtype=torch.float64), 0.0
    if bpm is None:
        bpm = _tapped(onset_autocorrelation(audio[None], sample_rate)[0])
    period = 60.0 * ENVELOPE_RATE / bpm
    places = _tracked(envelope / max(float(envelope.std()), 1e-9), period)
    # A frame of the envelope rises from the one before it to the one after it, so its onset lies a frame later.
    beats = torch.tensor((places + 1) / ENVELOPE_RATE, dtype=torch.float64)
    if len(beats) > 2:
        bpm = 60.0 * (len(beats) - 1) / float(beats[-1] - beats[0])
    return beats, bpm


def _tapped(curve: Tensor) -> float:
    """The tempo that a listener would tap to: strong after one beat and after two, and near 120 beats per minute."""
    lags = torch.arange(round(60 * ENVELOPE_RATE / _FASTEST), len(curve) // 2)
    prior = torch.exp(-0.5 * (torch.log2(lags / (60 * ENVELOPE_RATE / _USUAL)) / _SPREAD) ** 2)
    near = torch.stack([curve[lags - 1], curve[lags], curve[lags + 1]]).amax(dim=0)
    twice = torch.stack([curve[2 * lags - 1], curve[2 * lags]]).amax(dim=0)
    return 60.0 * ENVELOPE_RATE / float(lags[int(((near + twice) * prior).argmax())])


def _tracked(envelope: np.ndarray, period: float) -> np.ndarray:
    """The frames of the envelope `[F]` that the best chain of beats passes."""
    width = max(1, round(period / 32))
    window = np.exp(-0.5 * (np.arange(-3 * width, 3 * width + 1) / width) ** 2)
    local = np.convolve(envelope, window / window.sum(), mode="same")
    # Each beat adds its onset to the best chain that ends half a beat to two beats earlier.
    steps = np.arange(max(1, round(period / 2)), round(2 * period) + 1)
    cost = _TIGHTNESS * np.log(steps / period) ** 2
    total, before = local.copy(), np.full(len(local), -1)
    for place in range(steps[0], len(local)):
        reach = steps[: np.searchsorted(steps, place, side="right")]
        chains = total[place - reach] - cost[: len(reach)]
        best = int(chains.argmax())
        if chains[best] > 0:
            total[place] += chains[best]
            before[place] = place - reach[best]
    # The last beat is the best end of a chain within the last beat of the sound.
    last = max(0, len(local) - round(period))
    place = last + int(total[last:].argmax())
    places = []
    while place >= 0:
        places.append(place)
        place = int(before[place])
    found = np.array(places[::-1])
    # Beats before the first onset and after the last one are silence.
    loud = np.flatnonzero(local[found] > 0.1 * local[found].max())
    return found[loud[0] : loud[-1] + 1]
