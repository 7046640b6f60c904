"""Fuse conditions into rows: text, melody and style, projected, one row per condition group and batch item.

Where a row has no text it gets the null condition: for cross-attention one zero row, which adds
exactly nothing, or no row at all; for prepend models as many zero rows as the text that it is guided against, since
there zeros are attended and the codes' positions count from the prefix on. A style's null condition
is zero rows likewise; a melody's is the chroma of no melody.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import ChromaConfig
from ..lm.language_model import LMModel
from ..lm.rows import Conditions
from .condition import TextCondition
from .melody import fit_length, null_chroma


def fuse(
    lm: LMModel,
    groups: Sequence[TextCondition | None],
    batch: int,
    device: torch.device,
    *,
    led: Sequence[bool],
    chroma: Sequence[Tensor | None] = (),
    chroma_config: ChromaConfig | None = None,
    styles: Sequence[Tensor] = (),
) -> Conditions:
    """Build the condition tensors of `len(groups)` x batch rows.

    groups: a text condition per group, None for the null condition; the first group is what the
    null ones are guided against. led: which groups get the melody or the style, the others get
    its null condition. chroma: `[F, num_chroma]` or None per batch item, of any length. styles:
    tokens `[n, style_dim]` per batch item, for a model with a style condition.
    """
    texts = [[None if group is None else group.row(item) for item in range(batch)] for group in groups]
    if lm.config.cross_attention:
        return _fuse_cross(lm, texts, device)
    if lm.config.style_dim is not None:
        leads, nulls = _style_leads(lm, styles, batch, device)
    elif chroma_config is not None:
        leads, nulls = _melody_leads(lm, chroma, batch, chroma_config, device)
    else:
        raise ValueError("this model prepends its conditions but has neither a chroma nor a style configuration.")
    return _fuse_prefix(lm, texts, [(leads if guided else nulls)[item] for guided in led for item in range(batch)])


def _melody_leads(
    lm: LMModel, chroma: Sequence[Tensor | None], batch: int, config: ChromaConfig, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Each item's melody, projected, and the null melody: `[chroma_length, dim]` each."""
    null = null_chroma(config)
    given = list(chroma) or [None] * batch
    fitted = [null if c is None else fit_length(c, config.chroma_length) for c in given]
    projected = lm.project_melody(torch.stack([*fitted, null]).to(device))
    return list(projected[:-1]), [projected[-1]] * batch


def _style_leads(
    lm: LMModel, styles: Sequence[Tensor], batch: int, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Each item's style, projected, and as many zero rows; without styles one zero row is both."""
    if not styles:
        leads = [torch.zeros(1, lm.config.dim, device=device, dtype=lm.dtype)] * batch
    else:
        leads = [lm.project_style(tokens.to(device)[None])[0] for tokens in styles]
    return leads, [torch.zeros_like(lead) for lead in leads]


def _project_texts(
    lm: LMModel, texts: list[Tensor | None], lengths: list[int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Project rows of different length at once: `[rows, longest, dim]` and their mask; None gives zeros."""
    states = torch.zeros(len(texts), max(lengths), lm.config.text_dim, device=device)
    mask = torch.zeros(len(texts), max(lengths), dtype=torch.bool, device=device)
    for row, text in enumerate(texts):
        if text is not None:
            states[row, : text.shape[0]] = text.to(device)
            mask[row, : text.shape[0]] = True
    return lm.project_description(states, mask), mask


def _fuse_cross(lm: LMModel, texts: list[list[Tensor | None]], device: torch.device) -> Conditions:
    rows = [text for group in texts for text in group]
    # Cross-attention is left out for the null rows, which stand last, since it would add nothing to them.
    while rows and rows[-1] is None:
        rows.pop()
    if not rows:
        return Conditions(len(texts))
    lengths = [1 if text is None else text.shape[0] for text in rows]
    cross, mask = _project_texts(lm, rows, lengths, device)
    mask[[row for row, text in enumerate(rows) if text is None], 0] = True
    return Conditions(len(texts), cross=cross, cross_mask=mask)


def _fuse_prefix(lm: LMModel, texts: list[list[Tensor | None]], leads: list[Tensor]) -> Conditions:
    """leads: what stands before the text of each row, `[n, dim]`."""
    own = [1 if text is None else text.shape[0] for text in texts[0]]
    rows = [text for group in texts for text in group]
    lengths = [own[row % len(own)] if text is None else text.shape[0] for row, text in enumerate(rows)]
    projected, _ = _project_texts(lm, rows, lengths, leads[0].device)
    totals = [lead.shape[0] + length for lead, length in zip(leads, lengths, strict=True)]
    longest = max(totals)
    prefix = torch.zeros(len(rows), longest, lm.config.dim, device=projected.device, dtype=projected.dtype)
    for row, (lead, length) in enumerate(zip(leads, lengths, strict=True)):
        prefix[row, longest - totals[row] : longest - length] = lead
        prefix[row, longest - length :] = projected[row, :length]
    return Conditions(len(texts), prefix=prefix, prefix_lengths=torch.tensor(totals))
