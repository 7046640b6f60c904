"""Cut, join, repeat and reorder codes `[B, K, T]`, and exchange their codebooks. Plain functions of whole frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

Range = tuple[int, int]
"""First frame, and the one behind the last."""


def keep(codes: Tensor, ranges: Sequence[Range]) -> Tensor:
    """Return the ranges one after the other, in the order given; a range may occur again.

    >>> keep(torch.arange(6).view(1, 1, 6), [(4, 6), (0, 2)])
    tensor([[[4, 5, 0, 1]]])

    Raises:
        ValueError: a range is empty or beyond the end, or none is given.
    """
    _check_ranges(ranges, codes.shape[2])
    return torch.cat([codes[:, :, first:stop] for first, stop in ranges], dim=2)


def remove(codes: Tensor, ranges: Sequence[Range]) -> Tensor:
    """Return the codes without the ranges.

    >>> remove(torch.arange(6).view(1, 1, 6), [(1, 3)])
    tensor([[[0, 3, 4, 5]]])

    Raises:
        ValueError: ranges overlap, one is empty or beyond the end, or nothing is left.
    """
    ordered = check_sections(ranges, codes.shape[2])
    stays = torch.ones(codes.shape[2], dtype=torch.bool)
    for first, stop in ordered:
        stays[first:stop] = False
    if not bool(stays.any()):
        raise ValueError(
            f"the ranges cover all {codes.shape[2]} frames; allowed is to leave at least one, so take a range off."
        )
    return codes[:, :, stays]


def join(pieces: Sequence[Tensor]) -> Tensor:
    """Return pieces one after the other; a piece of one item joins each item of the others.

    >>> join([torch.zeros(1, 1, 2), torch.ones(2, 1, 1)]).shape
    torch.Size([2, 1, 3])

    Raises:
        ValueError: the numbers of codebooks or of items differ.
    """
    return torch.cat(_alike(pieces), dim=2)


def repeat(codes: Tensor, times: int) -> Tensor:
    """Return the codes this many times.

    >>> repeat(torch.arange(2).view(1, 1, 2), 3)
    tensor([[[0, 1, 0, 1, 0, 1]]])

    Raises:
        ValueError: `times` is below 1.
    """
    if times < 1:
        raise ValueError(f"repeats is {times}; allowed is at least 1.")
    return codes.repeat(1, 1, times)


def reverse_sections(codes: Tensor, ranges: Sequence[Range]) -> Tensor:
    """Return sections in reverse order, each of them forwards; the rest stays where it is.

    >>> reverse_sections(torch.arange(6).view(1, 1, 6), [(0, 2), (2, 3), (3, 5)])
    tensor([[[3, 4, 2, 0, 1, 5]]])

    Raises:
        ValueError: sections overlap, or one is empty or beyond the end.
    """
    ordered = check_sections(ranges, codes.shape[2])
    parts, end = [], 0
    for (first, stop), (start, after) in zip(ordered, reversed(ordered), strict=True):
        parts += [codes[:, :, end:first], codes[:, :, start:after]]
        end = stop
    return torch.cat([*parts, codes[:, :, end:]], dim=2)


def equal_sections(total: int, lengths: Sequence[int]) -> list[Range]:
    """Return ranges of these lengths over all frames, again and again; the last one is as long as what is left.

    >>> equal_sections(10, [4])
    [(0, 4), (4, 8), (8, 10)]
    """
    ranges, first, number = [], 0, 0
    while first < total:
        stop = min(total, first + max(1, lengths[number % len(lengths)]))
        ranges.append((first, stop))
        first, number = stop, number + 1
    return ranges


def exchange(codes: Tensor, other: Tensor, codebooks: Sequence[int], ranges: Sequence[Range] = ()) -> Tensor:
    """Return the codes with some codebooks of another piece, as far as the shorter of both reaches.

    >>> ours, theirs = torch.zeros(1, 2, 3, dtype=torch.long), torch.ones(1, 2, 3, dtype=torch.long)
    >>> exchange(ours, theirs, [1], [(1, 3)])
    tensor([[[0, 0, 0],
             [0, 1, 1]]])

    Args:
        codes: `[B, K, T]`.
        other: `[B or 1, K, T']`.
        codebooks: numbers from 0 on.
        ranges: where; everywhere if none is given.

    Raises:
        ValueError: a codebook does not exist, or the ranges or the pieces do not fit.
    """
    check_codebooks(codebooks, codes.shape[1])
    codes, other = _alike([codes, other])
    frames = min(codes.shape[2], other.shape[2])
    ranges = check_sections(ranges, frames) if ranges else [(0, frames)]
    made = codes[:, :, :frames].clone()
    for first, stop in ranges:
        made[:, list(codebooks), first:stop] = other[:, list(codebooks), first:stop]
    return made


def check_sections(ranges: Sequence[Range], total: int) -> list[Range]:
    """Return ranges in the order of time.

    Raises:
        ValueError: two overlap, one is empty or beyond the end, or none is given.
    """
    _check_ranges(ranges, total)
    ordered = sorted(ranges)
    for (_, stop), (first, end) in pairwise(ordered):
        if first < stop:
            raise ValueError(
                f"the range of frames {first} to {end} begins before the one before it ends, at frame {stop}; allowed "
                "are ranges that do not overlap, so move one of them."
            )
    return ordered


def check_codebooks(codebooks: Sequence[int], count: int) -> None:
    """Refuse codebooks, numbers from 0 on, that are none of `count`, and none at all."""
    wrong = [number for number in codebooks if not 0 <= number < count]
    if wrong or not codebooks:
        named = f"codebook {wrong[0] + 1}" if wrong else "no codebook"
        raise ValueError(f"{named} was named; allowed are 1 to {count}, the lowest first, such as 1-2 or 3, 4.")


def _check_ranges(ranges: Sequence[Range], total: int) -> None:
    if not ranges:
        raise ValueError("no range was given; name at least one, such as 0s - 4s.")
    for first, stop in ranges:
        if not 0 <= first < stop <= total:
            raise ValueError(
                f"the range of frames {first} to {stop} is empty or beyond the piece, which has {total} frames; "
                "allowed are ranges within it, so shorten the range."
            )


def _alike(pieces: Sequence[Tensor]) -> list[Tensor]:
    """Pieces with the same number of items: one item stands for as many as the others have."""
    counts = {piece.shape[0] for piece in pieces} - {1}
    if len({piece.shape[1] for piece in pieces}) > 1 or len(counts) > 1:
        shapes = " and ".join(str(list(piece.shape)) for piece in pieces)
        raise ValueError(f"the pieces have shapes {shapes}; allowed are equal codebooks, and equal items or one item.")
    size = max(counts, default=1)
    return [piece.expand(size, -1, -1) for piece in pieces]
