"""Estimate the memory that a request takes besides the weights."""

from __future__ import annotations

from ..config import LMConfig
from ..decoding.static_decoder import BLOCK, bucket_of
from .guidance import Branches


def memory_required(
    lm: LMConfig,
    branches: Branches,
    batch_size: int,
    *,
    lead_rows: int,
    steps: int,
    known_steps: int,
    itemsize: int = 4,
) -> int:
    """Estimate the bytes of one generation.

    The sum counts the key and value cache, the condition's keys and values, the activations of the
    prefill or of one step, and the float32 logits with sampling's copies of them and its noise.

    Args:
        lm: the language model's numbers.
        branches: the condition groups that each item is decoded under.
        batch_size: number of items.
        lead_rows: rows of the lead before the text, 0 for models without one.
        steps: columns of the longest window's pattern.
        known_steps: the most columns of a window that are known before it is sampled.
        itemsize: bytes per number of the language model.
    """
    num_text_tokens = max(c.states.shape[1] for c in (*branches.positive, *branches.negative))
    rows = len(branches.groups) * batch_size
    prefix = 0 if lm.cross_attention else lead_rows + num_text_tokens
    kv = 2 * lm.num_layers * rows * bucket_of(steps + prefix) * lm.dim * itemsize
    cross = 2 * lm.num_layers * rows * num_text_tokens * lm.dim * itemsize if lm.cross_attention else 0
    prefill = prefix + known_steps + 1
    # At its peak a layer holds its input, the normed input, queries, keys, values, and the FFN's inside twice.
    activations = rows * prefill * (7 * lm.dim + 2 * lm.ffn_dim) * itemsize
    # Two blocks of noise exist at once: one in use, and the next one on its way to the device.
    logits = (rows + (6 + 2 * BLOCK) * batch_size) * lm.num_codebooks * lm.card * 4
    return kv + cross + activations + logits
