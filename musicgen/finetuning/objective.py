"""The loss: the cross entropy of codes over their pattern, given the conditions, as at inference.

Copet et al. 2023, section 2: the mean over the cells of a codebook that hold a code, then over the codebooks.
Conditions are fused by the very functions that sampling uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..conditioning.condition import Lead, TextCondition
from ..conditioning.fuser import fuse
from ..conditioning.melody import MelodyLead, RecordedMelody
from ..config import ModelConfig, PatternConfig
from ..generation.patterns import Pattern, trained_pattern
from ..lm.language_model import LMModel
from ..lm.rows import Conditions, Rows
from ..lm.transformer import TransformerLayer, sinusoidal_positions
from ..training.losses import codes_cross_entropy

EMPTY = -1
"""A code that is not there, behind the end of a piece that is shorter than the others."""


@dataclass(frozen=True)
class Batch:
    """Pieces to learn from.

    Attributes:
        codes: int64 `[B, K, T]`, EMPTY behind the end of a short piece.
        text: the captions' states, `[B, n, C]`, with their mask.
        chromas: of melody models, one `[F, 12]` for each piece.
        no_text: bool `[B]`: pieces that are learned without their caption, so that guidance keeps working.
        no_melody: bool `[B]`: pieces that are learned without their melody.
    """

    codes: Tensor
    text: TextCondition
    chromas: tuple[Tensor, ...]
    no_text: Tensor
    no_melody: Tensor


@lru_cache(maxsize=16)
def _pattern(frames: int, delays: tuple[int, ...], kind: PatternConfig | None) -> Pattern:
    return trained_pattern(frames, delays, kind)


def codebook_losses(
    lm: LMModel, config: ModelConfig, batch: Batch, device: torch.device, *, recompute: bool = False
) -> Tensor:
    """Return the loss of each codebook in nats, `[K]`; their mean is the loss.

    Args:
        lm: the language model.
        config: the model's numbers.
        batch: the pieces.
        device: where the model is.
        recompute: keep only the input of each layer, and compute its inside again for the gradients.
    """
    codes = batch.codes.to(device)
    pattern = _pattern(codes.shape[2], config.delays, config.pattern)
    sequence = pattern.build_sequence(codes, config.lm.special_token_id)  # [B, K, S]
    valid = pattern.mask.to(device) & (sequence != EMPTY)
    sequence = torch.where(valid, sequence, config.lm.special_token_id)
    conditions = _conditions(lm, config, batch, device)
    logits = _logits(lm, sequence[:, :, :-1], conditions, device, recompute)  # [B, K, S - 1, card]
    return codes_cross_entropy(logits, sequence[:, :, 1:], valid[:, :, 1:].float())


def _conditions(lm: LMModel, config: ModelConfig, batch: Batch, device: torch.device) -> Conditions:
    """The conditions of each piece; one that is left out is the null condition, as in guidance."""
    count = len(batch.codes)
    if config.lm.cross_attention:
        text = TextCondition(batch.text.states, batch.text.mask & ~batch.no_text[:, None])
        return fuse(lm, [text], count, device, led=[True])
    assert config.chroma is not None
    leads: list[Lead] = [
        MelodyLead(config.chroma, RecordedMelody(chroma.float(), chroma.new_zeros(1), config.chroma))
        for chroma in batch.chromas
    ]
    # Every combination is fused, so that a null text has as many rows as the text in its place.
    groups = [batch.text, batch.text, None, None]
    every = fuse(lm, groups, count, device, led=[True, False, True, False], leads=leads)
    chosen = torch.arange(count) + count * (2 * batch.no_text.long() + batch.no_melody.long())
    assert every.prefix is not None and every.prefix_lengths is not None
    return Conditions(1, prefix=every.prefix[chosen.to(device)], prefix_lengths=every.prefix_lengths[chosen])


def _logits(lm: LMModel, read: Tensor, conditions: Conditions, device: torch.device, recompute: bool) -> Tensor:
    """Logits `[B, K, n, card]` of a sequence `[B, K, n]` that is read as a whole."""
    x = lm.embed(read)
    if conditions.prefix is not None:
        x = torch.cat([conditions.prefix.to(x.dtype), x], dim=1)
    rows, size = Rows(conditions, device), x.shape[1]
    config = lm.config
    positions = rows.positions(0, size, device)
    x = x + sinusoidal_positions(positions, config.dim, config.max_period, config.positional_scale).to(x.dtype)
    mask, cross, cross_mask = rows.mask(0, size, device), conditions.cross, conditions.cross_mask
    for layer in lm.transformer.layers:
        values: Sequence[Any] = (layer, x, mask, cross, cross_mask)
        x = checkpoint(_run_layer, *values, use_reentrant=False) if recompute else _run_layer(*values)
    return lm.logits(lm.out_norm(x[:, size - read.shape[2] :]))


def _run_layer(
    layer: TransformerLayer, x: Tensor, mask: Tensor | None, cross: Tensor | None, cross_mask: Tensor | None
) -> Tensor:
    projected = None
    if cross is not None and cross_mask is not None:
        projected = layer.cross_attn.project(cross, cross_mask)
    return layer(x, mask, None, projected)
