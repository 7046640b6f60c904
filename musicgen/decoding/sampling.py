"""From logits to codes: filtering and drawing. Pure functions.

Randomness comes in as an argument, so that the eager engine, a captured graph and the slow
reference draw the same codes from the same logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Below this, dividing two different float32 logits leaves nothing of the smaller one.
_COLDEST = 1e-30


def exponential_noise(generators: Sequence[torch.Generator], num_codebooks: int, card: int) -> Tensor:
    """One step's noise, Exp(1) distributed, float32 `[B, K, card]` on the CPU; row i from generators[i].

    Made from uniform numbers of the CPU's Mersenne Twister, which all platforms share.
    """
    rows = torch.empty(len(generators), num_codebooks, card)
    for row, generator in zip(rows, generators, strict=True):
        torch.rand(num_codebooks, card, generator=generator, out=row)
    # -log(1 - u), in place: a GPU decodes as fast as a CPU makes its noise.
    return rows.neg_().log1p_().clamp_max_(-(2.0**-25)).neg_()


def _race(probs: Tensor, noise: Tensor) -> Tensor:
    # The first of independent exponential clocks with rates p rings for i with probability p_i.
    # Unlike a search in the cumulative sum, a rounding error in one p hardly ever moves the winner.
    return (probs / noise).argmax(dim=-1)


def _sample_top_p(probs: Tensor, top_p: float, noise: Tensor) -> Tensor:
    ordered, index = probs.sort(dim=-1, descending=True)
    outside = ordered.cumsum(dim=-1) - ordered > top_p
    winner = _race(ordered.masked_fill(outside, 0.0), noise)
    return index.gather(-1, winner.unsqueeze(-1)).squeeze(-1)


def _sample_top_k(probs: Tensor, top_k: int, noise: Tensor) -> Tensor:
    smallest = probs.topk(min(top_k, probs.shape[-1]), dim=-1).values[..., -1:]
    return _race(probs.masked_fill(probs < smallest, 0.0), noise)


def sample_codes(
    logits: Tensor, noise: Tensor | None, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 0.0
) -> Tensor:
    """Draw one code per codebook: logits `[B, K, card]` -> int64 `[B, K]`.

    noise: Exp(1) numbers of the same shape; None, or a temperature below 1e-30, takes the likeliest code.
    top_p > 0 keeps the likeliest codes up to that share (Holtzman et al. 2020) and top_k is then
    ignored; otherwise top_k > 0 keeps the k likeliest, ties included.
    """
    if noise is None or temperature < _COLDEST:
        return logits.argmax(dim=-1)
    # Differences to the largest logit: whatever the temperature, the likeliest code stays at 0.
    probs = torch.softmax((logits - logits.amax(dim=-1, keepdim=True)) / temperature, dim=-1)
    if top_p > 0.0:
        return _sample_top_p(probs, top_p, noise)
    if top_k > 0:
        return _sample_top_k(probs, top_k, noise)
    return _race(probs, noise)
