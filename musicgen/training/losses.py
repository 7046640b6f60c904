"""Losses: spectral losses for a codec, and the cross entropy of codes over a pattern."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio import mel_filter_bank

_FLOOR = 3e-5


class MelLoss(nn.Module):
    """The distance of mel spectrograms at several window sizes (after Defossez et al. 2022, section 3.4)."""

    def __init__(self, sample_rate: int, sizes: tuple[int, ...] = (128, 512, 2048)) -> None:
        super().__init__()
        self.sizes = sizes
        for size in sizes:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)
            bank = mel_filter_bank(sample_rate, size, min(80, size // 8))
            self.register_buffer(f"bank_{size}", bank, persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compare audio `[B, L]` with a target `[B, L]`: log L1 + 0.3 log L2 + 10 linear L1, mean over sizes."""
        total = output.new_zeros(())
        for size in self.sizes:
            ours, theirs = self._mel(output, size), self._mel(target, size)
            gap = torch.log(ours + _FLOOR) - torch.log(theirs + _FLOOR)
            total = total + gap.abs().mean() + 0.3 * gap.pow(2).mean().sqrt() + 10.0 * F.l1_loss(ours, theirs)
        return total / len(self.sizes)

    def _mel(self, audio: Tensor, size: int) -> Tensor:
        window = getattr(self, f"window_{size}")
        bank = getattr(self, f"bank_{size}")
        spectrum = torch.stft(audio, size, size // 4, window=window, return_complex=True)
        # The square root has an infinite gradient at 0.
        magnitude = torch.sqrt(spectrum.real.pow(2) + spectrum.imag.pow(2) + 1e-10)
        return bank @ (magnitude * (2.0 / size))


def codes_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the cross entropy of each codebook, a weighted mean over the cells of a pattern.

    Args:
        logits: `[B, K, S, card]`; column s predicts the targets of column s.
        targets: int64 `[B, K, S]`.
        weights: weight of each cell, `[K, S]`, or `[B, K, S]` where items differ; 0 for a cell without a code.

    Returns:
        Nats, `[K]`.
    """
    safe = torch.where(weights > 0, targets, 0)
    each = F.cross_entropy(logits.flatten(0, 2), safe.flatten(), reduction="none").view_as(targets)
    if weights.dim() == 3:
        return (each * weights).sum(dim=(0, 2)) / weights.sum(dim=(0, 2)).clamp_min(1.0)
    return (each * weights).sum(dim=(0, 2)) / (weights.sum(dim=1) * targets.shape[0])
