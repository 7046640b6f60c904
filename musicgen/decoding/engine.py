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
from .sampling import sample_codes

UNKNOWN = -1
_CHECK_EVERY = 50


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


@dataclass(frozen=True)
class SamplingParams:
    """How codes are drawn; see :func:`musicgen.sampling.sample_codes`."""

    temperature: float
    top_k: int
    top_p: float


class Decoder(Protocol):
    """Gives the logits that predict one column."""

    def next_logits(self, sequence: Tensor, step: int) -> Tensor:
        """Logits `[groups, B, K, card]` of column `step` of sequence `[B, K, S]`, from all columns before it."""
        ...


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
        logits = guide(decoder.next_logits(sequence, step), step)
        finite &= torch.isfinite(logits).all()
        if step == last or (step - first_step) % _CHECK_EVERY == 0:
            require_finite(finite)
        drawn = sample_codes(
            logits,
            None if noise is None else noise().to(logits.device),
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
        )
        column = sequence[:, :, step]
        sequence[:, :, step] = torch.where(column == UNKNOWN, drawn, column)
        if on_step is not None:
            on_step(step)
    return sequence


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
