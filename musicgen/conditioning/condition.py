"""The two kinds of condition: a text, and a lead that is prepended to the text.

A text may come from T5 or from another encoder of the same width. A lead is a melody, a style, or
any condition that a later model prepends; the fuser, guidance and the memory estimate know only the
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

    Attributes:
        states: float `[B, n, C]`, or `[1, n, C]` for the same text in every batch row.
        mask: bool `[B, n]` or `[1, n]`, True = counts; a row with False only is the null condition.
        strength: weight among several conditions; 0 or less turns the condition off.
        start: time in the generated piece at which the condition starts to act, 0 to 1.
        end: time at which it ends, 0 to 1.
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
        """True if the condition does not act all the time."""
        return self.start > 0.0 or self.end < 1.0 or self.strength <= 0.0

    def select(self, items: Sequence[int]) -> TextCondition:
        """Return the condition of some batch rows alone."""
        if self.states.shape[0] == 1:
            return self
        return replace(self, states=self.states[list(items)], mask=self.mask[list(items)])

    def row(self, index: int) -> Tensor | None:
        """Return the states `[n, C]` of one batch row without padding, or None for the null condition."""
        index = 0 if self.states.shape[0] == 1 else index
        keep = self.mask[index].bool()
        return self.states[index][keep] if bool(keep.any()) else None


class Lead(Protocol):
    """The vectors that a model prepends to one item's text; they are called rows here."""

    @property
    def is_null(self) -> bool:
        """True if the request gave no such condition for the item, so that only the null rows are used."""
        ...

    @property
    def acts_alone(self) -> bool:
        """True if the lead also acts while no description does; double guidance then guides away from it."""
        ...

    @property
    def size(self) -> int:
        """Number of rows, the same for the null rows."""
        ...

    def rows(self, lm: LMModel, device: torch.device) -> Tensor:
        """Project the lead to `[size, dim]`."""
        ...

    def null_rows(self, lm: LMModel, device: torch.device) -> Tensor:
        """Project the null condition of this kind to `[size, dim]`."""
        ...

    def during(self, first: int, num_frames: int, frame_rate: int) -> Lead:
        """Return the lead for one window of a long piece: num_frames frames from frame `first` on."""
        ...
