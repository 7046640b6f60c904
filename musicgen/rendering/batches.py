"""Which pieces are sampled side by side: those that differ in nothing but their texts, recordings and seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .pieces import Piece

MOST = 64
"""Pieces in a batch, where memory allows; beyond it a batch hardly gains speed, and a killed one loses more work."""


def make_batches(pieces: Iterable[Piece], most: int = MOST, workers: int = 1) -> list[list[Piece]]:
    """Group pieces into full batches, the longest first, those of one model and one LoRA together.

    Every group is dealt out evenly, so that all workers end at about the same time. Equal texts are neighbours, and
    texts of about the same length.

    Args:
        pieces: in any order.
        most: pieces in one batch at most; a worker with less memory splits it.
        workers: number of workers that the batches are for.
    """
    groups: dict[tuple[Any, ...], list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(piece.group(), []).append(piece)
    first: dict[tuple[Any, ...], int] = {}
    for group in groups:
        first.setdefault(group[:3], len(first))
    ordered = sorted(groups.items(), key=lambda item: (first[item[0][:3]], -item[1][0].seconds))
    batches = []
    for _, members in ordered:
        members.sort(key=lambda piece: (len(piece.description), piece.description, piece.negative, piece.id))
        batches += even_parts(members, most, workers)
    return batches


def even_parts(items: Sequence[Piece], most: int, workers: int = 1) -> list[list[Piece]]:
    """Split pieces into parts of almost one size, at most `most`; as many for each worker where there are enough."""
    count = -(-len(items) // most)
    if count > 1 or len(items) >= 8 * workers:
        count = -(-count // workers) * workers
    size, more = divmod(len(items), count)
    parts, begin = [], 0
    for index in range(count):
        end = begin + size + (index < more)
        parts.append(list(items[begin:end]))
        begin = end
    return [part for part in parts if part]
