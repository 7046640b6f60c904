"""Decoding: fill the unknown cells of a sequence, column after column.

The engine knows neither text nor audio nor patterns. It takes a sequence whose unknown cells are
-1, condition tensors, and two callables: one turns the logits of all row groups into the guided
logits of the batch, one gives the noise of a step. :class:`CachedDecoder` computes each position
once; :class:`FullDecoder` computes everything anew in every step and is the definition that the
other must equal, token for token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..lm.cache import CrossCache, KVCache
from ..lm.language_model import LMModel
from ..lm.rows import Conditions, Rows
from .sampling import sample_codes

UNKNOWN = -1
_CHECK_EVERY = 50


@dataclass(frozen=True)
class SamplingParams:
    """How codes are drawn; see :func:`sample_codes`."""

    temperature: float
    top_k: int
    top_p: float


class Decoder(Protocol):
    """Gives the logits that predict one column."""

    def next_logits(self, sequence: Tensor, step: int) -> Tensor:
        """Logits `[groups, B, K, card]` of column `step` of sequence `[B, K, S]`, from all columns before it."""
        ...


class CachedDecoder:
    """Computes each position once: prefill, then one column per step. Good for one generation."""

    def __init__(self, lm: LMModel, conditions: Conditions, batch: int, num_steps: int, device: torch.device) -> None:
        config, rows = lm.config, conditions.groups * batch
        self.lm, self.conditions, self.device = lm, conditions, device
        self.rows = Rows(conditions, device)
        capacity, head_dim = self.rows.size + num_steps, config.dim // config.num_heads
        self.caches = [
            KVCache(rows, config.num_heads, capacity, head_dim, device, lm.dtype) for _ in range(config.num_layers)
        ]
        self.cross = cross_caches(lm, conditions)
        self.columns = 0

    def next_logits(self, sequence: Tensor, step: int) -> Tensor:
        """Feed the columns not seen yet, up to `step`, and return the prediction for it."""
        hidden = embed_columns(self.lm, sequence[:, :, self.columns : step], self.conditions, prefill=self.columns == 0)
        first = self.caches[0].length
        last = first + hidden.shape[1]
        self.columns = step
        logits = self.lm(
            hidden,
            self.rows.positions(first, last, self.device),
            1,
            self.rows.mask(first, last, self.device),
            self.caches,
            self.cross,
        )
        return by_group(logits, self.conditions.groups)


class FullDecoder:
    """The definition: every step runs the whole prefix and sequence through the model, without a cache."""

    def __init__(self, lm: LMModel, conditions: Conditions, device: torch.device) -> None:
        self.lm, self.conditions, self.device = lm, conditions, device
        self.rows = Rows(conditions, device)

    def next_logits(self, sequence: Tensor, step: int) -> Tensor:
        """Run all columns before `step`."""
        hidden = embed_columns(self.lm, sequence[:, :, :step], self.conditions, prefill=True)
        logits = self.lm(
            hidden,
            self.rows.positions(0, hidden.shape[1], self.device),
            1,
            self.rows.mask(0, hidden.shape[1], self.device),
            None,
            cross_caches(self.lm, self.conditions),
        )
        return by_group(logits, self.conditions.groups)


def cross_caches(lm: LMModel, conditions: Conditions) -> list[CrossCache] | None:
    """Keys and values of the condition for all layers, None where there is nothing to attend to."""
    if conditions.cross is None or conditions.cross_mask is None:
        return None
    return lm.transformer.cross_caches(conditions.cross, conditions.cross_mask)


def embed_columns(lm: LMModel, columns: Tensor, conditions: Conditions, *, prefill: bool) -> Tensor:
    """Columns `[B, K, n]` as all rows see them, `[rows, n, dim]`; the prefix before them in the prefill."""
    hidden = lm.embed(columns).repeat(conditions.groups, 1, 1)
    if prefill and conditions.prefix is not None:
        hidden = torch.cat([conditions.prefix, hidden], dim=1)
    return hidden


def by_group(logits: Tensor, groups: int) -> Tensor:
    """Logits `[rows, K, 1, card]` -> `[groups, B, K, card]`."""
    return logits[:, :, -1].unflatten(0, (groups, -1))


def decode_sequence(
    decoder: Decoder,
    sequence: Tensor,
    first_step: int,
    sampling: SamplingParams,
    *,
    guide: Callable[[Tensor, int | Tensor], Tensor],
    noise: Callable[[], Tensor] | None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Fill the cells of `sequence` int64 `[B, K, S]` that are UNKNOWN, in place, and return it.

    first_step: the first column with an unknown cell; the ones before it are the prompt. guide
    maps logits `[groups, B, K, card]` and a column to `[B, K, card]`. noise gives Exp(1) numbers
    `[B, K, card]` for each column, filled or not; None decodes greedily. on_step is called after
    each column with its number; what it raises ends the decoding. Raises ValueError when the
    model's logits are not finite.
    """
    require_first_column(first_step)
    finite = torch.ones((), dtype=torch.bool, device=sequence.device)
    last = sequence.shape[2] - 1
    for step in range(first_step, last + 1):
        logits = guide(decoder.next_logits(sequence, step), step)  # [B, K, card]
        drawn = None if noise is None else noise().to(logits.device)
        sequence[:, :, step] = fill_column(sequence[:, :, step], logits, drawn, sampling, finite)
        if step == last or (step - first_step) % _CHECK_EVERY == 0:
            require_finite(finite)
        if on_step is not None:
            on_step(step)
    return sequence


def fill_column(
    column: Tensor, logits: Tensor, noise: Tensor | None, sampling: SamplingParams, finite: Tensor
) -> Tensor:
    """Draw the unknown cells of one column: the body that every decoding loop shares.

    Args:
        column: int64 `[B, K]`, UNKNOWN where a code is to be drawn.
        logits: guided, `[B, K, card]`.
        noise: Exp(1) numbers `[B, K, card]`, or None to take the likeliest codes.
        sampling: how codes are drawn.
        finite: bool scalar; set to False in place where a logit is NaN or infinite.

    Returns:
        The filled column, int64 `[B, K]`.
    """
    finite.logical_and_(torch.isfinite(logits).all())
    drawn = sample_codes(logits, noise, temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p)
    return torch.where(column == UNKNOWN, drawn, column)


def require_first_column(first_step: int) -> None:
    """Raise ValueError if there is no column before the first one to fill."""
    if first_step < 1:
        raise ValueError("the pattern's column 0 holds codes; decoding needs an empty first column to start from.")


def require_finite(finite: Tensor) -> None:
    """Raise ValueError if a step's logits were not finite; waits for the device."""
    if not bool(finite):
        raise ValueError(
            "the language model's logits are NaN or infinite: its numbers overflowed or its weights are damaged; "
            "load it with dtype fp32 or bf16, or fetch the checkpoint again."
        )
