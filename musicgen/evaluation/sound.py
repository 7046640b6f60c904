"""Measures of plain sound and codes: silence, clipping, stuck codes, perplexity."""

from __future__ import annotations

import torch
from torch import Tensor


def is_silent(audio: Tensor, threshold_db: float = -50.0) -> Tensor:
    """Return whether the RMS of each row of audio `[..., L]` is below a level in dB of full scale: bool `[...]`."""
    return audio.pow(2).mean(dim=-1) < 10 ** (threshold_db / 10)


def samples_beyond_full_scale(audio: Tensor) -> Tensor:
    """Count the samples of each row of audio `[..., L]` that a file of whole numbers would clip: int64 `[...]`."""
    return (audio.abs() > 1).sum(dim=-1)


def is_clipped(audio: Tensor, share: float = 1e-3) -> Tensor:
    """Return whether each row of audio `[..., L]` is or was clipped: bool `[...]`.

    A row is clipped if a sample is beyond full scale, or if more than `share` of its samples are at
    full scale, as in a file that was clipped when it was saved.
    """
    at_full_scale = (audio.abs() >= 0.999).float().mean(dim=-1)
    return (samples_beyond_full_scale(audio) > 0) | (at_full_scale > share)


def is_stuck(codes: Tensor, frames: int = 50) -> Tensor:
    """Return whether codes `[B, K, T]` repeat one frame, in all codebooks, `frames` times in a row: bool `[B]`.

    >>> is_stuck(torch.tensor([[[1, 2, 2, 2]], [[1, 2, 1, 2]]]), frames=3)
    tensor([ True, False])
    """
    same = (codes[..., 1:] == codes[..., :-1]).all(dim=1)
    if same.shape[-1] < frames - 1:
        return torch.zeros(codes.shape[0], dtype=torch.bool)
    return same.unfold(-1, frames - 1, 1).all(dim=-1).any(dim=-1)


def codebook_perplexity(codes: Tensor, card: int) -> Tensor:
    """Return the exponential of the entropy of codes `[N, K, T]` per codebook: `[K]`, `card` if used evenly.

    >>> codebook_perplexity(torch.tensor([[[0, 1, 2, 3], [0, 0, 0, 0]]]), card=4)
    tensor([4., 1.])
    """
    rows = codes.transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(row, minlength=card) for row in rows]).double()
    share = counts / counts.sum(dim=-1, keepdim=True)
    return torch.special.entr(share).sum(dim=-1).exp().float()
