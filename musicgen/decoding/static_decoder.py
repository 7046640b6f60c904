"""Decoding in identical steps, so that one step can be recorded as a CUDA graph and replayed.

No step depends on a Python number. A tensor holds the column to fill, and the step increments it;
a tensor holds the cache position to write; attention reads a bucket of the cache, masked beyond the
written positions. Buckets grow by 256 positions, so that early steps do not read a mostly empty
cache, and a piece of 30 seconds takes six graphs. Noise is sent to the GPU in blocks, and the CPU
makes the next block while the GPU works on one. The CPU waits for the GPU once a block, to check
that the logits are finite. The loop of `engine.py` is the definition; this one returns the same
codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..lm.cache import StaticKVCache
from ..lm.language_model import LMModel
from ..lm.rows import Conditions, Rows
from .cuda_graph import Backend, GraphedFunction
from .engine import (
    SamplingParams,
    by_group,
    cross_caches,
    embed_columns,
    fill_column,
    require_finite,
    require_first_column,
)

BUCKET = 256
BLOCK = 32


def bucket_of(length: int) -> int:
    """Round a number of cache positions up to the bucket that a step reads.

    >>> bucket_of(1), bucket_of(256), bucket_of(257)
    (256, 256, 512)
    """
    return -(-length // BUCKET) * BUCKET


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    # Attention converts a boolean mask to this form; converting it here does so once for all layers.
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, float("-inf"))


class StaticDecoder:
    """The buffers of one generation, and its step. Call `close` at the end to free the graphs."""

    def __init__(
        self,
        lm: LMModel,
        conditions: Conditions,
        sequence: Tensor,
        sampling: SamplingParams,
        guide: Callable[[Tensor, Tensor], Tensor],
        backend: Backend,
    ) -> None:
        """Allocate the buffers.

        Args:
            lm: the language model.
            conditions: condition tensors of all rows.
            sequence: int64 `[B, K, S]`, filled in place.
            sampling: settings for drawing codes.
            guide: maps logits `[groups, B, K, card]` and a column, int64 `[1]`, to `[B, K, card]`.
            backend: records and replays the steps.
        """
        config, device = lm.config, sequence.device
        self.lm, self.conditions, self.sequence, self.sampling = lm, conditions, sequence, sampling
        self._guide, self._backend = guide, backend
        self._rows = Rows(conditions, device)
        count, head_dim = conditions.groups * sequence.shape[0], config.dim // config.num_heads
        capacity = bucket_of(self._rows.size + sequence.shape[2])
        self._caches = [
            StaticKVCache(count, config.num_heads, capacity, head_dim, device, lm.dtype)
            for _ in range(config.num_layers)
        ]
        self._cross = cross_caches(lm, conditions)
        # The condition's mask is the same in every step: convert it now.
        if self._cross and self._cross[0].mask is not None:
            mask = _additive(self._cross[0].mask, lm.dtype)
            self._cross = [replace(layer, mask=mask) for layer in self._cross]
        self._places = torch.arange(capacity, device=device)
        self._column = torch.zeros(1, dtype=torch.long, device=device)
        self._finite = torch.ones((), dtype=torch.bool, device=device)
        self._steps: dict[int, GraphedFunction] = {}

    def decode(
        self, first_step: int, noise: Callable[[], Tensor] | None, on_step: Callable[[int], None] | None = None
    ) -> Tensor:
        """Fill the unknown cells from column `first_step` on, as `decode_sequence` does, and return the sequence."""
        require_first_column(first_step)
        self._prefill(first_step)
        last = self.sequence.shape[2]
        self._column.fill_(first_step)
        made = self._noise(noise, min(BLOCK, last - first_step))
        for first in range(first_step, last, BLOCK):
            end = min(first + BLOCK, last)
            for step, arguments in zip(range(first, end), made, strict=True):
                self._step_at(step)(*arguments)
                if on_step is not None:
                    on_step(step)
            # The GPU still runs this block: make the next block's noise before waiting for it.
            made = self._noise(noise, min(BLOCK, last - end))
            require_finite(self._finite)
        return self.sequence

    def close(self) -> None:
        """Free the graphs."""
        for step in self._steps.values():
            step.free()
        self._steps.clear()

    def _prefill(self, first_step: int) -> None:
        """Prefill the cache with the prefix and the columns before `first_step - 1`, which the first step runs."""
        columns = self.sequence[:, :, : first_step - 1]
        hidden = embed_columns(self.lm, columns, self.conditions, prefill=True)  # [rows, length, dim]
        length = hidden.shape[1]
        if length:
            positions = self._rows.positions(0, length, hidden.device)
            mask = self._rows.mask(0, length, hidden.device)
            self.lm.transformer(hidden, positions, mask, self._caches, self._cross)
        for cache in self._caches:
            cache.place = self._column  # ends the prefill; each step sets its own position

    def _step_at(self, step: int) -> Callable[..., None]:
        """Return the step that fills a column; all columns of a bucket share one."""
        bucket = bucket_of(self._rows.size + step)
        if bucket not in self._steps:
            self._steps[bucket] = GraphedFunction(partial(self._step, bucket), self._backend)
        return self._steps[bucket]

    def _step(self, bucket: int, *noise: Tensor) -> None:
        """Fill one column. All numbers come from tensors and go to tensors."""
        # Column c - 1 is run to predict column c; its key goes behind the prefix and the columns before it.
        column = self._column
        place = column + (self._rows.size - 1)
        for cache in self._caches:
            cache.place, cache.bucket = place, bucket
        hidden = embed_columns(self.lm, self.sequence.index_select(2, column - 1), self.conditions, prefill=False)
        positions, seen = self._rows.at(place, self._places[:bucket])
        mask = _additive(seen, self.lm.dtype)
        logits = by_group(self.lm(hidden, positions, 1, mask, self._caches, self._cross), self.conditions.groups)
        guided = self._guide(logits, column)
        known = self.sequence.index_select(2, column)[:, :, 0]  # [B, K]
        filled = fill_column(known, guided, noise[0] if noise else None, self.sampling.at(column), self._finite)
        self.sequence.index_copy_(2, column, filled[:, :, None])
        column.add_(1)

    def _noise(self, noise: Callable[[], Tensor] | None, count: int) -> list[tuple[Tensor, ...]]:
        """Return the arguments of `count` steps; their noise `[count, B, K, card]` is sent to the device at once."""
        if noise is None or not count:
            return [()] * count
        first, device = noise(), self.sequence.device
        # The copy may outlive this function: torch reuses pinned memory only after copies from it are done.
        block = torch.empty(count, *first.shape, dtype=first.dtype, pin_memory=device.type == "cuda")
        block[0] = first
        for row in block[1:]:
            row.copy_(noise())
        return [(each,) for each in block.to(device, non_blocking=True)]
