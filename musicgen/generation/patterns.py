"""Codebook interleaving patterns: the order in which the K codes of a frame are predicted.

Section 2.2 of Copet et al. 2023. A pattern assigns the codes `[B, K, T]` to the columns of a
sequence `[B, K, S]`; the language model predicts one column from all columns before it. Cells
without a code hold the special token. Column 0 is empty, so that the model has an input for the
first prediction; only a delay pattern with `empty_initial=-1` omits it. This module handles plain
integers and index tensors, not models.

With K = 4 and T = 3, a number is the frame and a dot the special token::

    delay           parallel   flatten                    partial_flatten  coarse_first
    . 0 1 2 . . .   . 0 1 2    . 0 . . . 1 . . . 2 . . .  . 0 . 1 . 2 .    . 0 1 2 . . .
    . . 0 1 2 . .   . 0 1 2    . . 0 . . . 1 . . . 2 . .  . . 0 . 1 . 2    . . . . 0 1 2
    . . . 0 1 2 .   . 0 1 2    . . . 0 . . . 1 . . . 2 .  . . 0 . 1 . 2    . . . . 0 1 2
    . . . . 0 1 2   . 0 1 2    . . . . 0 . . . 1 . . . 2  . . 0 . 1 . 2    . . . . 0 1 2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..config import PatternConfig

Coord = tuple[int, int]
"""(frame t, codebook q)."""

PATTERN_NAMES = ("delay", "parallel", "partial_delay", "flatten", "partial_flatten", "coarse_first", "musiclm")
"""Names that :func:`named_pattern` takes."""


@dataclass(frozen=True)
class Pattern:
    """A layout of K codebooks x T frames on S columns.

    >>> pattern = delay_pattern(3, [0, 1])
    >>> pattern.frames
    tensor([[-1,  0,  1,  2, -1],
            [-1, -1,  0,  1,  2]])
    >>> pattern.steps
    tensor([[1, 2, 3],
            [2, 3, 4]])

    Attributes:
        layout: one tuple of (t, q) per column, column 0 first. A coordinate with t >= T lies beyond
            the last frame; its cell holds the special token.
        num_codebooks: K.
        num_frames: T.

    Raises:
        ValueError: a code is missing or occurs twice, or a column holds a codebook twice.
    """

    layout: tuple[tuple[Coord, ...], ...]
    num_codebooks: int
    num_frames: int

    def __post_init__(self) -> None:
        seen: set[Coord] = set()
        for column in self.layout:
            codebooks = [q for _, q in column]
            if len(codebooks) != len(set(codebooks)) or not all(0 <= q < self.num_codebooks for q in codebooks):
                raise ValueError(f"a pattern's column holds {column}; allowed is each of the K codebooks at most once.")
            for coord in column:
                if coord in seen:
                    raise ValueError(f"a pattern holds (t, q) = {coord} twice; allowed is once.")
                seen.add(coord)
        missing = [(t, q) for t in range(self.num_frames) for q in range(self.num_codebooks) if (t, q) not in seen]
        if missing:
            raise ValueError(f"a pattern lacks {len(missing)} codes, first {missing[:5]}; every code needs a column.")

    @property
    def num_steps(self) -> int:
        """S, the number of columns."""
        return len(self.layout)

    @property
    def num_valid_steps(self) -> int:
        """The number of columns to train on: the last ones, where a delay runs beyond the last frame, do not count."""
        last = max(t for column in self.layout for t, _ in column)
        return self.num_steps - (last - (self.num_frames - 1))

    @cached_property
    def frames(self) -> Tensor:
        """The frame t that each cell holds, -1 for a cell without a code: int64 `[K, S]`."""
        table = torch.full((self.num_codebooks, self.num_steps), -1, dtype=torch.int64)
        for step, column in enumerate(self.layout):
            for t, q in column:
                if t < self.num_frames:
                    table[q, step] = t
        return table

    @cached_property
    def mask(self) -> Tensor:
        """True where a cell holds a code: bool `[K, S]`."""
        return self.frames >= 0

    @cached_property
    def steps(self) -> Tensor:
        """The column that holds each code: int64 `[K, T]`."""
        table = torch.empty((self.num_codebooks, self.num_frames), dtype=torch.int64)
        q, s = torch.nonzero(self.mask, as_tuple=True)
        table[q, self.frames[q, s]] = s
        return table

    def build_sequence(self, codes: Tensor, special_token: int) -> Tensor:
        """Lay codes `[B, K, T]` out as a sequence `[B, K, S]`; empty cells hold `special_token`.

        >>> codes = torch.tensor([[[1, 2, 3], [4, 5, 6]]])
        >>> delay_pattern(3, [0, 1]).build_sequence(codes, special_token=9)
        tensor([[[9, 1, 2, 3, 9],
                 [9, 9, 4, 5, 6]]])
        """
        self._check(codes, self.num_frames, "codes")
        gathered = codes.gather(2, self.frames.clamp_min(0).to(codes.device).expand(codes.shape[0], -1, -1))
        return torch.where(self.mask.to(codes.device), gathered, special_token)

    def revert_sequence(self, sequence: Tensor) -> Tensor:
        """Read the codes `[B, K, T]` back from a sequence `[B, K, S]`.

        >>> sequence = torch.tensor([[[9, 1, 2, 3, 9], [9, 9, 4, 5, 6]]])
        >>> delay_pattern(3, [0, 1]).revert_sequence(sequence)
        tensor([[[1, 2, 3],
                 [4, 5, 6]]])
        """
        self._check(sequence, self.num_steps, "sequence")
        return sequence.gather(2, self.steps.to(sequence.device).expand(sequence.shape[0], -1, -1))

    def revert_logits(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Align predictions with the codes that they predict.

        Args:
            logits: `[B, K, S, card]`; column s predicts column s + 1. Without an empty column 0 no
                column comes before the first code, and column s is read as its own prediction.

        Returns:
            Logits `[B, K, T, card]`, NaN where no column predicts a code; and a bool mask `[K, T]`.
        """
        self._check(logits, self.num_steps, "logits")
        source = (self.steps - (0 if self.layout[0] else 1)).to(logits.device)
        index = source.clamp_min(0)[None, :, :, None].expand(logits.shape[0], -1, -1, logits.shape[3])
        mask = source >= 0
        return logits.gather(2, index).masked_fill(~mask[None, :, :, None], float("nan")), mask

    def first_step(self, t: int) -> int:
        """Return the first column that holds a code of frame t or of a later frame.

        >>> delay_pattern(3, [0, 1]).first_step(1)
        2
        """
        later = (self.frames >= t).any(0)
        if not bool(later.any()):
            raise ValueError(f"frame {t} is not in the pattern; allowed is 0 to {self.num_frames - 1}.")
        return int(later.int().argmax())

    def _check(self, tensor: Tensor, length: int, what: str) -> None:
        if tensor.dim() < 3 or tensor.shape[1] != self.num_codebooks or tensor.shape[2] != length:
            raise ValueError(
                f"{what} have shape {list(tensor.shape)}; this pattern needs [B, {self.num_codebooks}, {length}]."
            )


