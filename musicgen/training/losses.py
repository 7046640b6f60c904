"""What training minimises: spectral losses of a codec, and the cross entropy of codes over a pattern.

Also the two figures by which a codec is judged while it trains. No networks here.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FLOOR = 3e-5


def mel_filter_bank(sample_rate: int, n_fft: int, num_mels: int) -> Tensor:
    """Triangular filters `[num_mels, n_fft // 2 + 1]`, evenly spaced on the mel scale up to half the rate."""
    top = 2595.0 * math.log10(1.0 + sample_rate / 2 / 700.0)
    edges = 700.0 * (10 ** (torch.linspace(0.0, top, num_mels + 2, dtype=torch.float64) / 2595.0) - 1.0)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft
    # No triangle is narrower than the distance of two bins, or it would hold none.
    width = torch.clamp(edges[1:] - edges[:-1], min=sample_rate / n_fft)
    centre = edges[1:-1, None]
    rising = 1.0 - (centre - bins) / width[:-1, None]
    falling = 1.0 - (bins - centre) / width[1:, None]
    return torch.minimum(rising, falling).clamp_min(0.0).to(torch.float32)


class MelLoss(nn.Module):
    """Distance of mel spectrograms at several window sizes (after Defossez et al. 2022, section 3.4)."""

    def __init__(self, sample_rate: int, sizes: tuple[int, ...] = (128, 512, 2048)) -> None:
        super().__init__()
        self.sizes = sizes
        for size in sizes:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)
            bank = mel_filter_bank(sample_rate, size, min(80, size // 8))
            self.register_buffer(f"bank_{size}", bank, persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Audio `[B, L]` against audio `[B, L]` -> one number: log L1 + 0.3 log L2 + 10 linear L1, mean over sizes."""
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
        # The square root has no slope at nothing.
        magnitude = torch.sqrt(spectrum.real.pow(2) + spectrum.imag.pow(2) + 1e-10)
        return bank @ (magnitude * (2.0 / size))


def si_snr(output: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-noise ratio in dB of audio `[B, L]`, one number per row."""
    output = output - output.mean(dim=-1, keepdim=True)
    target = target - target.mean(dim=-1, keepdim=True)
    scale = (output * target).sum(-1, keepdim=True) / target.pow(2).sum(-1, keepdim=True).clamp_min(1e-9)
    signal = scale * target
    noise = output - signal
    return 10.0 * torch.log10(signal.pow(2).sum(-1).clamp_min(1e-9) / noise.pow(2).sum(-1).clamp_min(1e-9))


def mel_distance(output: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    """Mean absolute difference in dB of 64-band mel spectrograms of audio `[B, L]`, one number per row.

    Windows of 1024 samples, a quarter apart; a full-scale sine is 0 dB, and all below -80 dB counts as -80 dB.
    """
    bank = mel_filter_bank(sample_rate, 1024, 64).to(output.device)
    window = torch.hann_window(1024, device=output.device)

    def level(audio: Tensor) -> Tensor:
        power = torch.stft(audio, 1024, 256, window=window, return_complex=True).abs().mul(4.0 / 1024).pow(2)
        return 10.0 * torch.log10((bank @ power).clamp_min(1e-8))

    return (level(output) - level(target)).abs().mean(dim=(-2, -1))


def codes_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy per codebook, a weighted mean over the cells of a pattern.

    logits `[B, K, S, card]`, where column s predicts targets `[B, K, S]` of column s; weights `[K, S]`,
    0 where a cell holds no code. Returns nats `[K]`.
    """
    safe = torch.where(weights > 0, targets, 0)
    each = F.cross_entropy(logits.flatten(0, 2), safe.flatten(), reduction="none").view_as(targets)
    return (each * weights).sum(dim=(0, 2)) / (weights.sum(dim=1) * targets.shape[0])
