"""How near one sound is to another, sample by sample and band by band: distances of waves and of spectra."""

from __future__ import annotations

import torch
from torch import Tensor

from .audio import mel_filter_bank


def si_snr(output: Tensor, target: Tensor) -> Tensor:
    """Return the scale-invariant signal-to-noise ratio in dB of audio `[B, L]` to a target `[B, L]`: `[B]`."""
    output = output - output.mean(dim=-1, keepdim=True)
    target = target - target.mean(dim=-1, keepdim=True)
    scale = (output * target).sum(-1, keepdim=True) / target.pow(2).sum(-1, keepdim=True).clamp_min(1e-9)
    signal = scale * target
    noise = output - signal
    return 10.0 * torch.log10(signal.pow(2).sum(-1).clamp_min(1e-9) / noise.pow(2).sum(-1).clamp_min(1e-9))


def mel_distance(output: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    """Return the mean absolute difference in dB of the 64-band mel spectrograms of audio `[B, L]`: `[B]`.

    Windows of 1024 samples every 256; a full-scale sine is 0 dB, and all below -80 dB counts as -80 dB.
    """
    bank = mel_filter_bank(sample_rate, 1024, 64).to(output.device)
    window = torch.hann_window(1024, device=output.device)

    def level(audio: Tensor) -> Tensor:
        power = torch.stft(audio, 1024, 256, window=window, return_complex=True).abs().mul(4.0 / 1024).pow(2)
        return 10.0 * torch.log10((bank @ power).clamp_min(1e-8))

    return (level(output) - level(target)).abs().mean(dim=(-2, -1))