def _check_delays(delays: Sequence[int]) -> None:
    if not delays or min(delays) < 0 or list(delays) != sorted(delays):
        raise ValueError(f"delays are {list(delays)}; allowed are rising numbers from 0 on, one per codebook.")


def delay_pattern(num_frames: int, delays: Sequence[int], *, flatten_first: int = 0, empty_initial: int = 0) -> Pattern:
    """Build a pattern in which codebook q is `delays[q]` columns late (delay, partial delay, stereo).

    >>> delay_pattern(2, [0, 1]).layout
    ((), ((0, 0),), ((1, 0), (0, 1)), ((2, 0), (1, 1)))

    Args:
        num_frames: T.
        delays: one number of columns per codebook, not falling, from 0 on.
        flatten_first: number of frames at the start that are flattened instead, one code per column.
        empty_initial: number of empty columns to add after column 0; -1 omits column 0.

    Raises:
        ValueError: a number is out of range.
    """
    _check_delays(delays)
    if empty_initial < -1 or flatten_first < 0:
        raise ValueError(
            f"flatten_first is {flatten_first}, empty_initial {empty_initial}; allowed is at least 0 and at least -1."
        )
    K = len(delays)
    columns: list[tuple[Coord, ...]] = [()] * (1 + empty_initial)
    columns += [((t, q),) for t in range(min(num_frames, flatten_first)) for q in range(K)]
    # The last columns also list codebooks that are past the last frame; their cells stay empty.
    for step in range(flatten_first, num_frames + max(delays)):
        columns.append(tuple((step - d, q) for q, d in enumerate(delays) if step - d >= flatten_first))
    return Pattern(tuple(columns), K, num_frames)


