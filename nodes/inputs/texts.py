"""Descriptions -> entries of native CONDITIONING: raw T5 states, their mask, and options that the sampler reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...musicgen.conditioning.condition import TextCondition
from ...musicgen.conditioning.weighted import WeightedText, read_weights
from ..host import patchers, progress
from ..sockets import TEXT_KEY, WEIGHT_KEY, TextEncoderHandle

Entry = list[Any]
"""`[states, options]`: states `[1, n, C]`."""


def encode_texts(text_encoder: TextEncoderHandle, texts: Sequence[str], node_id: str | None) -> list[list[Entry]]:
    """The entries of each text: one, and one more for each phrase with a weight, as in `piano, (drums:1.4)`.

    The node shows words that the text encoder does not know.
    """
    encoder = text_encoder.patcher.model
    parts = [read_weights(text) for text in texts]
    plain = list(dict.fromkeys(part.text for each in parts for part in each))
    with patchers.on_device(text_encoder.patcher, whole=True):
        conditions = {text: encoder.encode([text]) for text in plain}
    if unknown := encoder.warnings(plain):
        progress.show(node_id, unknown[0])
    return [[_entry(conditions[part.text], part) for part in each] for each in parts]


def _entry(condition: TextCondition, part: WeightedText) -> Entry:
    mask = condition.mask.to("cpu", torch.int64)
    # Rows that do not count are zeros, the null condition: core nodes blend and join states without their mask.
    states = condition.states.cpu() * mask.unsqueeze(-1)
    weight = {} if part.weight == 1.0 else {WEIGHT_KEY: part.weight}
    return [states, {"pooled_output": None, "attention_mask": mask, TEXT_KEY: part.text, **weight}]
