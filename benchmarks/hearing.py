"""An ear for a benchmark of control: which of two descriptions does a second of music follow?

It knows no labels and no corpus. It listens to pieces that a model samples from either description throughout, and
learns a line between the statistics of their slices; half of these pieces are kept for its own error. So it hears
whatever tells the two apart in this model's music, and it cannot be better than the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import measuring  # noqa: F401 - puts the repository on the path
import torch
from torch import Tensor

from musicgen.evaluation.rhythm import log_mel

SLICE, HOP = 1.0, 0.25
"""Seconds of a slice, and from the start of one to the start of the next."""
_BANDS, _FRAMES, _RIDGE = 64, 100, 30.0


def slice_statistics(audio: Tensor, sample_rate: int) -> Tensor:
    """Return the statistics of the slices of audio `[N, L]`: `[N, slices, 4 * bands]`."""
    mel = log_mel(audio, sample_rate, _BANDS)  # [N, bands, frames], 100 frames a second
    slices = mel.unfold(-1, round(SLICE * _FRAMES), round(HOP * _FRAMES)).transpose(1, 2)  # [N, slices, bands, frames]
    rise = (slices[..., 2:] - slices[..., :-2]).clamp_min(0)
    parts = [slices.mean(dim=-1), slices.std(dim=-1), rise.mean(dim=-1), slices.amin(dim=-1)]
    return torch.cat(parts, dim=-1)


@dataclass(frozen=True)
class Ear:
    """A line between two descriptions. accuracy: share of slices of held-out pieces that it tells right."""

    mean: Tensor
    spread: Tensor
    weights: Tensor
    accuracy: float

    def hears(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Return whether each slice of audio `[N, L]` follows the second description: bool `[N, slices]`."""
        return self.score(audio, sample_rate) > 0

    def score(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Return a number for each slice, `[N, slices]`: about -1 for the first description, about 1 for the second."""
        return _with_one((slice_statistics(audio, sample_rate) - self.mean) / self.spread) @ self.weights


def train_ear(first: Tensor, second: Tensor, sample_rate: int) -> Ear:
    """Learn to tell pieces `[N, L]` of one description from those of another, by ridge regression.

    Args:
        first: pieces that follow the first description throughout; every other one is held out.
        second: pieces that follow the second.
        sample_rate: samples per second.
    """
    statistics = [slice_statistics(audio, sample_rate) for audio in (first, second)]
    learnt = torch.cat([each[::2].flatten(0, 1) for each in statistics])
    mean, spread = learnt.mean(dim=0), learnt.std(dim=0).clamp_min(1e-3)
    rows = _with_one((learnt - mean) / spread)
    sides = torch.cat(
        [
            torch.full((each[::2].shape[0] * each.shape[1],), side)
            for each, side in zip(statistics, (-1.0, 1.0), strict=True)
        ]
    )
    weights = torch.linalg.solve(rows.T @ rows + _RIDGE * torch.eye(rows.shape[1]), rows.T @ sides)
    ear = Ear(mean, spread, weights, 0.0)
    heard = [ear.hears(audio[1::2], sample_rate) for audio in (first, second)]
    right = [float((~heard[0]).float().mean()), float(heard[1].float().mean())]
    return Ear(mean, spread, weights, sum(right) / 2)


def slice_starts(count: int) -> Tensor:
    """Return the seconds at which slices begin."""
    return torch.arange(count) * HOP


def _with_one(rows: Tensor) -> Tensor:
    return torch.cat([rows, torch.ones_like(rows[..., :1])], dim=-1)
