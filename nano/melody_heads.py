"""How a language model that follows a melody begins: with a head that looks at the melody's frame of the column's time.

The melody stands in front of the codes, one row for every `CHROMA_STEP` frames. A column knows its place by the waves
of its position, and so does a row of the melody. Waves are a geometric row: the wave of a column that is `_WAVES`
further down the row turns at the melody's pace, since the hop of the melody was chosen so that it does. The query
turns those waves back by the length of the prefix, and meets the key of the row of the same time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from musicgen.lm.language_model import LMModel
from musicgen.lm.transformer import sinusoidal_positions

from .corpus.store import CHROMA_STEP

_SHARPNESS = 3.5
_MELODY, _READ = 2.0, 3.0
"""How much louder than drawn weights the melody's rows and what is read of them begin."""


def waves_apart(dim: int, step: float = CHROMA_STEP) -> int:
    """How many waves of a model of width `dim` lie between a wave and the one that is `step` times as slow.

    `waves_apart(128)` is 8.
    """
    steps = dim // 2 - 1
    return round(float(torch.tensor(step).log() / torch.tensor(10000.0).log()) * steps)


@torch.no_grad()
def begin_with_melody(lm: LMModel, prefix: int, generator: torch.Generator) -> None:
    """Set the last head of the first layer; `prefix` rows stand before the codes, the melody's first."""
    attention: Any = lm.transformer.layers[0].self_attn
    dim, half, size = lm.config.dim, lm.config.dim // 2, lm.config.dim // lm.config.num_heads
    weights: Tensor = attention.qkv.weight.view(3, -1, size, dim)[:, -1]
    query, key, value = weights
    out: Tensor = attention.out.weight[:, -size:]
    query.zero_()
    key.zero_()
    value.copy_(torch.randn(value.shape, generator=generator) * dim**-0.5)
    out.copy_(torch.randn(out.shape, generator=generator) * _READ * (size * 2 * lm.config.num_layers) ** -0.5)
    angle = sinusoidal_positions(torch.tensor(prefix), dim)
    slow = torch.arange(size // 2) + waves_apart(dim)
    wave = torch.arange(size // 2)
    cosine, sine = _SHARPNESS * angle[slow], _SHARPNESS * angle[slow + half]
    # A column's waves, turned back by the prefix: cos(a - b) and sin(a - b).
    query[2 * wave, slow], query[2 * wave, slow + half] = cosine, sine
    query[2 * wave + 1, slow + half], query[2 * wave + 1, slow] = cosine, -sine
    key[2 * wave, wave] = _SHARPNESS
    key[2 * wave + 1, wave + half] = _SHARPNESS
    lm.melody_proj.weight.mul_(_MELODY)
    lm.melody_proj.weight[torch.cat([wave, wave + half])] = 0.0
