"""Rows: the condition tensors of one generation, and where each row's places stand.

A batch item is decoded under several conditions at once, one row for each. In models that prepend
their conditions the rows differ in length; shorter ones are padded on the left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """Condition tensors of all rows. Rows stand group by group: row = group x batch + item.

    groups: how many conditions each item is decoded under at once (guidance has two).
    cross `[r, n, dim]` with cross_mask bool `[r, n]`, True = counts: cross-attention models; the rows
    beyond r, or all without it, have the null condition.
    prefix `[rows, p, dim]`, each row's prefix_lengths last entries count: prepend models.
    """

    groups: int
    cross: Tensor | None = None
    cross_mask: Tensor | None = None
    prefix: Tensor | None = None
    prefix_lengths: Tensor | None = None

    @property
    def prefix_size(self) -> int:
        """p, the longest prefix."""
        return 0 if self.prefix is None else self.prefix.shape[1]


class Rows:
    """Positions and masks of rows whose prefixes differ in length; shorter prefixes are padded on the left."""

    def __init__(self, conditions: Conditions, device: torch.device) -> None:
        self.size = conditions.prefix_size
        lengths = conditions.prefix_lengths
        self.pads: Tensor | None = None
        if lengths is not None and bool((lengths != self.size).any()):
            self.pads = (self.size - lengths).to(device)

    def positions(self, first: int, last: int, device: torch.device) -> Tensor:
        """Positions of the buffer's places first to last: a padded row starts counting at its own prefix."""
        places = torch.arange(first, last, device=device)
        return places if self.pads is None else (places - self.pads[:, None]).clamp_min(0)

    def mask(self, first: int, last: int, device: torch.device) -> Tensor | None:
        """Which of the keys 0 to last the places from first on may see; None: simply those before them."""
        if self.pads is None:
            return None
        keys = torch.arange(last, device=device)
        queries = torch.arange(first, last, device=device)[:, None]
        causal = (keys <= queries) & (keys >= self.pads[:, None, None])
        # A place of padding sees itself, so that its softmax is over something.
        return (causal | (keys == queries))[:, None]

    def at(self, place: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Of the one place in a tensor `[1]`: its position in each row, and which of the places `keys` it may see."""
        seen = keys <= place
        if self.pads is None:
            return place, seen[None, None, None]
        return (place - self.pads[:, None]).clamp_min(0), (seen & (keys >= self.pads[:, None]))[:, None, None]