def parallel_pattern(num_frames: int, num_codebooks: int) -> Pattern:
    """Build a pattern with all codebooks of a frame in one column.

    >>> parallel_pattern(2, 2).layout
    ((), ((0, 0), (0, 1)), ((1, 0), (1, 1)))
    """
    return delay_pattern(num_frames, [0] * num_codebooks)


def flatten_pattern(num_frames: int, flattening: Sequence[int], delays: Sequence[int] | None = None) -> Pattern:
    """Build a pattern in which each frame takes several columns, its inner columns.

    >>> flatten_pattern(1, [0, 1, 1]).layout
    ((), ((0, 0),), ((0, 1), (0, 2)))

    Args:
        num_frames: T.
        flattening: the inner column of each codebook: `[0, 1, 2, 3]` is full flattening,
            `[0, 1, 1, 1]` partial flattening.
        delays: number of frames by which each codebook is late; equal within an inner column.

    Raises:
        ValueError: the delays fall, or do not fit the flattening.
    """
    inner: dict[int, list[int]] = {}
    delays = [0] * len(flattening) if delays is None else delays
    _check_delays(delays)
    for q, place in enumerate(flattening):
        inner.setdefault(place, []).append(q)
    if len(delays) != len(flattening) or any(len({delays[q] for q in qs}) > 1 for qs in inner.values()):
        raise ValueError(f"delays {list(delays)} do not fit flattening {list(flattening)}: one delay per inner column.")
    # Give every inner column its time, delayed by whole frames, then sort the columns by time.
    total = num_frames + max(delays)
    places: list[tuple[int, tuple[Coord, ...]]] = []
    for t in range(total):
        for place in range(max(flattening) + 1):
            qs = inner.get(place, [])
            at = t + (delays[qs[0]] if qs else 0)
            if at < total:
                places.append((at, tuple((t, q) for q in qs)))
    return Pattern(((), *(column for _, column in sorted(places))), len(flattening), num_frames)


def coarse_first_pattern(
    num_frames: int, num_codebooks: int, *, delays: Sequence[int] | None = None, num_coarse: int = 1
) -> Pattern:
    """Build a pattern with all frames of the coarse codebooks first, then all frames of the others (VALL-E).

    >>> coarse_first_pattern(2, 2).layout
    ((), ((0, 0),), ((1, 0),), ((0, 1),), ((1, 1),))

    Args:
        num_frames: T.
        num_codebooks: K.
        delays: number of columns by which each of the other codebooks is late in the second half.
        num_coarse: codebooks in the first half, 2 for stereo models.

    Raises:
        ValueError: the delays fall, or are not one for each of the other codebooks.
    """
    rest = num_codebooks - num_coarse
    delays = [0] * rest if delays is None else delays
    if rest:
        _check_delays(delays)
    if len(delays) != rest:
        raise ValueError(f"delays are {list(delays)}; allowed is one for each of the {rest} codebooks after the first.")
    columns: list[tuple[Coord, ...]] = [()]
    columns += [tuple((t, q) for q in range(num_coarse)) for t in range(num_frames)]
    for step in range(num_frames + max(delays, default=0) if rest else 0):
        columns.append(tuple((step - d, q) for q, d in enumerate(delays, num_coarse) if step - d >= 0))
    return Pattern(tuple(columns), num_codebooks, num_frames)


