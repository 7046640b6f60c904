"""The Frechet distance of two sets of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(embeddings: Tensor, reference: Tensor) -> float:
    """Distance of the normal distributions fitted to `[N, D]` and `[M, D]` (Heusel et al. 2017, equation 6).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). Few clips make it too large: compare only figures
    with the same N. For music it is called FAD (Kilgour et al. 2019).
    """
    if min(len(embeddings), len(reference)) < 2:
        raise ValueError(f"there are {len(embeddings)} and {len(reference)} embeddings; at least 2 each are needed.")
    ours, theirs = embeddings.double(), reference.double()
    gap = (ours.mean(dim=0) - theirs.mean(dim=0)).pow(2).sum()
    first, second = (torch.atleast_2d(torch.cov(each.t())) for each in (ours, theirs))
    # The trace of (C1 C2)^(1/2) is that of the symmetric (R C2 R)^(1/2), R = C1^(1/2).
    values, vectors = torch.linalg.eigh(first)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.t()
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return float((gap + first.trace() + second.trace() - 2 * shared).clamp_min(0))
