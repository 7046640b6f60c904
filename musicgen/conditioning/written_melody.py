"""A melody that is written and not recorded: a tune, whose chroma is exact at every moment.

A tune is a score, a recording, or another tune that was edited. It knows no model: its chroma is asked for at the times
that a model's frames have. So it repeats in time and not in whole frames, and a long piece never drifts from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config import RELEASED_CHROMA, ChromaConfig
from .melody import Tune, null_chroma

_ROUNDING = 1e-9
"""Seconds by which a time may miss the start of a note by rounding."""


@dataclass(frozen=True, eq=False)
class WrittenMelody:
    """A tune in the chroma of one model."""

    tune: Tune
    config: ChromaConfig = RELEASED_CHROMA

    @property
    def chroma(self) -> Tensor:
        """The chroma `[F, num_chroma]`, once through: the frames whose centres lie before the end."""
        rate = self.config.sample_rate / self.config.hop_length
        return self.fitted(max(1, -int(-(self.tune.seconds * rate - _ROUNDING * rate) // 1)))

    def for_config(self, config: ChromaConfig) -> WrittenMelody:
        """Return the same tune with the chroma of another model's config."""
        return replace(self, config=config)

    def fitted(self, num_frames: int) -> Tensor:
        """Return the chroma `[num_frames, num_chroma]` from the start on; the tune repeats without end."""
        return self.window(0, 0, num_frames)

    def window(self, first_sample: int, num_samples: int, num_frames: int) -> Tensor:
        """Return the chroma `[num_frames, num_chroma]` from a sample on; the tune repeats without end."""
        samples = first_sample + torch.arange(num_frames, dtype=torch.float64) * self.config.hop_length
        rows = rows_at(self.tune, samples / self.config.sample_rate, self.config)
        return torch.where(is_silent(rows), null_chroma(self.config)[:1], rows)


def rows_at(tune: Tune, times: Tensor, config: ChromaConfig) -> Tensor:
    """Return the chroma `[N, num_chroma]` of a tune, which repeats without end, at times `[N]` in seconds, float64."""
    return tune.rows(torch.remainder(times + _ROUNDING, tune.seconds), config)


def is_silent(rows: Tensor) -> Tensor:
    """Return whether each row of a tune's chroma `[N, num_chroma]` is silence: bool `[N, 1]`."""
    return ~rows.any(dim=1, keepdim=True)
