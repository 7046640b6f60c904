"""The two kinds of condition: a text, and a lead that stands before the text.

A text may come from T5 here or from another encoder of the same width. A lead is a melody, a style,
or whatever a later model prepends; the fuser, guidance and the memory estimate know only the
protocol :class:`Lead`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ..lm.language_model import LMModel


@dataclass(frozen=True)
class TextCondition:
    """Encoded text, before the language model's own projection.

    states: float `[B, n, C]` or `[1, n, C]` for the same text in every batch row. mask: bool of the
    same first two dimensions, True = counts; a row of only False is the null condition.
    strength: weight among several conditions, 0 or less turns it off. start, end: the share of the
    generated time, 0 to 1, in which it acts.
    """

    states: Tensor
    mask: Tensor
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.states.dim() != 3 or self.mask.shape != self.states.shape[:2]:
            raise ValueError(
                f"text states have shape {list(self.states.shape)} and a mask {list(self.mask.shape)}; "
                "allowed are [B, n, C] and [B, n]."
            )

    @property
    def has_gaps(self) -> bool:
        """Whether there is a time at which it does not act."""
        return self.start > 0.0 or self.end < 1.0 or self.strength <= 0.0

    def select(self, items: Sequence[int]) -> TextCondition:
        """The condition of some batch rows alone."""
        if self.states.shape[0] == 1:
            return self
        return replace(self, states=self.states[list(items)], mask=self.mask[list(items)])

    def row(self, index: int) -> Tensor | None:
        """The states `[n, C]` of batch row `index` without its padding, or None for the null condition."""
        index = 0 if self.states.shape[0] == 1 else index
        keep = self.mask[index].bool()
        return self.states[index][keep] if bool(keep.any()) else None


class Lead(Protocol):
    """One batch item's rows before its text, in a model that prepends its conditions."""

    @property
    def is_null(self) -> bool:
        """Whether the request gave nothing, so that only the null rows are left."""
        ...

    @property
    def acts_alone(self) -> bool:
        """Whether it goes on where no description acts, and double guidance can weigh the description against it."""
        ...

    @property
    def size(self) -> int:
        """Number of rows, null rows likewise."""
        ...

    def rows(self, lm: LMModel, device: torch.device) -> Tensor:
        """Project to `[size, dim]`."""
        ...

    def null_rows(self, lm: LMModel, device: torch.device) -> Tensor:
        """Project the null condition of this kind to `[size, dim]`."""
        ...

    def during(self, first: int, num_frames: int, frame_rate: int) -> Lead:
        """Return the lead of one window of a long piece, which begins at frame `first`."""
        ...
