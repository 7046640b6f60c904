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


@dataclass(frozen=True)
class CrossCache:
    """Keys and values of one cross-attention layer, and which of a condition's vectors count.

    keys, values `[rows, heads, n, head_dim]`; mask bool `[rows, 1, 1, n]` or None for all. Rows of
    the batch beyond these have no condition: cross-attention adds exactly nothing to them.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None
