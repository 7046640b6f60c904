"""Training of the language model, its text encoder with it, on codes laid out by a codebook pattern.

The loss is the cross entropy of each column of the pattern given all columns before it, over the
cells that hold a code (Copet et al. 2023, section 2.2). Conditions are fused as at inference:
cross-attention for text models, melody and text as a prefix for melody models, and each is left
out of some clips, so that guidance has something to guide against.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen.config import LMConfig
from musicgen.generation.patterns import Pattern, named_pattern
from musicgen.training.losses import codes_cross_entropy
from musicgen.training.resume import ProgressLog, load_checkpoint, save_checkpoint, step_rng, step_torch_rng

from .batches import Batch, Batches
from .corpus.captions import CaptionOdds, describe
from .corpus.score_marks import MARKS, RHYTHM
from .lm_recipe import LMRecipe
from .networks import TextAndCodes, TextShape
from .tokens import TokenStore
from .vocabulary import Vocabulary

_RARE = 5.0
"""How much more a mark counts that is set; most are not."""


@lru_cache(maxsize=64)
def _pattern(name: str, frames: int, num_codebooks: int) -> Pattern:
    return named_pattern(name, frames, tuple(range(num_codebooks)))


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
        begin: dict[str, Tensor] | None = None,
    ) -> None:
        """begin: weights to begin with, by name; those that it lacks are drawn."""
        self.config, self.text, self.recipe, self.device = config, text, recipe, device
        self.batches = Batches(store, vocabulary, recipe, config.chroma_dim is not None)
        generator = step_torch_rng(recipe.seed, 2**31 - 1)
        self.model = TextAndCodes(config, text, len(vocabulary.pieces), generator, induction=recipe.induction).to(
            device
        )
        if begin is not None:
            self.model.put(begin)
            if config.chroma_dim is not None and "lm.melody_proj.weight" not in begin:
                self.model.look_at_melody(generator)
        self.average = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        groups = []
        for reads in (False, True):
            own = [p for n, p in self.model.named_parameters() if n.startswith(("t5", "labels")) == reads]
            rate = recipe.text_learning_rate if reads else recipe.learning_rate
            for decay, part in (
                (recipe.weight_decay, [p for p in own if p.dim() > 1]),
                (0.0, [p for p in own if p.dim() <= 1]),
            ):
                groups.append({"params": part, "weight_decay": decay, "peak": rate})
        self.optimizer = torch.optim.AdamW(groups, recipe.learning_rate, (0.9, 0.97))
        self.of_rhythm = torch.tensor([mark in RHYTHM for mark in MARKS], device=device)
        self.step_number = 0

    def settings(self) -> dict[str, Any]:
        """The settings that a checkpoint must have been made with."""
        songs = {"songs": len(self.batches.store)}
        return {**asdict(self.config), **asdict(self.text), **self.recipe.settings(), **songs}

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

    def losses(self, batch: Batch, disturb: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Cross entropy per codebook `[K]`, and the weighted sum of those of the score's marks and of the labels.

        disturb: as in training, with codes corrupted and the opening counted more.
        """
        codes, recipe = batch.codes.to(self.device), self.recipe
        pattern = _pattern(batch.pattern, codes.shape[2], self.config.num_codebooks)
        sequence = pattern.build_sequence(codes, self.config.special_token_id)
        read, weights = sequence[:, :, :-1], pattern.mask[:, 1:].float()
        if disturb is not None:
            wrong = (torch.rand(read.shape, generator=disturb) < recipe.corrupted).to(self.device)
            others = torch.randint(self.config.card, read.shape, generator=disturb).to(self.device)
            read = torch.where(wrong & (read < self.config.card), others, read)
            hidden = batch.blind[:, None] | hidden_spans(len(read), read.shape[2], recipe.hidden, disturb)
            read = torch.where(hidden.to(self.device)[:, None], self.config.special_token_id, read)
            for frames, weight in recipe.openings:
                weights[:, : frames * weights.shape[1] // codes.shape[2]] *= weight
        chroma = None if batch.chroma is None else batch.chroma.to(self.device)
        logits, marks, labels = self.model(read, batch.text.to(self.device), batch.text_mask.to(self.device), chroma)
        # A mark is foreseen in the column of its frame's first code.
        first = pattern.mask[0, 1:].to(self.device)
        foreseen = F.binary_cross_entropy_with_logits(
            marks[:, first],
            batch.marks.to(self.device),
            weight=torch.where(self.of_rhythm, recipe.rhythm, 1.0),
            pos_weight=torch.tensor(_RARE, device=self.device),
        )
        told = F.binary_cross_entropy_with_logits(labels, batch.labels.to(self.device))
        beside = recipe.marks * foreseen + recipe.labels * told
        return codes_cross_entropy(logits, sequence[:, :, 1:], weights.to(self.device)), beside

    def teach_text(self) -> float:
        """Let the text encoder learn to tell labels from captions, alone; returns the last loss."""
        steps, rate = self.recipe.text_first[0], 1e-3
        parts = [p for n, p in self.model.named_parameters() if n.startswith(("t5", "labels"))]
        optimizer = torch.optim.AdamW(parts, rate, (0.9, 0.97), weight_decay=self.recipe.weight_decay)
        progress, loss = ProgressLog("text encoder", steps), torch.zeros(())
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * min((step + 1) / self.recipe.warmup, 1.0)
            text, labels = (part.to(self.device) for part in self.batches.captions(step))
            loss = F.binary_cross_entropy_with_logits(self.model.read_text(text)[1], labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parts, 1.0)
            optimizer.step()
            progress.update(step + 1, f"loss {loss.item():.3f}")
        self.average = {name: value.detach().clone() for name, value in self.model.named_parameters()}
        return float(loss.detach())

    def step(self) -> Tensor:
        """One step; returns the losses per codebook."""
        recipe, number = self.recipe, self.step_number
        share = number / recipe.steps
        rate = 0.03 + 0.97 * min(1.0, (1 - share) / max(recipe.decay, 1e-9))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * min((number + 1) / recipe.warmup, rate)
        losses, beside = self.losses(self.batches.draw(number), step_torch_rng(recipe.seed, number))
        first, last = torch.tensor(recipe.first_weights), torch.tensor(recipe.last_weights)
        weights = torch.lerp(first, last, min(1.0, share / 0.7)).to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        ((losses * weights).sum() / weights.sum() + beside).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step_number += 1
        keep = min(recipe.ema, (1 + number) / (10 + number))
        for name, weight in self.model.named_parameters():
            self.average[name].lerp_(weight.detach(), 1 - keep)
        return losses.detach()


def hidden_spans(batch: int, columns: int, share: float, generator: torch.Generator) -> Tensor:
    """Columns bool `[B, S]` that a share of the clips may not read: spans of 10 to 60, over .2 to .8 of the clip."""
    hidden = torch.zeros(batch, columns, dtype=torch.bool)
    for row in range(batch):
        chosen, wanted = torch.rand(2, generator=generator).tolist()
        while chosen < share and hidden[row].float().mean() < 0.2 + 0.6 * wanted:
            start, length = torch.rand(2, generator=generator).tolist()
            first = int(start * columns)
            hidden[row, first : first + 10 + int(50 * length)] = True
    return hidden


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
        batch = batches.make(rows, [0] * len(rows), min(500, held_out.codes.shape[2]), captions, none, none, None)
        losses.append(training.losses(batch)[0])
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
    elif training.recipe.text_first[0]:
        training.teach_text()
    progress = ProgressLog(
        "melody lm" if training.batches.melody else "text lm", training.recipe.trained_steps, training.step_number
    )
    saved, figures = time.monotonic(), ""
    while training.step_number < training.recipe.trained_steps:
        losses = training.step()
        done = training.step_number
        if done % judge_every == 0 or done == training.recipe.trained_steps:
            figures = "held-out " + "/".join(f"{value:.2f}" for value in judge_lm(training, held_out))
            if report is not None:
                report(f"step {done}: {figures}")
        if time.monotonic() - saved > every_seconds or done == training.recipe.trained_steps:
            save_checkpoint(checkpoint, training.state())
            saved = time.monotonic()
        progress.update(done, "loss " + "/".join(f"{value:.2f}" for value in losses.tolist()) + " " + figures)
    training.model.put(training.average)
    return training.model.eval()
