"""Measures of sound and codes as such: likeness of waves and spectra, silence, clipping, stuck codes, perplexity."""

from __future__ import annotations

import torch
from torch import Tensor

from ..training.losses import mel_distance, si_snr

__all__ = ["codebook_perplexity", "is_clipped", "is_silent", "is_stuck", "mel_distance", "si_snr"]


def is_silent(audio: Tensor, threshold_db: float = -50.0) -> Tensor:
    """Whether the RMS of each row of audio `[..., L]` is below a level in dB of full scale: bool `[...]`."""
    return audio.pow(2).mean(dim=-1) < 10 ** (threshold_db / 10)


def is_clipped(audio: Tensor, share: float = 1e-3) -> Tensor:
    """Whether more than a share of the samples of each row of audio `[..., L]` is at full scale: bool `[...]`."""
    return (audio.abs() >= 0.999).float().mean(dim=-1) > share


def is_stuck(codes: Tensor, frames: int = 50) -> Tensor:
    """Whether codes `[B, K, T]` ever repeat one frame, in all codebooks, for that many frames: bool `[B]`."""
    same = (codes[..., 1:] == codes[..., :-1]).all(dim=1)
    if same.shape[-1] < frames - 1:
        return torch.zeros(codes.shape[0], dtype=torch.bool)
    return same.unfold(-1, frames - 1, 1).all(dim=-1).any(dim=-1)


def codebook_perplexity(codes: Tensor, card: int) -> Tensor:
    """How many entries of each codebook codes `[N, K, T]` use as if evenly, the exponent of the entropy: `[K]`."""
    rows = codes.transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(row, minlength=card) for row in rows]).double()
    share = counts / counts.sum(dim=-1, keepdim=True)
    return torch.special.entr(share).sum(dim=-1).exp().float()
