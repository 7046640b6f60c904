"""95 % intervals of measured figures: Wilson's for shares, the bootstrap's for means and medians."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a probability of which `successes` of `trials` were seen (Wilson 1927)."""
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials; there must be a trial, and no more successes.")
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def bootstrap_interval(
    values: Sequence[float], *, median: bool = False, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Interval of the mean, or median, of values: percentiles of resampled ones (Efron 1979)."""
    if not values:
        raise ValueError("there are no values to take an interval of; give at least one.")
    data = torch.tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    picked = data[torch.randint(len(data), (draws, len(data)), generator=generator)]
    figures = picked.median(dim=1).values if median else picked.mean(dim=1)
    low, high = torch.quantile(figures, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high
