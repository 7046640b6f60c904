"""Clips of the corpus as batches of a language model: codes, captions, melodies, and the score beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen.training.resume import step_rng

from .corpus.captions import describe
from .corpus.score_marks import label_bits, unpack
from .corpus.store import CHROMA_STEP
from .lm_recipe import LMRecipe
from .tokens import TokenStore
from .vocabulary import UNKNOWN_ID, Vocabulary

COLUMNS = {"flatten": 4, "partial_flatten": 2, "coarse_first": 2, "musiclm": 4}
"""Columns that a frame takes, where it is not one."""


@dataclass(frozen=True)
class Batch:
    """Clips as tensors: codes `[B, K, T]` and the pattern to lay them out by, their score's marks `[B, T, MARKS]`,
    their songs' labels `[B, LABELS]`, text ids and mask `[B, n]`, chroma one-hot `[B, F, 12]` or None, and the clips
    `[B]` whose codes the model does not get to read."""

    codes: Tensor
    pattern: str
    marks: Tensor
    labels: Tensor
    text: Tensor
    text_mask: Tensor
    chroma: Tensor | None
    blind: Tensor


class Batches:
    """Draws clips, with a caption and, for melody models, the melody of the same frames."""

    def __init__(self, store: TokenStore, vocabulary: Vocabulary, recipe: LMRecipe, melody: bool) -> None:
        self.store, self.vocabulary, self.recipe, self.melody = store, vocabulary, recipe, melody
        self.fold = np.array(vocabulary.fold)

    def draw(self, step: int) -> Batch:
        """The batch of one training step."""
        recipe, rng = self.recipe, step_rng(self.recipe.seed, step)
        frames, batch = next((frames, batch) for until, frames, batch in recipe.phases if step < until * recipe.steps)
        names, shares = zip(*recipe.patterns, strict=True)
        pattern = str(rng.choice(names, p=np.array(shares) / sum(shares)))
        # Half of what more columns cost is taken from the clip, half from the batch.
        columns = COLUMNS.get(pattern, 1)
        frames, batch = round(frames / columns**0.5), max(1, round(batch / columns**0.5))
        rows = rng.integers(len(self.store), size=batch)
        blind = rng.random(batch) < recipe.blind
        starts = [self._start(int(row), frames, bool(hidden), rng) for row, hidden in zip(rows, blind, strict=True)]
        captions = [describe(self.store.plans[row], rng) for row in rows]
        drops = rng.random((3, batch)) < [[recipe.drop_all], [recipe.drop_text], [recipe.drop_melody]]
        no_text = drops[0] | (drops[1] & self.melody)
        return self.make(
            rows, starts, frames, captions, no_text, drops[0] | drops[2], rng, pattern=pattern, blind=blind
        )

    def make(
        self,
        rows: np.ndarray,
        starts: list[int],
        frames: int,
        captions: list[str],
        no_text: np.ndarray,
        no_melody: np.ndarray,
        rng: np.random.Generator | None,
        *,
        pattern: str = "delay",
        blind: np.ndarray | None = None,
    ) -> Batch:
        """Clips of chosen songs from chosen frames on; rng makes words unknown."""
        clips = [self.store.codes[row, :, start : start + frames] for row, start in zip(rows, starts, strict=True)]
        text = self.read(captions, rng)
        mask = (text != 0) & ~no_text[:, None]
        marks = [self.store.rolls[row, start : start + frames] for row, start in zip(rows, starts, strict=True)]
        return Batch(
            codes=torch.from_numpy(np.stack(clips).astype(np.int64)),
            pattern=pattern,
            marks=torch.from_numpy(unpack(np.stack(marks))),
            labels=torch.tensor([label_bits(self.store.plans[row]) for row in rows]),
            text=torch.from_numpy(text),
            text_mask=torch.from_numpy(mask),
            chroma=self._chroma(rows, starts, no_melody) if self.melody else None,
            blind=torch.from_numpy(np.zeros(len(rows), dtype=bool) if blind is None else blind),
        )

    def read(self, captions: list[str], rng: np.random.Generator | None) -> np.ndarray:
        """Captions as ids int64 `[B, n]`, padded with 0; rng makes words unknown, and puts unknown words between."""
        rows = [[self.fold[word] for word in ids] for ids in self.vocabulary.tokenizer(captions)["input_ids"]]
        if rng is not None:
            rows = [self._disturbed(row, rng) for row in rows]
        text = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.int64)
        for number, row in enumerate(rows):
            text[number, : len(row)] = row
        return text

    def _disturbed(self, words: list[int], rng: np.random.Generator) -> list[int]:
        unknown = rng.random(len(words)) < self.recipe.unknown_words
        words = [UNKNOWN_ID if lost and word > UNKNOWN_ID else word for word, lost in zip(words, unknown, strict=True)]
        if rng.random() < self.recipe.foreign_words:
            for _ in range(int(rng.integers(1, 5))):
                words.insert(int(rng.integers(len(words))), UNKNOWN_ID)
        return words

    def captions(self, step: int) -> tuple[Tensor, Tensor]:
        """Text ids and labels of one step in which the text encoder learns alone."""
        rng = step_rng(self.recipe.seed, step, 3)
        plans = [self.store.plans[row] for row in rng.integers(len(self.store), size=self.recipe.text_first[1])]
        text = self.read([describe(plan, rng) for plan in plans], rng)
        return torch.from_numpy(text), torch.tensor([label_bits(plan) for plan in plans])

    def _start(self, row: int, frames: int, blind: bool, rng: np.random.Generator) -> int:
        """Half of the clips are the beginning of their song; songs that end are heard from there alone."""
        plan, last = self.store.plans[row], self.store.codes.shape[2] - frames
        how, where = rng.random(2)
        if how < 0.5 * (1 - self.recipe.anywhere) or plan.ending:
            return 0
        if not blind and how > 1 - self.recipe.anywhere:
            return int(where * (last + 1))
        bar = plan.beats * plan.beat_frames
        return bar * int(where * (last // bar + 1))

    def _chroma(self, rows: np.ndarray, starts: list[int], dropped: np.ndarray) -> Tensor:
        picked = []
        length = self.store.chroma_length
        for row, start, drop in zip(rows, starts, dropped, strict=True):
            rest = self.store.chroma[row, round(start / CHROMA_STEP) :]
            picked.append(np.zeros(length, dtype=rest.dtype) if drop else np.resize(rest, length))
        return F.one_hot(torch.from_numpy(np.stack(picked).astype(np.int64)), 12).float()
