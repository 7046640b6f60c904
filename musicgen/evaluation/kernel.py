"""The kernel distance of two sets of embeddings (KAD, Chung et al. 2025): it assumes no normal distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from .statistics import check_embeddings

SCALE = 100.0
"""The published toolkit's factor, so that figures compare with its own."""
_BLOCK = 2048
_MOST_PAIRS = 5000


def median_bandwidth(reference: Tensor) -> float:
    """Return the median distance of two different embeddings of `[M, D]`, the kernel's bandwidth.

    Up to 5,000 embeddings every pair counts; of more, 5,000 evenly spread ones are taken.

    Raises:
        ValueError: fewer than 2 embeddings, or half of all pairs are equal.
    """
    numbers = check_embeddings(reference, "the reference's embeddings")
    if len(numbers) > _MOST_PAIRS:
        numbers = numbers[torch.linspace(0, len(numbers) - 1, _MOST_PAIRS).long()]
    # The lower of two middle distances, as torch's median has it.
    bandwidth = float(torch.pdist(numbers).median())
    if bandwidth <= 0:
        raise ValueError(
            "half of the reference's embeddings are equal, so a kernel has no bandwidth; give other sounds."
        )
    return bandwidth


def kernel_distance(embeddings: Tensor, reference: Tensor, bandwidth: float | None = None) -> float:
    """Return 100 times the squared maximum mean discrepancy, without bias, under a Gaussian kernel.

    100 (mean k(x, x') + mean k(y, y') - 2 mean k(x, y)) with pairs of different embeddings (Gretton et
    al. 2012, equation 3); it can fall below 0 for equal distributions.

    Args:
        embeddings: x, `[N, D]`.
        reference: y, `[M, D]`.
        bandwidth: of the kernel; the reference's median distance by default.

    Raises:
        ValueError: a set has fewer than 2 embeddings or numbers that are not finite, or the widths differ.
    """
    ours = check_embeddings(embeddings, "embeddings")
    theirs = check_embeddings(reference, "the reference's embeddings")
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"the embeddings are {ours.shape[1]} wide and the reference's {theirs.shape[1]}; "
            "make both with the same model."
        )
    width = median_bandwidth(theirs) if bandwidth is None else bandwidth
    within = [_inside(each, width) for each in (ours, theirs)]
    across = _sum(ours, theirs, width) / (len(ours) * len(theirs))
    return SCALE * (sum(within) - 2 * across)


def _inside(numbers: Tensor, width: float) -> float:
    """Mean of the kernel over the pairs of different embeddings of a set."""
    count = len(numbers)
    return (_sum(numbers, numbers, width) - count) / (count * (count - 1))


def _sum(ours: Tensor, theirs: Tensor, width: float) -> float:
    """Sum of the kernel over all pairs, block by block."""
    total = 0.0
    for part in ours.split(_BLOCK):
        for other in theirs.split(_BLOCK):
            total += float(kernel(part, other, width).sum())
    return total


def kernel(ours: Tensor, theirs: Tensor, width: float) -> Tensor:
    """Return the Gaussian kernel of all pairs of `[N, D]` and `[M, D]`: `[N, M]`."""
    squares = ours.pow(2).sum(dim=1)[:, None] + theirs.pow(2).sum(dim=1) - 2 * ours @ theirs.t()
    return torch.exp(-squares.clamp_min(0) / (2 * width**2))
