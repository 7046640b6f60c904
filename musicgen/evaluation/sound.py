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
    return (samples_beyond_full_scale(audio) > 0) | (clipped_share(audio) > share)


def clipped_share(audio: Tensor) -> Tensor:
    """Return the share of the samples of each row of audio `[..., L]` that are at full scale or beyond: `[...]`."""
    return (audio.abs() >= 0.999).float().mean(dim=-1)


def silent_seconds(audio: Tensor, sample_rate: int, threshold_db: float = -50.0) -> Tensor:
    """Return how many seconds of mono audio `[L]` are silent, counted in steps of a quarter of a second."""
    step = max(1, round(sample_rate / 4))
    padded = torch.nn.functional.pad(audio, (0, -len(audio) % step)).reshape(-1, step)
    counts = torch.full((len(padded),), step)
    counts[-1] = len(audio) - step * (len(padded) - 1)
    power = padded.pow(2).sum(dim=-1) / counts
    return (counts * (power < 10 ** (threshold_db / 10))).sum() / sample_rate


def longest_repetition(codes: Tensor, longest_stretch: int) -> int:
    """Return for how many frames codes `[K, T]` repeat a stretch of at most `longest_stretch` frames, at the longest.

    >>> longest_repetition(torch.tensor([[7, 1, 2, 1, 2, 1, 2, 9]]), 2)
    6
    """
    longest = 0
    for stretch in range(1, min(longest_stretch, codes.shape[1] - 1) + 1):
        same = (codes[:, stretch:] == codes[:, :-stretch]).all(dim=0)
        ends = torch.cat([torch.tensor([-1]), (~same).nonzero()[:, 0], torch.tensor([len(same)])])
        run = int(ends.diff().max()) - 1
        if run:
            longest = max(longest, run + stretch)
    return longest


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
