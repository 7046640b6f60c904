"""95 % intervals of distances, by resampling whole sounds, since embeddings of one sound are alike."""

from __future__ import annotations

import torch
from torch import Tensor

from .frechet import FrechetReference
from .kernel import SCALE, kernel
from .statistics import RunningStatistics, Statistics

DRAWS = 200
_WIDE, _WIDE_DRAWS = 256, 60
_BLOCK = 1024


def _quantiles(figures: list[float]) -> tuple[float, float]:
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.quantile(torch.tensor(figures, dtype=torch.float64), ends).tolist()
    return low, high


def _counts(files: int, generator: torch.Generator) -> Tensor:
    """How often each sound is in a resampled set, float64 `[files]`."""
    drawn = torch.randint(files, (files,), generator=generator)
    return torch.bincount(drawn, minlength=files).double()


def frechet_interval(
    running: RunningStatistics, reference: FrechetReference, value: float, *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """Return the interval of a Frechet distance; None for a single sound.

    A resampled set holds fewer different sounds, which makes every distance too large; the interval is
    moved so that its middle is the figure.

    Args:
        running: the candidates' embeddings, of which the kept ones are resampled.
        reference: the reference.
        value: the figure.
        draws: number of resampled sets; wide embeddings take at most 60.
        seed: seed of the resampling.
    """
    if running.files < 2:
        return None
    embeddings, generator = running.kept, torch.Generator().manual_seed(seed)
    middle = embeddings.double().mean(dim=0)
    centred = (embeddings - middle.float()).contiguous()
    draws = draws if centred.shape[1] <= _WIDE else min(draws, _WIDE_DRAWS)
    figures = []
    for _ in range(draws):
        weights = _counts(running.files, generator)[running.owners]
        total = float(weights.sum())
        if total < 2:
            continue
        mean = (weights.float() @ centred).double() / total
        scatter = (centred.t() @ (weights.float()[:, None] * centred)).double() - total * torch.outer(mean, mean)
        figures.append(reference.distance(Statistics(mean + middle, scatter / (total - 1))))
    moved = value - float(torch.tensor(figures, dtype=torch.float64).median())
    low, high = _quantiles(figures)
    return max(0.0, low + moved), high + moved


def kernel_interval(
    embeddings: Tensor, owners: Tensor, reference: Tensor, bandwidth: float, *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float] | None:
    """Return the interval of a kernel distance; None for a single sound.

    Args:
        embeddings: `[N, D]`.
        owners: the sound that each is from, `[N]`.
        reference: `[M, D]`.
        bandwidth: of the kernel.
        draws: number of resampled sets.
        seed: seed of the resampling.
    """
    sounds, places = owners.unique(return_inverse=True)
    count = len(sounds)
    if count < 2:
        return None
    ours, theirs = embeddings.double(), reference.double()
    rows = torch.bincount(places, minlength=count).double()
    inside, across = torch.zeros(count, count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    for first in range(0, len(ours), _BLOCK):
        part = slice(first, first + _BLOCK)
        by_sound = torch.zeros(len(ours[part]), count, dtype=torch.float64)
        by_sound.index_add_(1, places, kernel(ours[part], ours, bandwidth))
        inside.index_add_(0, places[part], by_sound)
        across.index_add_(0, places[part], kernel(ours[part], theirs, bandwidth).sum(dim=1))
    theirs_inside = _mean_inside(theirs, bandwidth)
    own = inside.diagonal()
    generator, figures = torch.Generator().manual_seed(seed), []
    for _ in range(draws):
        times = _counts(count, generator)
        # Pairs of one sound count once for each time that it was drawn, and never between its copies.
        pairs = times @ inside @ times - (times.pow(2) * own).sum() + (times * (own - rows)).sum()
        number = (times @ rows) ** 2 - (times.pow(2) * rows.pow(2)).sum() + (times * rows * (rows - 1)).sum()
        if number > 0:
            mixed = (times @ across) / ((times @ rows) * len(theirs))
            figures.append(float(SCALE * (pairs / number + theirs_inside - 2 * mixed)))
    return _quantiles(figures) if figures else None


def _mean_inside(numbers: Tensor, bandwidth: float) -> float:
    total = sum(float(kernel(part, numbers, bandwidth).sum()) for part in numbers.split(_BLOCK))
    return (total - len(numbers)) / (len(numbers) * (len(numbers) - 1))
