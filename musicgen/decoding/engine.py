"""Decoding: fill the unknown cells of a sequence, column after column.

The engine knows neither text nor audio nor patterns. It takes a sequence whose unknown cells are
-1, condition tensors, and two callables: one turns the logits of all row groups into the guided
logits of the batch, the other returns the noise of a step. :class:`CachedDecoder` computes each
position once. :class:`FullDecoder` recomputes the whole sequence in every step; it is the
definition, and the other must equal it token for token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..lm.cache import CrossCache, KVCache
from ..lm.cpu_compiler import give_up
from ..lm.cpu_linear import plain_weights
from ..lm.cpu_step import CompiledStep, cache_dtype
from ..lm.cpu_team import Team
from ..lm.language_model import LMModel
from ..lm.large_pages import LargePages
from ..lm.rows import Conditions, Rows
from .sampling import sample_codes

UNKNOWN = -1
_CHECK_EVERY = 50
_FEW_COLUMNS = 4


@dataclass(frozen=True)
class SamplingParams:
    """Settings for drawing codes; see :func:`sample_codes`. Each is a number, or a tensor `[K, S]` for all cells."""

    temperature: float | Tensor
    top_k: int | Tensor
    top_p: float | Tensor

    def at(self, step: int | Tensor) -> SamplingParams:
        """Return the settings of one column, whose tensors are `[K]`; step is a number or an int64 tensor `[1]`."""
        drawn = (self.temperature, self.top_k, self.top_p)
        if not any(isinstance(value, Tensor) for value in drawn):
            return self
        top_k = _column(self.top_k, step) if isinstance(self.top_k, Tensor) else self.top_k
        temperature, top_p = (
            _column(value, step) if isinstance(value, Tensor) else value for value in (self.temperature, self.top_p)
        )
        return SamplingParams(temperature, top_k, top_p)


def _column(values: Tensor, step: int | Tensor) -> Tensor:
    """Column of `[K, S]` as `[K]`; a Python number as an index would make the CPU wait for the GPU."""
    return values.index_select(1, step)[:, 0] if isinstance(step, Tensor) else values[:, step]


class Decoder(Protocol):
    """Predict one column at a time."""

    def next_logits(self, sequence: Tensor, step: int) -> Tensor:
        """Predict column `step` of sequence `[B, K, S]` from all columns before it: logits `[groups, B, K, card]`."""
        ...


class CachedDecoder:
    """Compute each position once: prefill, then one column per step. Use a new one for each generation."""

    def __init__(
        self,
        lm: LMModel,
        conditions: Conditions,
        batch: int,
        num_steps: int,
        device: torch.device,
        team: Team | None = None,
    ) -> None:
        """Allocate the caches and project the conditions.

        Args:
            lm: the language model.
            conditions: condition tensors of all rows.
            batch: number of items, B.
            num_steps: columns that the cache must hold besides the prefix.
            device: where to compute.
            team: threads that run compiled steps, for a model and a device for which `why_ordinary` gives no
                reason against them; None runs the ordinary step.
        """
        config, rows = lm.config, conditions.groups * batch
        self.lm, self.conditions, self.device = lm, conditions, device
        self.rows = Rows(conditions, device)
        capacity, head_dim = self.rows.size + num_steps, config.dim // config.num_heads
        kept = lm.dtype if team is None else cache_dtype(lm)
        pages = LargePages() if device.type == "cpu" else None
        self.caches = [
            KVCache(rows, config.num_heads, capacity, head_dim, device, kept, pages) for _ in range(config.num_layers)
        ]
        self.columns = 0
        self._team = team
        with self._for_large_products():
            self.cross = cross_caches(lm, conditions)
        self._compiled = (
            None if team is None else CompiledStep(lm, self.caches, self.cross, batch, self.rows.pads, team)
        )

    def next_logits(self, sequence: Tensor, step: int) -> Tensor:
        """Run the columns that are not in the cache yet, up to `step`, and return the prediction for it."""
        has_begun = self.columns > 0 or self.rows.size == 0
        if self._compiled is not None and has_begun and step - self.columns <= _FEW_COLUMNS:
            while self.columns < step:
                logits = self._run_compiled(sequence)
                self.columns += 1
        else:
            with self._for_large_products():
                logits = self._feed(sequence, step)
        self.columns = step
        return by_group(logits, self.conditions.groups)

    def _run_compiled(self, sequence: Tensor) -> Tensor:
        """Feed the next column to the compiled step, if it may be trusted: logits `[rows, K, 1, card]`.

        In the first step of a process the ordinary one runs beside it. Where they differ, or the compiled
        one fails, the ordinary one goes on from here.
        """
        codes, following, length = sequence[:, :, self.columns], self.columns + 1, self.caches[0].length
        compiled, team = self._compiled, self._team
        if compiled is None or team is None:
            return self._feed(sequence, following)
        if compiled.proven:
            return compiled(codes)
        with team.lend_to_torch(), plain_weights(rounded=True):
            expected = self._feed(sequence, following)
        if not bool(torch.isfinite(expected).all()):
            return expected
        self._set_length(length)
        try:
            logits, fault = compiled.agrees(codes, expected)
        except (RuntimeError, OSError) as error:
            fault = f"it failed with {type(error).__name__}: {error}"
        if fault is None:
            return logits
        give_up(fault)
        self._compiled = self._team = None
        team.give_back()
        self._set_length(length)
        for cache in self.caches:
            cache.widen()
        return self._feed(sequence, following)

    def _set_length(self, length: int) -> None:
        for cache in self.caches:
            cache.length = length

    def _feed(self, sequence: Tensor, step: int) -> Tensor:
        """Feed the columns up to `step` to the ordinary step, the prefix before the first."""
        # [rows, n, dim]: n columns, in the prefill after the prefix
        hidden = embed_columns(self.lm, sequence[:, :, self.columns : step], self.conditions, prefill=self.columns == 0)
        first = self.caches[0].length
        last = first + hidden.shape[1]
        return self.lm(
            hidden,
            self.rows.positions(first, last, self.device),
            1,
            self.rows.mask(first, last, self.device),
            self.caches,
            self.cross,
        )

    @contextmanager
    def _for_large_products(self) -> Iterator[None]:
        """Give torch the team's threads, and make no packed copies: these pay only over many steps."""
        if self._team is None:
            yield
        else:
            with self._team.lend_to_torch(), plain_weights():
                yield


