"""Training of the language model, its text encoder with it, on codes laid out by a codebook pattern.

The loss is the cross entropy of each column of the pattern given all columns before it, over the
cells that hold a code (Copet et al. 2023, section 2.2). Conditions are fused as at inference:
cross-attention for text models, melody and text as a prefix for melody models, and each is left
out of some clips, so that guidance has something to guide against.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import LMConfig
from ..lm import LMModel
from ..patterns import Pattern, named_pattern
from .captions import CaptionOdds, describe
from .losses import codes_cross_entropy
from .state import Progress, load_checkpoint, save_checkpoint, step_rng, step_torch_rng
from .tokenizer import UNKNOWN_ID, Vocabulary
from .tokens import TokenStore

CHROMA_STEP = 3.2
"""Frames of codes per frame of chroma. A bar of any tempo is a whole number of both."""


@dataclass(frozen=True)
class LMRecipe:
    """How a language model is trained: all that the result depends on, but the data and the networks."""

    steps: int = 5000
    batch: int = 8
    frames: tuple[int, int] = (250, 500)
    """Length of a clip in the first part of the training and in the last."""
    long_from: float = 0.7
    """Share of the training after which clips are long."""
    easy_until: float = 0.25
    """Share of the training in which only songs of `easy_beats` are heard."""
    easy_beats: tuple[int, ...] = (20, 24, 28)
    learning_rate: float = 3e-3
    warmup: int = 150
    weight_decay: float = 0.05
    first_weights: tuple[float, ...] = (2.0, 1.2, 0.5, 0.3)
    last_weights: tuple[float, ...] = (1.4, 1.1, 0.8, 0.7)
    """Weights of the codebooks' losses at the first and at the last step; the coarse ones carry the beat."""
    drop_all: float = 0.12
    """Clips without any condition."""
    drop_text: float = 0.05
    drop_melody: float = 0.2
    """Clips without one of the two, beside these; only where there is a melody."""
    unknown_words: float = 0.03
    """Words that are made unknown, so that unknown words mean nothing."""
    ema: float = 0.999
    pattern: str = "delay"
    bfloat16: bool = True
    seed: int = 1


@dataclass(frozen=True)
class TextShape:
    """Size of the T5 encoder."""

    width: int = 96
    layers: int = 2
    heads: int = 4
    ffn: int = 256

    def config(self, vocab_size: int) -> Any:
        """transformers' configuration of it."""
        from transformers import T5Config

        return T5Config(
            vocab_size=vocab_size,
            d_model=self.width,
            d_kv=self.width // self.heads,
            d_ff=self.ffn,
            num_layers=self.layers,
            num_heads=self.heads,
            feed_forward_proj="relu",
            dropout_rate=0.0,
        )


class TextAndCodes(nn.Module):
    """A language model and the T5 encoder that is trained with it."""

    def __init__(self, config: LMConfig, text: TextShape, vocab_size: int, generator: torch.Generator) -> None:
        super().__init__()
        from transformers import T5EncoderModel

        self.lm = LMModel(config)
        # transformers draws its weights from the global generator; they are drawn anew below.
        with torch.random.fork_rng(devices=[]):
            self.t5 = T5EncoderModel(text.config(vocab_size))
        self._init_weights(generator)

    @torch.no_grad()
    def _init_weights(self, generator: torch.Generator) -> None:
        depth = 2 * self.lm.config.num_layers
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            spread = weight.shape[1] ** -0.5
            if name == "lm.embedding.weight":
                spread = 0.3
            elif name.startswith("t5.shared") or "relative_attention_bias" in name:
                spread = 1.0 if "shared" in name else 0.1
            elif name.endswith(("self_attn.out.weight", "cross_attn.out.weight", "ffn_out.weight")):
                spread *= depth**-0.5
            elif name == "lm.head.weight":
                spread *= 0.2
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)

    @torch.no_grad()
    def put(self, weights: dict[str, Tensor]) -> None:
        """Set all weights."""
        for name, weight in self.named_parameters():
            weight.copy_(weights[name])

    def forward(self, sequence: Tensor, text: Tensor, text_mask: Tensor, chroma: Tensor | None = None) -> Tensor:
        """Logits `[B, K, S, card]`: column s of sequence `[B, K, S]` predicts column s + 1.

        text: ids `[B, n]`, padded on the right; text_mask bool `[B, n]`, all False in a row without
        text. chroma: one-hot `[B, F, 12]`, for melody models.
        """
        states = self.t5(input_ids=text, attention_mask=(text != 0).long()).last_hidden_state
        condition = self.lm.project_description(states, text_mask)
        hidden = self.lm.embed(sequence)
        columns = sequence.shape[2]
        if chroma is None:
            # A row without text looks at one zero row, which adds nothing.
            mask = text_mask.clone()
            mask[:, 0] |= ~text_mask.any(dim=1)
            cross = self.lm.transformer.cross_caches(condition, mask)
            return self.lm(hidden, torch.arange(columns, device=hidden.device), columns, cross=cross)
        return self._with_prefix(hidden, condition, (text != 0).sum(dim=1), chroma)

    def _with_prefix(self, hidden: Tensor, condition: Tensor, lengths: Tensor, chroma: Tensor) -> Tensor:
        """Prepend melody and text; rows with a shorter text are moved to the right, as at inference."""
        melody = self.lm.project_melody(chroma)
        rows = torch.cat([melody, condition, hidden], dim=1)
        pad = condition.shape[1] - lengths
        at = torch.arange(rows.shape[1], device=rows.device)
        # Row i of the result: padding, then melody, text of its own length, and codes.
        source = at[None] - pad[:, None]
        source = torch.where(source < melody.shape[1] + lengths[:, None], source, at[None])
        moved = rows.gather(1, source.clamp_min(0)[..., None].expand_as(rows))
        positions = (at[None] - pad[:, None]).clamp_min(0)
        visible = (at[None, None] >= pad[:, None, None]) & (at[None, :, None] >= at[None, None])
        # A padding row sees itself: attention over nothing is not a number.
        visible |= torch.eye(len(at), dtype=torch.bool, device=rows.device)[None]
        return self.lm(moved, positions, hidden.shape[1], visible[:, None])


