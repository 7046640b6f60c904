"""Guidance: choose the condition groups of a request, and combine their logits into one prediction.

Classifier-free guidance (Ho and Salimans 2022) with conditions that have a strength and a time, and
the double guidance of MusicGen's style models (Rouard et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning.condition import Lead, TextCondition
from .params import GenerationParams


def guide(conditional: Tensor, unconditional: Tensor, cfg_coef: float) -> Tensor:
    """Apply classifier-free guidance (Ho and Salimans 2022) to raw logits of any shape.

    >>> guide(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0]), 3.0)
    tensor([ 4., -2.])
    """
    return unconditional + (conditional - unconditional) * cfg_coef


@dataclass(frozen=True)
class Branches:
    """The condition groups of one request, in row order: positives, the lead alone, negatives, the null condition."""

    positive: tuple[TextCondition, ...]
    negative: tuple[TextCondition, ...]
    with_null: bool
    with_lead_alone: bool = False

    @property
    def groups(self) -> list[TextCondition | None]:
        """One condition per group, None for a group without text."""
        alone = [None] * self.with_lead_alone
        return [*self.positive, *alone, *self.negative, *[None] * self.with_null]

    @property
    def led(self) -> list[bool]:
        """Per group, True if its rows get the item's lead, False if they get the null rows of the lead."""
        count = len(self.positive) + self.with_lead_alone
        return [index < count for index in range(len(self.groups))]


def plan_branches(
    positive: Sequence[TextCondition],
    negative: Sequence[TextCondition],
    params: GenerationParams,
    leads: Sequence[Lead] = (),
) -> Branches:
    """Choose the groups to decode; a group that would not change the prediction is left out.

    Args:
        positive: conditions to guide towards; at least one.
        negative: conditions to guide away from; none for the null condition.
        params: the request's cfg_coef and cfg_coef_beta.
        leads: one per item, for models that prepend their conditions.

    Raises:
        ValueError: no positive condition was given.
    """
    if not positive:
        raise ValueError("no condition was given; give at least one, an empty description for none.")
    led = any(not lead.is_null for lead in leads)
    no_text = all(not bool(c.mask.any()) for c in positive)
    gaps = any(c.has_gaps for c in positive)
    # A lead that acts alone needs a group of its own for gaps between descriptions and for double guidance.
    alone = led and any(lead.acts_alone for lead in leads)
    alone = alone and (gaps or not (no_text or params.cfg_coef_beta in (None, 1.0)))
    gaps = gaps and not alone
    if params.cfg_coef == 1.0:
        return Branches(tuple(positive), (), gaps, alone)
    needs_null = gaps or any(c.has_gaps for c in negative) or not (negative or (no_text and not led))
    return Branches(tuple(positive), tuple(negative), needs_null, alone)


class _Mixer:
    """Average the logits of several conditions, weighted by strength; each counts only in its own time."""

    def __init__(self, conditions: Sequence[TextCondition], shares: Tensor, device: torch.device) -> None:
        """Compute the weights `[G, K, S]`; shares `[K, S]`: time of each cell in the generated piece, 0 to 1."""
        weights = [
            # A condition ends before its `end`, where the next one starts, except at the end of the piece.
            max(c.strength, 0.0) * ((shares >= c.start) & ((shares < c.end) | (c.end >= 1.0)))
            for c in conditions
        ]
        self.single = len(conditions) == 1 and not conditions[0].has_gaps
        self.weights = torch.stack(weights).to(device)

    def __call__(self, logits: Tensor, step: int | Tensor, fallback: Tensor | None) -> Tensor:
        """Average logits `[G, B, K, card]` to `[B, K, card]`; `fallback` replaces cells where no condition acts."""
        if self.single:
            return logits[0]
        # Select by a tensor on the device, since a Python number would make the CPU wait for the GPU: [G, K]
        weights = self.weights.index_select(2, step)[..., 0] if isinstance(step, Tensor) else self.weights[:, :, step]
        total = weights.sum(dim=0)
        shares = weights / total.clamp_min(1e-12)
        mixed = (logits * shares[:, None, :, None]).sum(dim=0)
        return mixed if fallback is None else torch.where((total > 0)[None, :, None], mixed, fallback)


def guidance(
    branches: Branches, shares: Tensor, params: GenerationParams, device: torch.device
) -> Callable[[Tensor, int | Tensor], Tensor]:
    """Return the function that combines the groups' logits of one step into one prediction.

    The caches of all groups hold the same codes, so a condition may start or end at any step. Double
    guidance applies twice: first it guides the description away from the style alone, then the
    result away from the null condition.

    Args:
        branches: the condition groups.
        shares: time of each cell in the generated piece, 0 to 1, `[K, S]`.
        params: the request's cfg_coef and cfg_coef_beta.
        device: where the logits are.

    Returns:
        A function of logits `[groups, B, K, card]` and a step, a number or an int64 tensor `[1]`,
        to guided logits `[B, K, card]`.
    """
    first = len(branches.positive)
    second = first + branches.with_lead_alone
    positive = _Mixer(branches.positive, shares, device)
    negative = _Mixer(branches.negative, shares, device) if branches.negative else None
    cfg_coef, beta = params.cfg_coef, params.cfg_coef_beta

    def apply(logits: Tensor, step: int | Tensor) -> Tensor:
        null = logits[-1] if branches.with_null else None
        alone = logits[first] if branches.with_lead_alone else None
        conditional = positive(logits[:first], step, null if alone is None else alone)
        if alone is not None and beta is not None:
            conditional = guide(conditional, alone, beta)
        away = null if negative is None else negative(logits[second : second + len(branches.negative)], step, null)
        return conditional if away is None or cfg_coef == 1.0 else guide(conditional, away, cfg_coef)

    return apply
