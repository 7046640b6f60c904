"""95 % intervals of measured figures: Wilson's for shares, bootstrap intervals for means and medians."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

_MOST_NUMBERS = 4_000_000


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a probability from the number of successes in some trials (Wilson 1927).

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 2), round(high, 2)
    (0.49, 0.94)
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials; there must be a trial, and no more successes.")
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def bootstrap_interval(
    values: Sequence[float],
    *,
    median: bool = False,
    weights: Sequence[float] = (),
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the interval of the mean or median of some values by resampling them (percentiles, Efron 1979).

    Args:
        values: at least one number.
        median: take the median; the mean otherwise.
        weights: how much each value counts in the mean; empty: all the same.
        draws: number of resampled sets.
        seed: seed of the resampling.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("there are no values to take an interval of; give at least one.")
    data = torch.tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    figures = torch.cat([_figures(data, weights, median, part, generator) for part in _parts(draws, len(data))])
    low, high = torch.quantile(figures, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def _parts(draws: int, count: int) -> list[int]:
    """The draws in parts of at most some million numbers."""
    size = max(1, min(draws, _MOST_NUMBERS // count))
    return [min(size, draws - first) for first in range(0, draws, size)]


def _figures(
    data: torch.Tensor, weights: Sequence[float], median: bool, draws: int, generator: torch.Generator
) -> torch.Tensor:
    """The figure of each of some resampled sets, `[draws]`."""
    rows = torch.randint(len(data), (draws, len(data)), generator=generator)
    if median:
        return data[rows].median(dim=1).values
    if not weights:
        return data[rows].mean(dim=1)
    each = torch.tensor(weights, dtype=torch.float64)
    return (data * each)[rows].sum(dim=1) / each[rows].sum(dim=1)
