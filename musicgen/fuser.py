"""Fuse conditions into rows: text and melody, projected, one row per condition group and batch item.

Where a row has no text it gets the null condition: for cross-attention one zero row, which adds
exactly nothing; for prepend models as many zero rows as the text that it is guided against, since
there zeros are attended and the codes' positions count from the prefix on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .conditioning.base import TextCondition
from .conditioning.chroma import fit_length, null_chroma
from .config import ChromaConfig
from .engine import Conditions
from .lm import LMModel


def fuse(
    lm: LMModel,
    groups: Sequence[TextCondition | None],
    batch: int,
    device: torch.device,
    *,
    guided_by_melody: Sequence[bool],
    chroma: Sequence[Tensor | None] = (),
    chroma_config: ChromaConfig | None = None,
) -> Conditions:
    """Build the condition tensors of `len(groups)` x batch rows.

    groups: a text condition per group, None for the null condition; the first group is what the
    null ones are guided against. guided_by_melody: which groups get the melody; the others get
    the null melody. chroma: `[F, num_chroma]` or None per batch item, of any length.
    """
    texts = [[None if group is None else group.row(item) for item in range(batch)] for group in groups]
    if lm.config.cross_attention:
        return _fuse_cross(lm, texts, device)
    if chroma_config is None:
        raise ValueError("this model prepends its conditions but has no chroma configuration.")
    melodies = _fit_melodies(chroma, batch, chroma_config)
    null = null_chroma(chroma_config)
    by_group = [[(melodies[item] if guided else null) for item in range(batch)] for guided in guided_by_melody]
    return _fuse_prefix(lm, texts, by_group, device)


def _fit_melodies(chroma: Sequence[Tensor | None], batch: int, config: ChromaConfig) -> list[Tensor]:
    null = null_chroma(config)
    given = list(chroma) or [None] * batch
    return [null if c is None else fit_length(c, config.chroma_length) for c in given]


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
    lengths = [1 if text is None else text.shape[0] for text in rows]
    cross, mask = _project_texts(lm, rows, lengths, device)
    mask[[row for row, text in enumerate(rows) if text is None], 0] = True
    return Conditions(len(texts), cross=cross, cross_mask=mask)


def _fuse_prefix(
    lm: LMModel, texts: list[list[Tensor | None]], chroma: list[list[Tensor]], device: torch.device
) -> Conditions:
    own = [1 if text is None else text.shape[0] for text in texts[0]]
    rows = [text for group in texts for text in group]
    lengths = [own[row % len(own)] if text is None else text.shape[0] for row, text in enumerate(rows)]
    projected, _ = _project_texts(lm, rows, lengths, device)
    melody = lm.project_melody(torch.stack([c for group in chroma for c in group]).to(device))
    longest = melody.shape[1] + max(lengths)
    prefix = torch.zeros(len(rows), longest, lm.config.dim, device=device, dtype=projected.dtype)
    for row, length in enumerate(lengths):
        pad = max(lengths) - length
        prefix[row, pad : longest - length] = melody[row]
        prefix[row, longest - length :] = projected[row, :length]
    return Conditions(len(texts), prefix=prefix, prefix_lengths=torch.tensor(lengths) + melody.shape[1])
