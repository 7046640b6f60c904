"""The memory that a training takes, estimated before it starts, and the settings that fit into the free part of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ..config import ModelConfig
from ..lm.language_model import LMModel
from ..units import size_text
from .adapters import adapter_numbers
from .recipe import Recipe

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_STATE = 16
"""Bytes of a trained number: itself, its gradient and AdamW's two averages, in float32."""
_SPARE = 64 << 20
_CARE = 1.1
"""Factor of the estimate, by the measurements in docs/finetuning.md."""
_SHORTEST = 5.0


@dataclass(frozen=True)
class Estimate:
    """Bytes of a training: the model's weights, the trained numbers with their state, and the inside of a step."""

    weights: int
    trained: int
    step: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.trained + self.step


def dtype_of(recipe: Recipe) -> torch.dtype:
    """The number format of the model meanwhile; a whole model is trained in float32."""
    return torch.float32 if recipe.full else _DTYPES[recipe.dtype]


def estimate(config: ModelConfig, recipe: Recipe, frames: int, text_tokens: int) -> Estimate:
    """Estimate the bytes of a training.

    Args:
        config: the model's numbers.
        recipe: the numbers of the training.
        frames: of the longest piece.
        text_tokens: of the longest caption.
    """
    lm, itemsize = config.lm, dtype_of(recipe).itemsize
    numbers = sum(parameter.numel() for parameter in LMModel(lm, device="meta").parameters())
    trained = numbers if recipe.full else adapter_numbers(config, recipe.rank, recipe.targets)
    length = round(recipe.seconds * config.frame_rate) or frames
    columns = min(length, frames) + max(config.delays)
    prefix = 0 if lm.cross_attention else text_tokens + (config.chroma.chroma_length if config.chroma else 0)
    tokens = recipe.batch * (columns + prefix)
    # A layer keeps its inputs, normed inputs, queries, keys, values and sums; cross-attention adds five.
    inside = tokens * ((14 if lm.cross_attention else 9) * lm.dim + 2 * lm.ffn_dim)
    kept = tokens * lm.dim
    layers = inside + lm.num_layers * kept if recipe.recompute else lm.num_layers * inside
    # The logits, their logarithms and their gradients, in float32.
    logits = 3 * recipe.batch * columns * lm.num_codebooks * lm.card * 4
    weights = 0 if recipe.full else numbers * itemsize
    average = 4 * trained if recipe.ema else 0
    step = round(_CARE * (layers * itemsize + logits)) + _SPARE
    return Estimate(weights, trained * _STATE + average, step)


def _cheaper(recipe: Recipe, choose_batch: bool, choose_recompute: bool) -> Iterator[Recipe]:
    """The same training in less and less memory, at the cost of time."""
    yield recipe
    batch, accumulate = recipe.batch, recipe.accumulate
    if choose_recompute and not recipe.recompute:
        recipe = replace(recipe, recompute=True)
        yield recipe
    while choose_batch and batch > 1:
        batch, accumulate = batch // 2, accumulate * 2
        yield replace(recipe, batch=batch, accumulate=accumulate)


def fit(
    config: ModelConfig,
    recipe: Recipe,
    frames: int,
    text_tokens: int,
    free: int | None,
    *,
    choose_batch: bool = True,
    choose_recompute: bool = True,
) -> tuple[Recipe, Estimate]:
    """Return the recipe as it fits into the memory, and its estimate.

    Args:
        config: the model's numbers.
        recipe: the wanted numbers.
        frames: of the longest piece.
        text_tokens: of the longest caption.
        free: bytes that are free; None takes the recipe as it is.
        choose_batch: whether fewer pieces at once, and more batches a step, may be chosen.
        choose_recompute: whether gradient checkpointing may be chosen.

    Raises:
        MemoryError: nothing that may be chosen fits; the sentence names a setting that would.
    """
    first = estimate(config, recipe, frames, text_tokens)
    if free is None:
        return recipe, first
    for each in _cheaper(recipe, choose_batch, choose_recompute):
        found = estimate(config, each, frames, text_tokens)
        if found.total <= free:
            return each, found
    raise MemoryError(
        f"this training takes {size_text(first.total)} and {size_text(free)} are free; "
        f"{_remedy(config, recipe, frames, text_tokens, free)}"
    )


def _remedy(config: ModelConfig, recipe: Recipe, frames: int, text_tokens: int, free: int) -> str:
    """The settings that would fit."""
    for each in _cheaper(recipe, True, True):
        if estimate(config, each, frames, text_tokens).total <= free:
            return _told(recipe, each)
    seconds = (round(recipe.seconds * config.frame_rate) or frames) / config.frame_rate
    least = replace(recipe, recompute=True, batch=1, accumulate=recipe.batch * recipe.accumulate)
    while seconds > _SHORTEST:
        seconds = max(_SHORTEST, seconds / 2)
        shorter = replace(least, seconds=seconds)
        if estimate(config, shorter, frames, text_tokens).total <= free:
            return _told(recipe, shorter)
    smallest = size_text(estimate(config, least, frames, text_tokens).total)
    return f"no setting fits: the least is {smallest}. Close other programs or choose a smaller model."


def _told(recipe: Recipe, other: Recipe) -> str:
    """The differences of two recipes as a request."""
    words = []
    if other.recompute != recipe.recompute:
        words.append("gradient checkpointing on")
    if other.batch != recipe.batch:
        words.append(f"batch {other.batch} and accumulation {other.accumulate}")
    if other.seconds != recipe.seconds:
        words.append(f"{other.seconds:g} s of each piece")
    return f"choose {', '.join(words)}."
