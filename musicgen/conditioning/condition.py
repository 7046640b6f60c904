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
class Span:
    """The time of a condition in seconds of the whole piece, a prompt included; an end of None is the piece's.

    A condition rises from 0 to 1 for `rise` seconds from `start` on, and falls for `fall` seconds from `end` on, so one
    that starts where the one before it ends takes over from it while both times are equal. From `start` on the model
    hears the last `carry` seconds before it only; None lets it hear everything.
    """

    start: float = 0.0
    end: float | None = None
    rise: float = 0.0
    fall: float = 0.0
    carry: float | None = None

    def weights(self, seconds: Tensor) -> Tensor:
        """Return how much the condition counts at each time, 0 to 1.

        >>> Span(2.0, 6.0, rise=2.0).weights(torch.tensor([1.0, 3.0, 5.0, 6.0]))
        tensor([0.0000, 0.5000, 1.0000, 0.0000])
        """
        begun = _ramp(seconds - self.start, self.rise)
        return begun if self.end is None else begun * (1.0 - _ramp(seconds - self.end, self.fall))

    def acts_in(self, first: float, last: float) -> bool:
        """Return whether the condition counts at some time from `first` to `last`."""
        return self.start <= last and (self.end is None or first <= self.end + self.fall)


def _ramp(seconds: Tensor, length: float) -> Tensor:
    """0 before 0 s, 1 from `length` on; a rounding error of a frame's time moves no change by a frame."""
    return (seconds / length).clamp(0.0, 1.0) if length > 0 else (seconds >= -1e-6).to(seconds.dtype)


@dataclass(frozen=True)
class TextCondition:
    """Encoded text, before the language model's own projection.

    Attributes:
        states: float `[B, n, C]`, or `[1, n, C]` for the same text in every batch row.
        mask: bool `[B, n]` or `[1, n]`, True = counts; a row with False only is the null condition.
        strength: weight among several conditions; 0 or less turns the condition off.
        start: time in the generated piece at which the condition starts to act, 0 to 1.
        end: time at which it ends, 0 to 1.
        span: its time in seconds of the whole piece, which limits it further; None for all of it.
        weight: a factor of its weight, which may be negative: weighted words are differences of conditions.
    """

    states: Tensor
    mask: Tensor
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    span: Span | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.states.dim() != 3 or self.mask.shape != self.states.shape[:2]:
            raise ValueError(
                f"text states have shape {list(self.states.shape)} and a mask {list(self.mask.shape)}; "
                "allowed are [B, n, C] and [B, n]."
            )

    @property
    def has_gaps(self) -> bool:
        """True if the condition does not act all the time."""
        return self._has_limits or (self.span is not None and self.span != Span())

    @property
    def _has_limits(self) -> bool:
        return self.start > 0.0 or self.end < 1.0 or self.strength <= 0.0

    def weights(self, shares: Tensor, seconds: Tensor) -> Tensor:
        """Return the weight of the condition at each time.

        Args:
            shares: times in the generated piece, 0 to 1, of any shape.
            seconds: the same times in seconds of the whole piece.
        """
        # A condition ends before its `end`, where the next one starts, except at the end of the piece.
        acts = (shares >= self.start) & ((shares < self.end) | (self.end >= 1.0))
        weights = max(self.strength, 0.0) * self.weight * acts
        return weights if self.span is None else weights * self.span.weights(seconds)

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


def leave_gaps(conditions: Sequence[TextCondition]) -> bool:
    """Return whether there may be a time at which no condition acts; spans that follow one another leave none."""
    if any(each._has_limits for each in conditions):
        return True
    spans = [each.span for each in conditions if each.span is not None]
    reached: float | None = 0.0 if spans and len(spans) == len(conditions) else None
    for span in sorted(spans, key=lambda span: span.start):
        # Where one rises from 0, the one before it must still act.
        if reached is not None and (span.start < reached or (span.start == reached and not span.rise)):
            reached = None if span.end is None else max(reached, span.end + span.fall)
    return reached is not None


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