@lru_cache(maxsize=8)
def _pattern(name: str, frames: int, num_codebooks: int) -> Pattern:
    return named_pattern(name, frames, tuple(range(num_codebooks)))


@dataclass(frozen=True)
class Batch:
    """Clips as tensors: codes `[B, K, T]`, text ids and mask `[B, n]`, chroma one-hot `[B, F, 12]` or None."""

    codes: Tensor
    text: Tensor
    text_mask: Tensor
    chroma: Tensor | None


class Batches:
    """Draws clips that begin on a bar, with a caption and, for melody models, the melody of the same bars."""

    def __init__(self, store: TokenStore, vocabulary: Vocabulary, recipe: LMRecipe, melody: bool) -> None:
        self.store, self.vocabulary, self.recipe, self.melody = store, vocabulary, recipe, melody
        self.fold = np.array(vocabulary.fold)
        beats = np.array([plan.beat_frames for plan in store.plans])
        self.easy = np.flatnonzero(np.isin(beats, recipe.easy_beats))

    def draw(self, step: int) -> Batch:
        """The batch of one training step."""
        recipe, rng = self.recipe, step_rng(self.recipe.seed, step)
        share = step / recipe.steps
        frames = recipe.frames[0] if share < recipe.long_from else recipe.frames[1]
        easy = share < recipe.easy_until and len(self.easy) > 0
        rows = rng.choice(self.easy if easy else len(self.store), size=recipe.batch)
        starts = [self._start(int(row), frames, rng) for row in rows]
        captions = [describe(self.store.plans[row], rng) for row in rows]
        drops = rng.random((3, recipe.batch)) < [[recipe.drop_all], [recipe.drop_text], [recipe.drop_melody]]
        no_text = drops[0] | (drops[1] & self.melody)
        return self.make(rows, starts, frames, captions, no_text, drops[0] | drops[2], rng)

    def make(
        self,
        rows: np.ndarray,
        starts: list[int],
        frames: int,
        captions: list[str],
        no_text: np.ndarray,
        no_melody: np.ndarray,
        rng: np.random.Generator | None,
    ) -> Batch:
        """Clips of chosen songs from chosen frames on; rng makes words unknown."""
        clips = [self.store.codes[row, :, start : start + frames] for row, start in zip(rows, starts, strict=True)]
        ids = self.vocabulary.tokenizer(captions)["input_ids"]
        longest = max(len(row) for row in ids)
        text = np.zeros((len(ids), longest), dtype=np.int64)
        for row, words in enumerate(ids):
            text[row, : len(words)] = self.fold[words]
        if rng is not None:
            unknown = (rng.random(text.shape) < self.recipe.unknown_words) & (text > UNKNOWN_ID)
            text[unknown] = UNKNOWN_ID
        mask = (text != 0) & ~no_text[:, None]
        chroma = self._chroma(rows, starts, no_melody) if self.melody else None
        codes = torch.from_numpy(np.stack(clips).astype(np.int64))
        return Batch(codes, torch.from_numpy(text), torch.from_numpy(mask), chroma)

    def _start(self, row: int, frames: int, rng: np.random.Generator) -> int:
        bar = 4 * self.store.plans[row].beat_frames
        starts = (self.store.codes.shape[2] - frames) // bar + 1
        first = rng.random() < 0.5
        chosen = int(rng.integers(starts))
        return 0 if first else chosen * bar

    def _chroma(self, rows: np.ndarray, starts: list[int], dropped: np.ndarray) -> Tensor:
        picked = []
        for row, start, drop in zip(rows, starts, dropped, strict=True):
            tune = self.store.chroma[row]
            rest = tune[round(start / CHROMA_STEP) :]
            fitted = np.resize(rest, len(tune))
            picked.append(np.zeros_like(fitted) if drop else fitted)
        return F.one_hot(torch.from_numpy(np.stack(picked).astype(np.int64)), 12).float()


