"""The part of a piece that exists while it is sampled."""

from __future__ import annotations

from torch import Tensor


def complete_frames(codes: Tensor) -> Tensor:
    """Count the frames from the start whose codes are all known: `[B, K, T]` with -1 for unknown codes -> `[B]`.

    >>> import torch
    >>> complete_frames(torch.tensor([[[1, 2, -1], [3, -1, -1]]]))
    tensor([1])
    """
    return (codes >= 0).all(dim=1).int().cumprod(dim=1).sum(dim=1)


def complete_part(codes: Tensor) -> Tensor:
    """Return the frames that are complete in every item, without the items that have none: `[B', K, T']`."""
    counts = complete_frames(codes)
    some = counts > 0
    frames = int(counts[some].min()) if bool(some.any()) else 0
    return codes[some][:, :, :frames].clone()