def musiclm_pattern(num_frames: int, num_codebooks: int, group_by: int = 2) -> Pattern:
    """Build a pattern of groups of `group_by` codebooks, one group after the other, each flattened (MusicLM).

    >>> musiclm_pattern(1, 4).layout
    ((), ((0, 0),), ((0, 1),), ((0, 2),), ((0, 3),))
    """
    if group_by < 1 or num_codebooks % group_by:
        raise ValueError(f"group_by is {group_by}; allowed is a divisor of the {num_codebooks} codebooks.")
    columns: list[tuple[Coord, ...]] = [()]
    for first in range(0, num_codebooks, group_by):
        columns += [((t, q),) for t in range(num_frames) for q in range(first, first + group_by)]
    return Pattern(tuple(columns), num_codebooks, num_frames)


def named_pattern(name: str | None, num_frames: int, delays: Sequence[int], num_channels: int = 1) -> Pattern:
    """Build a pattern by its name.

    >>> named_pattern("parallel", 2, delays=[0, 1]) == parallel_pattern(2, 2)
    True

    Args:
        name: one of `PATTERN_NAMES`, or None for the checkpoint's own delays.
        num_frames: T.
        delays: the checkpoint's own delays, one per codebook; their number is K.
        num_channels: 2 keeps the left and right code of a level in one column, as the pattern of the
            stereo models does. "flatten" and "musiclm" still give every code its own column.

    Raises:
        ValueError: the name is unknown, or `num_frames` is below 1.
    """
    if num_frames < 1:
        raise ValueError(f"a pattern of {num_frames} frames was asked for; allowed is at least 1.")
    K = len(delays)
    level = [q // num_channels for q in range(K)]
    fine = [min(1, n) for n in level]
    if name is None:
        return delay_pattern(num_frames, delays)
    if name == "delay":
        return delay_pattern(num_frames, level)
    if name == "parallel":
        return parallel_pattern(num_frames, K)
    if name == "partial_delay":
        return delay_pattern(num_frames, fine)
    if name == "flatten":
        return flatten_pattern(num_frames, range(K))
    if name == "partial_flatten":
        return flatten_pattern(num_frames, fine)
    if name == "coarse_first":
        return coarse_first_pattern(num_frames, K, num_coarse=min(num_channels, K))
    if name == "musiclm":
        return musiclm_pattern(num_frames, K, 2 if K % 2 == 0 else 1)
    raise ValueError(f"pattern is {name!r}; allowed are {', '.join(PATTERN_NAMES)}, or none for the checkpoint's own.")


def trained_pattern(num_frames: int, delays: Sequence[int], config: PatternConfig | None = None) -> Pattern:
    """Build the pattern that a checkpoint was trained with: that of its configuration, or else of its delays.

    >>> trained_pattern(2, [0, 0], PatternConfig("coarse_first", (0,))) == coarse_first_pattern(2, 2)
    True
    """
    if config is None:
        return delay_pattern(num_frames, delays)
    if config.kind == "unroll":
        return flatten_pattern(num_frames, config.flattening, config.delays)
    if config.kind == "coarse_first":
        return coarse_first_pattern(num_frames, len(delays), delays=config.delays)
    if config.kind == "music_lm":
        return musiclm_pattern(num_frames, len(delays), config.group_by)
    return delay_pattern(
        num_frames, config.delays, flatten_first=config.flatten_first, empty_initial=config.empty_initial
    )


def trained_pattern_name(
    delays: Sequence[int], num_channels: int = 1, config: PatternConfig | None = None
) -> str | None:
    """Return the name among `PATTERN_NAMES` of the pattern that a checkpoint was trained with, or None.

    >>> trained_pattern_name([0, 1, 2, 3])
    'delay'
    """
    frames = 3  # from which on all patterns differ
    own = trained_pattern(frames, delays, config).layout
    return next((n for n in PATTERN_NAMES if named_pattern(n, frames, delays, num_channels).layout == own), None)
