"""Guidance: choose the condition groups of a request, and combine their logits into one prediction.

Classifier-free guidance (Ho and Salimans 2022) with conditions that have a strength and a time, and numbers that may
change over time; and the double guidance of MusicGen's style models (Rouard et al. 2024), for melodies too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning.condition import Lead, TextCondition, leave_gaps
from .params import GenerationParams
from .schedule import Numbers, Schedules, at_step, on_device


def guide(conditional: Tensor, unconditional: Tensor, cfg_coef: float) -> Tensor:
    """Apply classifier-free guidance (Ho and Salimans 2022) to raw logits of any shape.

    >>> guide(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0]), 3.0)
    tensor([ 4., -2.])
    """
    return unconditional + (conditional - unconditional) * cfg_coef


@dataclass(frozen=True)
class Branches:
    """The condition groups of one request.

    In row order: positives, the lead alone, the positives without the lead, negatives, the null condition. lead_fills:
    the lead acts alone where no description does.
    """

    positive: tuple[TextCondition, ...]
    negative: tuple[TextCondition, ...]
    with_null: bool
    with_lead_alone: bool = False
    lead_fills: bool = False
    without_lead: bool = False

    @property
    def groups(self) -> list[TextCondition | None]:
        """One condition per group, None for a group without text."""
        alone = [None] * self.with_lead_alone
        return [*self.positive, *alone, *self.positive * self.without_lead, *self.negative, *[None] * self.with_null]

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
    schedules: Schedules | None = None,
) -> Branches:
    """Choose the groups to decode; a group that would not change the prediction is left out.

    Args:
        positive: conditions to guide towards; at least one.
        negative: conditions to guide away from; none for the null condition.
        params: the request's cfg_coef and cfg_coef_beta.
        leads: one per item, for models that prepend their conditions.
        schedules: the numbers that change over time; a number with a schedule may have any value.

    Raises:
        ValueError: no positive condition was given.
    """
    if not positive:
        raise ValueError("no condition was given; give at least one, an empty description for none.")
    schedules = schedules or Schedules()
    led = any(not lead.is_null for lead in leads)
    no_text = all(not bool(c.mask.any()) for c in positive)
    gaps = leave_gaps(positive)
    # A lead that acts alone needs a group of its own for gaps between descriptions, and any lead for double guidance.
    fills = led and gaps and any(lead.acts_alone for lead in leads)
    doubled = schedules.cfg_coef_beta is not None or params.cfg_coef_beta not in (None, 1.0)
    alone = fills or (led and doubled and not no_text)
    without_lead = led and schedules.lead_strength is not None
    null_in_gaps = gaps and (without_lead or not fills)
    if params.cfg_coef == 1.0 and schedules.cfg_coef is None:
        return Branches(tuple(positive), (), null_in_gaps, alone, fills, without_lead)
    needs_null = null_in_gaps or leave_gaps(negative) or not (negative or (no_text and not led))
    return Branches(tuple(positive), tuple(negative), needs_null, alone, fills, without_lead)


@dataclass(frozen=True)
class Cells:
    """The time of each cell of a window's sequence, both `[K, S]`.

    Attributes:
        shares: share of the generated piece, 0 to 1; codes of the prompt and empty cells have 0.
        seconds: seconds of the whole piece, a prompt included.
    """

    shares: Tensor
    seconds: Tensor


class _Mixer:
    """Average the logits of several conditions, weighted by strength; each counts only in its own time."""

    def __init__(self, conditions: Sequence[TextCondition], cells: Cells, device: torch.device) -> None:
        """Compute the weights `[G, K, S]`."""
        self.single = len(conditions) == 1 and not conditions[0].has_gaps
        self.weights = torch.stack([c.weights(cells.shares, cells.seconds) for c in conditions]).to(device)

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


def _guide_at(conditional: Tensor, away: Tensor, coef: float | Tensor, step: int | Tensor) -> Tensor:
    """Guide `[B, K, card]` by a number, or by one number for each cell `[K, S]`; 1 leaves the conditional as it is."""
    coef = at_step(coef, step)
    if isinstance(coef, Tensor):
        # A code at a time where guidance is off is the code without guidance: no rounding of `away` enters it.
        return torch.where(coef == 1.0, conditional, away + (conditional - away) * coef)
    return conditional if coef == 1.0 else guide(conditional, away, coef)


def guidance(
    branches: Branches, cells: Cells, numbers: Numbers, device: torch.device
) -> Callable[[Tensor, int | Tensor], Tensor]:
    """Return the function that combines the groups' logits of one step into one prediction.

    The caches of all groups hold the same codes, so a condition may start or end at any step, and every number may
    change at any step. Guidance is applied up to three times: by the strength of the lead away from the descriptions
    without it, by double guidance away from the lead alone, and by cfg_coef away from the negatives or the null
    condition.

    Args:
        branches: the condition groups.
        cells: time of each cell.
        numbers: cfg_coef, cfg_coef_beta and the strength of the lead, each a number or `[K, S]`.
        device: where the logits are.

    Returns:
        A function of logits `[groups, B, K, card]` and a step, a number or an int64 tensor `[1]`,
        to guided logits `[B, K, card]`.
    """
    first = len(branches.positive)
    second = first + branches.with_lead_alone
    third = second + first * branches.without_lead
    positive = _Mixer(branches.positive, cells, device)
    negative = _Mixer(branches.negative, cells, device) if branches.negative else None
    cfg_coef, beta, strength = (
        on_device(number, device) for number in (numbers.cfg_coef, numbers.cfg_coef_beta, numbers.lead_strength)
    )

    def apply(logits: Tensor, step: int | Tensor) -> Tensor:
        null = logits[-1] if branches.with_null else None
        alone = logits[first] if branches.with_lead_alone else None
        conditional = positive(logits[:first], step, alone if branches.lead_fills else null)
        if branches.without_lead:
            conditional = _guide_at(conditional, positive(logits[second:third], step, null), strength, step)
        if alone is not None:
            conditional = _guide_at(conditional, alone, beta, step)
        away = null if negative is None else negative(logits[third : third + len(branches.negative)], step, null)
        return conditional if away is None else _guide_at(conditional, away, cfg_coef, step)

    return apply
