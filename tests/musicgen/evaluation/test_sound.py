"""Measures of sound as such."""

from __future__ import annotations

import torch

from musicgen.evaluation import is_clipped, samples_beyond_full_scale


def test_samples_beyond_full_scale_are_counted_and_full_scale_itself_is_not():
    audio = torch.tensor([[1.0, -1.0, 0.5, 0.0], [1.04, 0.0, -1.31, 1.0]])
    assert samples_beyond_full_scale(audio).tolist() == [0, 2]


def test_one_sample_beyond_full_scale_is_clipping_and_so_is_a_flat_top_at_it():
    quiet = 0.5 * torch.sin(torch.arange(32000) * 0.1)
    peak = quiet.clone()
    peak[700] = 1.04
    flat = (3 * quiet).clamp(-1, 1)
    touching = quiet / quiet.abs().max()
    assert is_clipped(torch.stack([quiet, peak, flat])).tolist() == [False, True, True]
    assert samples_beyond_full_scale(touching).item() == 0
