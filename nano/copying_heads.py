"""How a language model for music that repeats begins: with heads that find the last repeat and copy on from there.

Olsson et al. 2022 ("In-context Learning and Induction Heads") found that transformers come to do
this by themselves, after very much data. Here the weights begin so: the heads of the first layer
look back 1, 2 and 3 columns and note the codes there; two heads of the second layer look for
the column before which the same codes stood as before the one to be predicted, and pass on the
code after it; the output head reads that. All of it is trained on, and nothing is added to the model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from musicgen.lm.language_model import LMModel
from musicgen.lm.transformer import sinusoidal_positions

_SHARPNESS = 3.5
"""How narrowly the first layer's heads look at their column."""
_LIKENESS = 2.5
"""How much more like the past must be where the second layer looks."""
_EMBEDDING = 0.4
_LAGS, _COPIES = 3, 2
"""Heads of the first layer that look back, and of the second that copy."""
_COPIED, _READ = 2.0, 0.3
"""How loud a copy is in the stream, and how much of it the output head reads."""


@torch.no_grad()
def begin_with_induction(lm: LMModel, generator: torch.Generator) -> None:
    """Set the weights of an LM of two layers and four heads or more, whose other weights are there already."""
    if lm.config.num_layers < 2 or lm.config.num_heads < 4:
        raise ValueError(
            f"the model has {lm.config.num_layers} layers of {lm.config.num_heads} heads; "
            "induction takes two layers and four heads at least."
        )
    parts = _Parts(lm)
    size, content, context = parts.size, parts.content, parts.context
    book = torch.randn(lm.embedding.weight.shape, generator=generator) * _EMBEDDING
    book[:, parts.clock] = 0.0
    book[:, context] = 0.0
    lm.embedding.weight.copy_(book)
    for projection in (getattr(lm, "description_proj", None), getattr(lm, "melody_proj", None)):
        if projection is not None:
            projection.weight[parts.clock] = 0.0
            projection.weight[context] = 0.0
    note = _orthonormal(len(parts.noted), size, generator).t()
    turn = _orthonormal(size, size, generator)
    first, second = lm.transformer.layers[0], lm.transformer.layers[1]
    for module in first.modules():
        if isinstance(module, nn.Linear) and module.out_features == lm.config.dim:
            module.weight[context] = 0.0
    # The code k columns ago is noted as turned k times, so that turning once more is one column later.
    turned = torch.eye(size)
    for head in range(_LAGS):
        q, k, v, out = parts.head(first, head)
        q.mul_(0.05)
        k.mul_(0.05)
        _look_back(q, k, lm, head + 1)
        v.zero_()
        v[:, parts.noted] = note
        turned = turn @ turned
        out[context] = turned
    seen = _orthonormal(len(content), _COPIES * size, generator).t()
    mixed = _orthonormal(len(content), _COPIES * size, generator)
    for head in range(_COPIES):
        q, k, v, out = parts.head(second, head)
        for weight in (q, k, v, out):
            weight.zero_()
        q[:, context] = _LIKENESS * turn
        q[:, parts.noted] = _LIKENESS * turn @ note
        k[:, context] = _LIKENESS * torch.eye(size)
        own = slice(head * size, (head + 1) * size)
        v[:, content] = seen[own]
        out[content] = _COPIED * mixed[:, own]
    books = book.view(lm.config.num_codebooks, lm.config.card + 1, -1)[:, :-1].flatten(0, 1)
    lm.head.weight[:, content] += _READ * books[:, content] @ seen.t() @ mixed.t()


class _Parts:
    """The use of each dimension of the stream, at first.

    Positions are waves on all of them. The fastest are the clock of the first layer; on the slowest,
    which hardly move within a clip, the past is noted; codes stand on the others, and of these the
    slower ones are noted.
    """

    def __init__(self, lm: LMModel) -> None:
        self.size = lm.config.dim // lm.config.num_heads
        self.dim, half, pairs = lm.config.dim, lm.config.dim // 2, self.size // 2
        self.clock = _both(0, pairs, half)
        self.content = _both(pairs, half - pairs, half)
        self.noted = _both(half - pairs - max(pairs, (half - 2 * pairs) * 3 // 4), half - pairs, half)
        self.context = _both(half - pairs, half, half)

    def head(self, layer: nn.Module, head: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Views of one head's weights: query, key and value `[size, dim]`, and output `[dim, size]`."""
        attention: nn.Module = layer.self_attn  # type: ignore[assignment]
        q, k, v = attention.qkv.weight.view(3, -1, self.size, self.dim)[:, head]  # type: ignore[union-attr, operator]
        return q, k, v, attention.out.weight[:, head * self.size : (head + 1) * self.size]  # type: ignore[union-attr, index]


def _both(first: int, last: int, half: int) -> Tensor:
    """Dimensions of the cosines and of the sines of some waves."""
    waves = torch.arange(first, last)
    return torch.cat([waves, waves + half])


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator))[0]


def _look_back(query: Tensor, key: Tensor, lm: LMModel, lag: int) -> None:
    """Let a head look `lag` columns back: a key turned by its waves' angle over the lag meets the query."""
    half, pairs = lm.config.dim // 2, len(query) // 2
    angle = sinusoidal_positions(torch.tensor(lag), lm.config.dim)
    wave = torch.arange(pairs)
    cosine, sine = _SHARPNESS * angle[wave], _SHARPNESS * angle[wave + half]
    query[2 * wave, wave] += cosine
    query[2 * wave, wave + half] += sine
    query[2 * wave + 1, wave + half] += cosine
    query[2 * wave + 1, wave] -= sine
    key[2 * wave, wave] += _SHARPNESS
    key[2 * wave + 1, wave + half] += _SHARPNESS