class FullDecoder:
    """The definition: run the whole prefix and sequence through the model in every step, without a cache."""

    def __init__(self, lm: LMModel, conditions: Conditions, device: torch.device) -> None:
        self.lm, self.conditions, self.device = lm, conditions, device
        self.rows = Rows(conditions, device)

    def next_logits(self, sequence: Tensor, step: int) -> Tensor:
        """Run all columns before `step` and return the prediction for it."""
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
    """Project the condition to keys and values for each layer; None without a condition to attend to."""
    if conditions.cross is None or conditions.cross_mask is None:
        return None
    return lm.transformer.cross_caches(conditions.cross, conditions.cross_mask)


def embed_columns(lm: LMModel, columns: Tensor, conditions: Conditions, *, prefill: bool) -> Tensor:
    """Embed columns `[B, K, n]` for all rows, `[rows, n, dim]`; the prefill puts the prefix before them."""
    hidden = lm.embed(columns).repeat(conditions.groups, 1, 1)  # [rows, n, dim]
    if prefill and conditions.prefix is not None:
        hidden = torch.cat([conditions.prefix, hidden], dim=1)  # [rows, p + n, dim]
    return hidden


def by_group(logits: Tensor, groups: int) -> Tensor:
    """Split the rows of logits `[rows, K, 1, card]` by group: `[groups, B, K, card]`."""
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
    """Fill the UNKNOWN cells of a sequence in place, column by column.

    Args:
        decoder: predicts each column from the ones before it.
        sequence: int64 `[B, K, S]`.
        first_step: the first column with an unknown cell; the columns before it are the prompt.
        sampling: settings for drawing codes.
        guide: maps logits `[groups, B, K, card]` and a column number to guided logits `[B, K, card]`.
        noise: returns Exp(1) numbers `[B, K, card]`, once per column even if all its cells are known;
            None decodes greedily.
        on_step: called with each column's number once it is filled; an exception from it ends decoding.

    Returns:
        The same sequence, int64 `[B, K, S]`.

    Raises:
        ValueError: the model's logits are NaN or infinite, or `first_step` is 0.
    """
    require_first_column(first_step)
    finite = torch.ones((), dtype=torch.bool, device=sequence.device)
    last = sequence.shape[2] - 1
    for step in range(first_step, last + 1):
        logits = guide(decoder.next_logits(sequence, step), step)  # [B, K, card]
        drawn = None if noise is None else noise().to(logits.device)
        sequence[:, :, step] = fill_column(sequence[:, :, step], logits, drawn, sampling.at(step), finite)
        # Reading the flag waits for the device, so it is read every few steps only.
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
        column: int64 `[B, K]`, UNKNOWN where a code must be drawn.
        logits: guided logits `[B, K, card]`.
        noise: Exp(1) numbers `[B, K, card]`, or None to take the likeliest codes.
        sampling: settings for drawing codes.
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
