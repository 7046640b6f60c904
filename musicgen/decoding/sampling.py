"""Draw codes from logits. Pure functions.

The random numbers are an argument, so that the engine, a recorded graph and the slow twin draw the
same codes from the same logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Below this temperature even the smallest difference of two float32 logits leaves the smaller one no probability.
_COLDEST = 1e-30


def exponential_noise(generators: Sequence[torch.Generator], num_codebooks: int, card: int) -> Tensor:
    """Draw one step's noise: Exp(1) numbers, float32 `[B, K, card]` on the CPU, row i from generators[i].

    The numbers are computed from uniform ones of the CPU's Mersenne Twister, equal on all platforms.
    """
    rows = torch.empty(len(generators), num_codebooks, card)
    for row, generator in zip(rows, generators, strict=True):
        torch.rand(num_codebooks, card, generator=generator, out=row)
    # -log(1 - u), in place, since the speed of this function limits a fast GPU.
    return rows.neg_().log1p_().clamp_max_(-(2.0**-25)).neg_()


def _race(probs: Tensor, noise: Tensor) -> Tensor:
    # Exp(1) noise divided by p_i is exponential with rate p_i, and is the smallest with probability p_i.
    # Unlike a search in the cumulative sum, a rounding error in one p hardly ever changes the drawn code.
    return (probs / noise).argmax(dim=-1)


def _sample_top_p(probs: Tensor, top_p: float | Tensor, noise: Tensor) -> Tensor:
    ordered, index = probs.sort(dim=-1, descending=True)
    outside = ordered.cumsum(dim=-1) - ordered > top_p
    winner = _race(ordered.masked_fill(outside, 0.0), noise)
    return index.gather(-1, winner.unsqueeze(-1)).squeeze(-1)


def _sample_top_k(probs: Tensor, top_k: int, noise: Tensor) -> Tensor:
    smallest = probs.topk(min(top_k, probs.shape[-1]), dim=-1).values[..., -1:]
    return _race(probs.masked_fill(probs < smallest, 0.0), noise)


def _each(value: float | Tensor) -> Tensor | float:
    """A number for all codebooks, or one for each, `[K, 1]`."""
    return value[:, None] if isinstance(value, Tensor) else value


def _sample_scheduled(
    logits: Tensor, noise: Tensor, temperature: float | Tensor, top_k: int | Tensor, top_p: float | Tensor
) -> Tensor:
    """Draw as below with a temperature, top_k and top_p for each codebook: numbers, or tensors `[K]`.

    The numbers are data: every branch runs, and each codebook takes the one that its numbers choose.
    """
    largest, card = logits.amax(dim=-1, keepdim=True), logits.shape[-1]
    heat = _each(temperature)
    divisor = heat.clamp_min(_COLDEST) if isinstance(heat, Tensor) else max(heat, _COLDEST)
    probs = torch.softmax((logits - largest) / divisor, dim=-1)
    if isinstance(top_k, Tensor):
        kept = torch.where(top_k > 0, top_k, card).clamp_max(card)  # [K]
        index = (kept - 1)[None, :, None].expand(len(probs), -1, 1)
        smallest = probs.sort(dim=-1, descending=True).values.gather(-1, index)
        drawn = _race(probs.masked_fill(probs < smallest, 0.0), noise)
    else:
        drawn = _sample_top_k(probs, top_k, noise) if top_k > 0 else _race(probs, noise)
    if isinstance(top_p, Tensor):
        drawn = torch.where(top_p > 0.0, _sample_top_p(probs, top_p[:, None], noise), drawn)
    elif top_p > 0.0:
        drawn = _sample_top_p(probs, top_p, noise)
    if isinstance(temperature, Tensor):
        drawn = torch.where(temperature < _COLDEST, logits.argmax(dim=-1), drawn)
    return drawn


def sample_codes(
    logits: Tensor,
    noise: Tensor | None,
    *,
    temperature: float | Tensor = 1.0,
    top_k: int | Tensor = 0,
    top_p: float | Tensor = 0.0,
) -> Tensor:
    """Draw one code per codebook.

    >>> sample_codes(torch.tensor([[[0.0, 2.0, 1.0]]]), None)
    tensor([[1]])
    >>> sample_codes(torch.tensor([[[0.0, 2.0, 1.0]]]), torch.tensor([[[0.01, 1.0, 0.2]]]))
    tensor([[0]])

    Args:
        logits: `[B, K, card]`.
        noise: Exp(1) numbers `[B, K, card]`; None takes the likeliest codes.
        temperature: divides the logits; below 1e-30 the likeliest codes are taken.
        top_k: draw from the k likeliest codes and those that tie with the k-th; 0 keeps all.
        top_p: draw from the likeliest codes up to this share (Holtzman et al. 2020); above 0 it
            replaces top_k.

    Each of the three numbers may be a tensor `[K]` with one number for each codebook; equal ones draw the same
    codes as the number itself.

    Returns:
        Codes int64 `[B, K]`.
    """
    if noise is None:
        return logits.argmax(dim=-1)
    if isinstance(temperature, Tensor) or isinstance(top_k, Tensor) or isinstance(top_p, Tensor):
        return _sample_scheduled(logits, noise, temperature, top_k, top_p)
    if temperature < _COLDEST:
        return logits.argmax(dim=-1)
    # Subtract the largest logit, so that no temperature makes the likeliest code's quotient overflow.
    probs = torch.softmax((logits - logits.amax(dim=-1, keepdim=True)) / temperature, dim=-1)
    if top_p > 0.0:
        return _sample_top_p(probs, top_p, noise)
    if top_k > 0:
        return _sample_top_k(probs, top_k, noise)
    return _race(probs, noise)
