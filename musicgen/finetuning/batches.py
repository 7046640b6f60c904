"""Draw the pieces of each training step: every piece once in a round, in an order that the seed and the step decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from ..conditioning.condition import TextCondition
from ..conditioning.text import TextEncoder
from ..training.resume import step_rng
from .dataset import Piece, SongDataset
from .objective import EMPTY, Batch
from .recipe import Recipe

_ORDER, _DRAW = 3, 4
"""Streams of random numbers beside those of :mod:`..training.resume`."""


def encode_captions(encoder: TextEncoder, captions: Sequence[str]) -> dict[str, Tensor]:
    """Return the states `[n, C]` of each caption on the CPU; an empty one has none, and becomes the null condition."""
    found = {}
    for caption in captions:
        row = encoder.encode([caption]).row(0)
        found[caption] = torch.zeros(0, encoder.width) if row is None else row.detach().float().cpu().clone()
    return found


class Batches:
    """The pieces of a dataset as batches.

    Args:
        dataset: the songs.
        texts: states of each caption, from :func:`encode_captions`.
        recipe: the numbers of the training.
        rank: of this process among those that train together.
        ranks: how many train together; each draws other pieces.
    """

    def __init__(
        self, dataset: SongDataset, texts: Mapping[str, Tensor], recipe: Recipe, rank: int = 0, ranks: int = 1
    ) -> None:
        self.dataset, self.texts, self.recipe = dataset, texts, recipe
        self.pieces = dataset.train
        self.rank, self.ranks = rank, ranks
        if not self.pieces:
            raise ValueError(f"{dataset.name} holds no piece to train on; give more songs, or hold out fewer.")
        self.frames = round(recipe.seconds * dataset.frame_rate)
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def draw(self, step: int, part: int = 0) -> Batch:
        """Return a batch of a training step. part: which of the batches whose gradients make the step."""
        recipe, count = self.recipe, self.recipe.batch
        number = ((step * recipe.accumulate + part) * self.ranks + self.rank) * count
        rng = step_rng(recipe.seed, number, _DRAW)
        pieces = [self._piece(number + index) for index in range(count)]
        starts = [self._start(piece, rng) for piece in pieces]
        no_text = torch.from_numpy(rng.random(count) < recipe.drop_text)
        no_melody = torch.from_numpy(rng.random(count) < recipe.drop_melody)
        return self._batch(pieces, starts, no_text, no_melody)

    def held_out(self, most: int = 64) -> list[Batch]:
        """Return the held-out pieces with all their conditions, evenly chosen where they are many."""
        test, size = self.dataset.test, self.recipe.batch
        chosen = [test[index * len(test) // min(most, len(test))] for index in range(min(most, len(test)))]
        batches = []
        for first in range(0, len(chosen), size):
            part = chosen[first : first + size]
            none = torch.zeros(len(part), dtype=torch.bool)
            batches.append(self._batch(part, [0] * len(part), none, none))
        return batches

    def _piece(self, number: int) -> Piece:
        round_, place = divmod(number, len(self.pieces))
        return self.pieces[int(self._order(round_)[place])]

    def _draw_order(self, round_: int) -> np.ndarray:
        return step_rng(self.recipe.seed, round_, _ORDER).permutation(len(self.pieces))

    def _start(self, piece: Piece, rng: np.random.Generator) -> int:
        """The first frame of the part of a piece that is learned. Melody models learn whole pieces."""
        spare = piece.codes.shape[1] - self.frames
        return int(rng.integers(spare + 1)) if self.frames and spare > 0 and piece.chroma is None else 0

    def _batch(self, pieces: Sequence[Piece], starts: Sequence[int], no_text: Tensor, no_melody: Tensor) -> Batch:
        longest = self.frames or max(piece.codes.shape[1] for piece in pieces)
        parts = [piece.codes[:, start : start + longest].long() for piece, start in zip(pieces, starts, strict=True)]
        width = max(part.shape[1] for part in parts)
        codes = torch.full((len(parts), parts[0].shape[0], width), EMPTY)  # [B, K, T]
        for row, part in enumerate(parts):
            codes[row, :, : part.shape[1]] = part
        states = [self.texts[self.dataset.caption(piece)] for piece in pieces]
        lengths = torch.tensor([len(each) for each in states])
        padded = nn.utils.rnn.pad_sequence(states, batch_first=True)
        padded = padded if padded.shape[1] else padded.new_zeros(len(states), 1, padded.shape[2])
        mask = torch.arange(padded.shape[1]) < lengths[:, None]
        chromas = tuple(piece.chroma for piece in pieces if piece.chroma is not None)
        return Batch(codes, TextCondition(padded, mask), chromas, no_text | (lengths == 0), no_melody)
