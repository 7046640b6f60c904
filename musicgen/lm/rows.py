"""Rows: the condition tensors of one generation, and the positions and masks of its rows.

A batch item is decoded under several conditions at once, one row for each. In models that prepend
their conditions the rows differ in length; shorter ones are padded on the left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """Condition tensors of all rows, ordered by group: row = group x batch + item.

    Attributes:
        groups: number of conditions that each item is decoded under at once (guidance has two).
        cross: for models with cross-attention, `[r, n, dim]`. Rows from r on have the null
            condition; without `cross` all rows have it.
        cross_mask: bool `[r, n]`, True = counts.
        prefix: for models that prepend conditions, `[rows, p, dim]`, padded on the left.
        prefix_lengths: number of vectors at the end of each row's prefix that count, int `[rows]`.
    """

    groups: int
    cross: Tensor | None = None
    cross_mask: Tensor | None = None
    prefix: Tensor | None = None
    prefix_lengths: Tensor | None = None

    @property
    def prefix_size(self) -> int:
        """p, the length of the longest prefix."""
        return 0 if self.prefix is None else self.prefix.shape[1]

    def of_one_item(self, batch: int) -> Conditions | None:
        """Return the conditions of one item if all items of a batch have the same ones, else None."""
        found: dict[str, Any] = {}
        for name in ("cross", "cross_mask", "prefix", "prefix_lengths"):
            rows = getattr(self, name)
            if rows is None:
                continue
            if len(rows) % batch:
                return None
            grouped = rows.unflatten(0, (-1, batch))  # [groups, B, ...]
            if not bool((grouped == grouped[:, :1]).all()):
                return None
            found[name] = grouped[:, 0]
        return replace(self, **found)


class Rows:
    """Positions and masks of rows whose prefixes differ in length and are padded on the left.

    An index counts from the start of the buffer, padding included; a position counts from the start
    of the row's own prefix.
    """

    def __init__(self, conditions: Conditions, device: torch.device) -> None:
        self.size = conditions.prefix_size
        lengths = conditions.prefix_lengths
        self.pads: Tensor | None = None
        if lengths is not None and bool((lengths != self.size).any()):
            self.pads = (self.size - lengths).to(device)

    def positions(self, first: int, last: int, device: torch.device) -> Tensor:
        """Return the positions of indices `first` to `last - 1`: `[n]`, or `[rows, n]` with padding."""
        places = torch.arange(first, last, device=device)
        return places if self.pads is None else (places - self.pads[:, None]).clamp_min(0)

    def mask(self, first: int, last: int, device: torch.device) -> Tensor | None:
        """Return which keys 0 to `last - 1` the queries from `first` on may attend to.

        A bool mask `[rows, 1, n, last]`, or None without padding, where attention is plainly causal.
        """
        if self.pads is None:
            return None
        keys = torch.arange(last, device=device)
        queries = torch.arange(first, last, device=device)[:, None]
        causal = (keys <= queries) & (keys >= self.pads[:, None, None])
        # A padded query attends to itself: a softmax over no key would be NaN.
        return (causal | (keys == queries))[:, None]

    def at(self, place: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the position of one index in each row, and the keys that it may attend to.

        Args:
            place: the index, int64 `[1]`.
            keys: indices of the keys, int64 `[n]`.

        Returns:
            Positions `[1]`, or `[rows, 1]` with padding; and a bool mask `[1 or rows, 1, 1, n]`.
        """
        seen = keys <= place
        if self.pads is None:
            return place, seen[None, None, None]
        return (place - self.pads[:, None]).clamp_min(0), (seen & (keys >= self.pads[:, None]))[:, None, None]
