"""Edits of melodies: transpose, stretch, silence a range, cut, repeat, join, mix.

Each edit is exact on the chroma, keeps no frames of its own, and works on melodies of recordings and of scores alike.
Times are seconds of the melody that is edited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import ChromaConfig
from .melody import Melody, Tune
from .written_melody import WrittenMelody, is_silent, rows_at

LONGEST_SECONDS = 3600.0
"""Longest melody that an edit may make."""


def transpose(melody: Melody, semitones: int) -> WrittenMelody:
    """Move every note up by semitones, or down if they are negative; the chroma has no octaves.

    The silence of a recording moves too, since its chroma is that of a C; silence of a score or of an edit stays.
    """
    return WrittenMelody(_Transposed(melody.tune, semitones), melody.config)


def stretch(melody: Melody, factor: float) -> WrittenMelody:
    """Make a melody `factor` times as long: 2 is half the tempo, 0.5 is twice the tempo.

    Raises:
        ValueError: the factor is not above 0, or the melody gets longer than an hour.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"stretch is {factor:g}; allowed is a number above 0, such as 2 for half the tempo.")
    _check_length(melody.tune.seconds * factor)
    return WrittenMelody(_Stretched(melody.tune, factor), melody.config)


def silence(melody: Melody, start: float, end: float) -> WrittenMelody:
    """Put silence, which is the null chroma, from `start` to `end`.

    Raises:
        ValueError: the range is empty or lies outside of the melody.
    """
    _check_range(melody, start, end)
    return WrittenMelody(_Silenced(melody.tune, start, end), melody.config)


def cut(melody: Melody, start: float, end: float) -> WrittenMelody:
    """Keep only the part from `start` to `end`.

    Raises:
        ValueError: the range is empty or lies outside of the melody.
    """
    _check_range(melody, start, end)
    return WrittenMelody(_Cut(melody.tune, start, min(end, melody.tune.seconds)), melody.config)


def repeat(melody: Melody, times: int) -> WrittenMelody:
    """Play a melody several times in a row.

    Raises:
        ValueError: the number is below 1, or the melody gets longer than an hour.
    """
    if times < 1:
        raise ValueError(f"repeat is {times}; allowed is a whole number from 1 on.")
    _check_length(melody.tune.seconds * times)
    return WrittenMelody(_Joined((melody.tune,) * times), melody.config)


def join(*melodies: Melody) -> WrittenMelody:
    """Play melodies one after another.

    Raises:
        ValueError: together they are longer than an hour.
    """
    _check_length(sum(melody.tune.seconds for melody in melodies))
    return WrittenMelody(_Joined(tuple(melody.tune for melody in melodies)), melodies[0].config)


def mix(melody: Melody, other: Melody, share: float, start: float = 0.0, end: float = math.inf) -> WrittenMelody:
    """Blend the chroma of two melodies from `start` to `end`: `share` of the other one, which repeats without end.

    Args:
        melody: the one that gives the length.
        other: the one to mix in.
        share: 0 is the first melody alone, 1 the other one alone; between them a frame is no longer one-hot.
        start: seconds.
        end: seconds.

    Raises:
        ValueError: the share is outside of 0 to 1, or the range is empty or outside of the melody.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"mix is {share:g}; allowed is 0, the melody alone, to 1, the other melody alone.")
    _check_range(melody, start, end)
    return WrittenMelody(_Mixed(melody.tune, other.tune, share, start, end), melody.config)


def _check_range(melody: Melody, start: float, end: float) -> None:
    seconds = melody.tune.seconds
    if not 0 <= start < min(end, seconds):
        raise ValueError(
            f"the range is {start:g} to {end:g} s of a melody of {seconds:.6g} s; allowed is a start before the end "
            f"and before {seconds:.6g} s."
        )


def _check_length(seconds: float) -> None:
    if seconds > LONGEST_SECONDS:
        raise ValueError(
            f"the melody gets {seconds:.6g} seconds long; allowed are {LONGEST_SECONDS:g}, so repeat or stretch less."
        )


@dataclass(frozen=True, eq=False)
class _Edited:
    tune: Tune

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.tune.seconds


@dataclass(frozen=True, eq=False)
class _Transposed(_Edited):
    semitones: int

    def rows(self, times: Tensor, config: ChromaConfig) -> Tensor:
        """Return the other tune's chroma `[N, n]`, rolled."""
        return torch.roll(self.tune.rows(times, config), self.semitones * config.num_chroma // 12, dims=1)


@dataclass(frozen=True, eq=False)
class _Stretched(_Edited):
    factor: float

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.tune.seconds * self.factor

    def rows(self, times: Tensor, config: ChromaConfig) -> Tensor:
        """Return the other tune's chroma `[N, n]` at the times before the stretch."""
        return rows_at(self.tune, times / self.factor, config)


@dataclass(frozen=True, eq=False)
class _Silenced(_Edited):
    start: float
    end: float

    def rows(self, times: Tensor, config: ChromaConfig) -> Tensor:
        """Return the other tune's chroma `[N, n]`, with silence in the range."""
        outside = (times < self.start) | (times >= self.end)
        return self.tune.rows(times, config) * outside.float()[:, None]


@dataclass(frozen=True, eq=False)
class _Cut(_Edited):
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.end - self.start

    def rows(self, times: Tensor, config: ChromaConfig) -> Tensor:
        """Return the other tune's chroma `[N, n]` from the start of the part on."""
        return rows_at(self.tune, times + self.start, config)


@dataclass(frozen=True, eq=False)
class _Joined:
    tunes: tuple[Tune, ...]

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return sum(tune.seconds for tune in self.tunes)

    def rows(self, times: Tensor, config: ChromaConfig) -> Tensor:
        """Return the chroma `[N, n]` of the tune that plays at each time."""
        ends = torch.tensor([tune.seconds for tune in self.tunes], dtype=torch.float64).cumsum(0)
        which = torch.bucketize(times, ends, right=True).clamp_max(len(self.tunes) - 1)
        rows = torch.zeros(len(times), config.num_chroma)
        for index in which.unique().tolist():
            mine, tune = which == index, self.tunes[index]
            rows[mine] = rows_at(tune, times[mine] - (ends[index] - tune.seconds), config)
        return rows


@dataclass(frozen=True, eq=False)
class _Mixed(_Edited):
    other: Tune
    share: float
    start: float
    end: float

    def rows(self, times: Tensor, config: ChromaConfig) -> Tensor:
        """Return the blend `[N, n]` of both tunes in the range, and the first tune outside of it."""
        own, other = self.tune.rows(times, config), rows_at(self.other, times, config)
        inside = ((times >= self.start) & (times < self.end))[:, None]
        if self.share in (0.0, 1.0):
            return torch.where(inside, other, own) if self.share else own
        # Where one of both is silent the other one is heard alone.
        blend = torch.lerp(own, other, self.share)
        blend = torch.where(is_silent(own), other, torch.where(is_silent(other), own, blend))
        return torch.where(inside, blend, own)
