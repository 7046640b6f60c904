"""The Frechet distance of two sets of embeddings, without the bias of small sets, and of each song alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .statistics import Statistics, check_embeddings, statistics_of

LEAST = 500
"""Smallest sample that :func:`frechet_infinity` begins with where there are that many."""
_POINTS = 15


def frechet_distance(embeddings: Tensor, reference: Tensor) -> float:
    """Return the distance of the normal distributions fitted to two sets (Heusel et al. 2017, equation 6).

    A small set makes the distance too large, so compare only figures with the same N. In music the
    distance is known as FAD (Kilgour et al. 2019).

    Args:
        embeddings: `[N, D]`.
        reference: `[M, D]`.

    Raises:
        ValueError: a set has fewer than 2 embeddings or numbers that overflow, or the widths differ.
    """
    return distance_of(statistics_of(embeddings, "embeddings"), statistics_of(reference, "the reference's embeddings"))


def distance_of(ours: Statistics, theirs: Statistics) -> float:
    """Return the Frechet distance of two normal distributions: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    Raises:
        ValueError: the widths differ.
    """
    return FrechetReference(theirs).distance(ours)


class FrechetReference:
    """A reference distribution with the root of its covariance, for many distances to it."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics
        values, vectors = torch.linalg.eigh(statistics.covariance)
        self._root = (vectors * values.clamp_min(0).sqrt()) @ vectors.t()

    def distance(self, ours: Statistics) -> float:
        """Return the distance of a distribution to the reference.

        Raises:
            ValueError: the widths differ.
        """
        theirs = self.statistics
        if ours.width != theirs.width:
            raise ValueError(
                f"the embeddings are {ours.width} wide and the reference's {theirs.width}; "
                "make both with the same model."
            )
        gap = (ours.mean - theirs.mean).pow(2).sum()
        # The trace of (C1 C2)^(1/2) is that of the symmetric (R C1 R)^(1/2), R = C2^(1/2).
        shared = torch.linalg.eigvalsh(self._root @ ours.covariance @ self._root).clamp_min(0).sqrt().sum()
        return float((gap + ours.covariance.trace() + theirs.covariance.trace() - 2 * shared).clamp_min(0))

    def distance_to(self, embeddings: Tensor) -> float:
        """Return the distance of embeddings `[N, D]`, N of at least 2, to the reference."""
        return self.distance(statistics_of(embeddings))


@dataclass(frozen=True)
class Extrapolated:
    """A distance at an unlimited number of embeddings. fit: R^2 of the line; points: (N, distance)."""

    value: float
    fit: float
    points: tuple[tuple[int, float], ...]


def frechet_infinity(
    embeddings: Tensor, reference: Statistics, *, sizes: Sequence[int] | None = None, seed: int = 0
) -> Extrapolated:
    """Extrapolate the Frechet distance to infinitely many embeddings (Gui et al. 2024, section 3).

    The bias of a sample of N is nearly proportional to 1/N, so a line is fitted over 1/N. Samples are
    drawn with replacement, as in that paper's toolkit.

    Args:
        embeddings: `[N, D]`.
        reference: mean and covariance of the reference.
        sizes: sizes of the samples; by default 15 from 500 (or N / 4 where that is less) to N.
        seed: seed of the samples.

    Raises:
        ValueError: fewer than 8 embeddings, or sizes that give no line.
    """
    numbers = check_embeddings(embeddings, "embeddings", least=8)
    if sizes is None:
        least = max(2, min(LEAST, len(numbers) // 4))
        sizes = [int(size) for size in torch.linspace(least, len(numbers), _POINTS)]
    if len(set(sizes)) < 2 or min(sizes) < 2:
        raise ValueError(f"sizes are {list(sizes)}; allowed are at least two different ones of 2 or more.")
    whole, generator = FrechetReference(reference), torch.Generator().manual_seed(seed)
    points = []
    for size in sizes:
        rows = torch.randint(len(numbers), (size,), generator=generator)
        points.append((int(size), whole.distance_to(numbers[rows])))
    return _line(points)


def _line(points: Sequence[tuple[int, float]]) -> Extrapolated:
    """Fit distance = value + slope / N by least squares."""
    inverse = torch.tensor([1.0 / size for size, _ in points], dtype=torch.float64)
    values = torch.tensor([value for _, value in points], dtype=torch.float64)
    centred = inverse - inverse.mean()
    slope = (centred * (values - values.mean())).sum() / centred.pow(2).sum()
    start = values.mean() - slope * inverse.mean()
    spread = (values - values.mean()).pow(2).sum()
    missed = (values - start - slope * inverse).pow(2).sum()
    fit = float(1 - missed / spread) if spread > 0 else 1.0
    return Extrapolated(float(start), fit, tuple(points))
