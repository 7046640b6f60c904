"""Key and value caches of one generation.

A :class:`KVCache` writes into a buffer of fixed size, so that no step copies earlier keys and values.
On a CPU it may keep them in float16, which holds half the bytes and about three digits.
A :class:`CrossCache` holds the projected condition, which is the same in every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .large_pages import LargePages

_MOST = torch.finfo(torch.float16).max


class KVCache:
    """Keys and values of one self-attention layer: `[rows, heads, capacity, head_dim]` each."""

    def __init__(
        self,
        rows: int,
        num_heads: int,
        capacity: int,
        head_dim: int,
        device: torch.device,
        dtype: torch.dtype,
        pages: LargePages | None = None,
    ) -> None:
        # Zeros, not empty memory: masked values are multiplied by weight 0, and 0 x NaN is NaN.
        both = (2, rows, num_heads, capacity, head_dim)
        self.keys, self.values = (
            torch.zeros(both, device=device, dtype=dtype) if pages is None else pages.zeros(both, dtype)
        )
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store `[rows, heads, n, head_dim]` after the earlier keys and values, and return all of them.

        Raises:
            ValueError: the cache is full.
        """
        end = self.length + keys.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError(
                f"a KV cache of {self.keys.shape[2]} positions was asked to hold {end}; allocate one with a larger "
                "capacity."
            )
        if self.keys.dtype == torch.float16 != keys.dtype and max(map(_largest, (keys, values))) > _MOST:
            self.widen()
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end].to(keys.dtype), self.values[:, :, :end].to(keys.dtype)

    def widen(self) -> None:
        """Keep the numbers in float32 from now on."""
        self.keys, self.values = self.keys.float(), self.values.float()


def _largest(numbers: Tensor) -> float:
    return float(numbers.abs().amax())


class StaticKVCache(KVCache):
    """A cache for recorded steps, which write at a position from a tensor and not from a Python number.

    Attributes:
        place: index of the next key, int64 `[1]`; None during the prefill, which appends from index 0.
        bucket: number of keys, from the first, that `append` returns; a mask must hide the ones that
            are not written yet.
    """

    place: Tensor | None = None
    bucket = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store `[rows, heads, n, head_dim]`, n = 1 after the prefill, and return the keys and values of the bucket."""
        if self.place is None:
            return super().append(keys, values)
        self.keys.index_copy_(2, self.place, keys)
        self.values.index_copy_(2, self.place, values)
        return self.keys[:, :, : self.bucket], self.values[:, :, : self.bucket]


@dataclass(frozen=True)
class CrossCache:
    """Keys and values of one cross-attention layer, and the mask of the condition.

    Rows of the batch beyond these rows have no condition; cross-attention adds exactly nothing to them.

    Attributes:
        keys: `[rows, heads, n, head_dim]`.
        values: `[rows, heads, n, head_dim]`.
        mask: `[rows, 1, 1, n]`, bool with True = counts, or a float mask to add; None if all vectors count.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None
