"""Preallocated key and value stores of one generation.

A :class:`KVCache` grows by slices into a fixed buffer, so that no step copies what came before.
A :class:`CrossCache` holds the projected condition, which stays the same from step to step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class KVCache:
    """Keys and values of one self-attention layer: `[rows, heads, capacity, head_dim]` each."""

    def __init__(
        self, rows: int, num_heads: int, capacity: int, head_dim: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (rows, num_heads, capacity, head_dim)
        # Zeros, not empty memory: masked keys meet their values with weight 0, and 0 x NaN is NaN.
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store `[rows, heads, n, head_dim]` behind what is there; return all up to now."""
        end = self.length + keys.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError(f"a KV cache of {self.keys.shape[2]} positions was asked to hold {end}.")
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class StaticKVCache(KVCache):
    """A cache that a recorded step can write at any place: it is named by a tensor, and not by a number.

    place: where the next key goes, int64 `[1]`; None while the prefill fills the cache from its
    beginning. bucket: how many places, from the first, attention is shown; what is not written
    yet is the mask's to hide.
    """

    place: Tensor | None = None
    bucket = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store `[rows, heads, n, head_dim]`, one key alone once there is a place; return what attention may see."""
        if self.place is None:
            return super().append(keys, values)
        self.keys.index_copy_(2, self.place, keys)
        self.values.index_copy_(2, self.place, values)
        return self.keys[:, :, : self.bucket], self.values[:, :, : self.bucket]


@dataclass(frozen=True)
class CrossCache:
    """Keys and values of one cross-attention layer, and which of a condition's vectors count.

    keys, values `[rows, heads, n, head_dim]`; mask bool `[rows, 1, 1, n]` or None for all. Rows of
    the batch beyond these have no condition: cross-attention adds exactly nothing to them.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None
