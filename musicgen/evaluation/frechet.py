"""The Frechet distance of two sets of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor


def _check(embeddings: Tensor, name: str) -> None:
    if embeddings.dim() != 2 or len(embeddings) < 2:
        raise ValueError(f"{name} have shape {list(embeddings.shape)}; allowed is [N, D] with N of at least 2.")
    # The distance sums their squares in float64, which overflows from 1e154 on.
    largest = float(embeddings.double().abs().max()) if embeddings.numel() else 0.0
    if not largest < 1e150:
        raise ValueError(
            f"{name} hold NaN or numbers up to {largest:g}; allowed are finite numbers below 1e150. "
            "Leave out the sounds that they come from."
        )


def frechet_distance(embeddings: Tensor, reference: Tensor) -> float:
    """Return the distance of the normal distributions fitted to two sets (Heusel et al. 2017, equation 6).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). A small set makes the distance too large, so compare
    only figures with the same N. In music the distance is known as FAD (Kilgour et al. 2019).

    Args:
        embeddings: `[N, D]`.
        reference: `[M, D]`.

    Raises:
        ValueError: a set has fewer than 2 embeddings or numbers that overflow, or the widths differ.
    """
    _check(embeddings, "embeddings")
    _check(reference, "the reference's embeddings")
    if embeddings.shape[1] != reference.shape[1]:
        raise ValueError(
            f"the embeddings are {embeddings.shape[1]} wide and the reference's {reference.shape[1]}; "
            "make both with the same model."
        )
    ours, theirs = embeddings.double(), reference.double()
    gap = (ours.mean(dim=0) - theirs.mean(dim=0)).pow(2).sum()
    first, second = (torch.atleast_2d(torch.cov(each.t())) for each in (ours, theirs))
    # The trace of (C1 C2)^(1/2) is that of the symmetric (R C2 R)^(1/2), R = C1^(1/2).
    values, vectors = torch.linalg.eigh(first)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.t()
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return float((gap + first.trace() + second.trace() - 2 * shared).clamp_min(0))