class LMTraining:
    """One language model being trained; :meth:`step` does step number `self.step_number`."""

    def __init__(
        self,
        config: LMConfig,
        text: TextShape,
        recipe: LMRecipe,
        store: TokenStore,
        vocabulary: Vocabulary,
        device: str = "cpu",
    ) -> None:
        self.config, self.text, self.recipe, self.device = config, text, recipe, device
        self.batches = Batches(store, vocabulary, recipe, config.chroma_dim is not None)
        generator = step_torch_rng(recipe.seed, 2**31 - 1)
        self.model = TextAndCodes(config, text, len(vocabulary.pieces), generator).to(device)
        self.average = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        decayed = [p for p in self.model.parameters() if p.dim() > 1]
        plain = [p for p in self.model.parameters() if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, recipe.learning_rate, (0.9, 0.97))
        self.step_number = 0

    def settings(self) -> dict[str, Any]:
        """What a checkpoint must have been made with."""
        values = {**asdict(self.config), **asdict(self.text), **asdict(self.recipe), "songs": len(self.batches.store)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "recipe": self.settings(),
            "step": self.step_number,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.step_number = int(state["step"])
        self.model.load_state_dict(state["model"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])

    def losses(self, batch: Batch) -> Tensor:
        """Cross entropy per codebook in nats, `[K]`."""
        codes = batch.codes.to(self.device)
        pattern = _pattern(self.recipe.pattern, codes.shape[2], self.config.num_codebooks)
        sequence = pattern.build_sequence(codes, self.config.special_token_id)
        chroma = None if batch.chroma is None else batch.chroma.to(self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.recipe.bfloat16):
            logits = self.model(
                sequence[:, :, :-1], batch.text.to(self.device), batch.text_mask.to(self.device), chroma
            )
        return codes_cross_entropy(logits, sequence[:, :, 1:], pattern.mask[:, 1:].to(self.device))

    def step(self) -> Tensor:
        """One step; returns the losses per codebook."""
        recipe, number = self.recipe, self.step_number
        share = number / recipe.steps
        rate = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * share))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min((number + 1) / recipe.warmup, rate)
        losses = self.losses(self.batches.draw(number))
        first, last = torch.tensor(recipe.first_weights), torch.tensor(recipe.last_weights)
        weights = torch.lerp(first, last, min(1.0, share / 0.7)).to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        (losses * weights).sum().div(weights.sum()).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step_number += 1
        keep = min(recipe.ema, (1 + number) / (10 + number))
        for name, weight in self.model.named_parameters():
            self.average[name].lerp_(weight.detach(), 1 - keep)
        return losses.detach()


@torch.no_grad()
def judge_lm(training: LMTraining, held_out: TokenStore, count: int = 32) -> list[float]:
    """Loss per codebook of the averaged weights on whole held-out songs whose captions name everything."""
    recipe = training.recipe
    batches = Batches(held_out, training.batches.vocabulary, recipe, training.batches.melody)
    kept = {name: value.clone() for name, value in training.model.named_parameters()}
    training.model.put(training.average)
    losses = []
    for first in range(0, min(count, len(held_out)), 8):
        rows = np.arange(first, min(first + 8, len(held_out)))
        captions = [describe(held_out.plans[row], step_rng(0, int(row)), CaptionOdds.all_named()) for row in rows]
        none = np.zeros(len(rows), dtype=bool)
        batch = batches.make(rows, [0] * len(rows), held_out.codes.shape[2], captions, none, none, None)
        losses.append(training.losses(batch))
    training.model.put(kept)
    return [float(value) for value in torch.stack(losses).mean(dim=0)]


def train_lm(
    training: LMTraining,
    checkpoint: Path,
    held_out: TokenStore,
    *,
    every_seconds: float = 60.0,
    judge_every: int = 500,
    report: Callable[[str], None] | None = None,
) -> TextAndCodes:
    """Train to the recipe's end, from `checkpoint` where there is one; returns the averaged model."""
    state = load_checkpoint(checkpoint, training.settings())
    if state is not None:
        training.restore(state)
    recipe = training.recipe
    progress = Progress("melody lm" if training.batches.melody else "text lm", recipe.steps, training.step_number)
    saved, figures = time.monotonic(), ""
    while training.step_number < recipe.steps:
        losses = training.step()
        done = training.step_number
        if done % judge_every == 0 or done == recipe.steps:
            figures = "held-out " + "/".join(f"{value:.2f}" for value in judge_lm(training, held_out))
            if report is not None:
                report(f"step {done}: {figures}")
        if time.monotonic() - saved > every_seconds or done == recipe.steps:
            save_checkpoint(checkpoint, training.state())
            saved = time.monotonic()
        progress.update(done, "loss " + "/".join(f"{value:.2f}" for value in losses.tolist()) + " " + figures)
    training.model.put(training.average)
    return training.model.eval()
