"""Fuse conditions into rows: text and lead, projected, one row per condition group and batch item.

A row without text gets the null condition. For cross-attention this is one zero vector, which adds
exactly nothing, or no entry at all. For models that prepend conditions it is as many zero vectors as
the text has that it is guided against: these models attend to the zeros, and the positions of the
codes count from the prefix on. A row that is guided away from the lead gets the lead's null rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..lm.language_model import LMModel
from ..lm.rows import Conditions
from .condition import Lead, TextCondition


def fuse(
    lm: LMModel,
    groups: Sequence[TextCondition | None],
    batch: int,
    device: torch.device,
    *,
    led: Sequence[bool],
    leads: Sequence[Lead] = (),
) -> Conditions:
    """Build the condition tensors of `len(groups)` x batch rows.

    Args:
        lm: the model that projects the conditions.
        groups: a text condition per group, None for the null condition, which is guided against the
            first group.
        batch: number of items.
        device: where to compute.
        led: per group, True if its rows get the items' leads, False for the null rows of these.
        leads: one per item, for models that prepend their conditions.

    Returns:
        The condition tensors on `device`, group by group.

    Raises:
        ValueError: a model that prepends its conditions was given no leads.
    """
    texts = [[None if group is None else group.row(item) for item in range(batch)] for group in groups]
    if lm.config.cross_attention:
        return _fuse_cross(lm, texts, device)
    if len(leads) != batch:
        raise ValueError(f"{len(leads)} leads were given for a batch of {batch}; this model needs one for each item.")
    given = [lead.rows(lm, device) for lead in leads]
    null = [lead.null_rows(lm, device) for lead in leads]
    return _fuse_prefix(lm, texts, [(given if guided else null)[item] for guided in led for item in range(batch)])


def _project_texts(
    lm: LMModel, texts: list[Tensor | None], lengths: list[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Project texts of different lengths together to `[rows, longest, dim]`, with their mask; None gives zeros."""
    states = torch.zeros(len(texts), max(lengths), lm.config.text_dim, device=device)
    mask = torch.zeros(len(texts), max(lengths), dtype=torch.bool, device=device)
    for row, text in enumerate(texts):
        if text is not None:
            states[row, : text.shape[0]] = text.to(device)
            mask[row, : text.shape[0]] = True
    return lm.project_description(states, mask), mask


def _fuse_cross(lm: LMModel, texts: list[list[Tensor | None]], device: torch.device) -> Conditions:
    rows = [text for group in texts for text in group]
    # Leave out null rows at the end: cross-attention would add nothing to them.
    while rows and rows[-1] is None:
        rows.pop()
    if not rows:
        return Conditions(len(texts))
    lengths = [1 if text is None else text.shape[0] for text in rows]
    cross, mask = _project_texts(lm, rows, lengths, device)
    mask[[row for row, text in enumerate(rows) if text is None], 0] = True
    return Conditions(len(texts), cross=cross, cross_mask=mask)


def _fuse_prefix(lm: LMModel, texts: list[list[Tensor | None]], leads: list[Tensor]) -> Conditions:
    """Prepend each row's lead `[n, dim]` to its text, padded on the left to the longest row."""
    # A row without text is as long as the text of the same item in the first group.
    own = [1 if text is None else text.shape[0] for text in texts[0]]
    rows = [text for group in texts for text in group]
    lengths = [own[row % len(own)] if text is None else text.shape[0] for row, text in enumerate(rows)]
    if (fixed := lm.config.text_length) is not None:
        rows = [None if text is None else text[:fixed] for text in rows]
        lengths = [fixed] * len(rows)
    projected, _ = _project_texts(lm, rows, lengths, leads[0].device)
    totals = [lead.shape[0] + length for lead, length in zip(leads, lengths, strict=True)]
    longest = max(totals)
    # [rows, longest, dim]: padding, lead, text
    prefix = torch.zeros(len(rows), longest, lm.config.dim, device=projected.device, dtype=projected.dtype)
    for row, (lead, length) in enumerate(zip(leads, lengths, strict=True)):
        prefix[row, longest - totals[row] : longest - length] = lead
        prefix[row, longest - length :] = projected[row, :length]
    return Conditions(len(texts), prefix=prefix, prefix_lengths=torch.tensor(totals))
