"""The corpus: an endless, seeded supply of songs with sound, stems, labels and captions.

Nothing is stored: song number s is made again from s, the same on every run and in any order.
Training, validation and test songs come from disjoint ranges of seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from .captions import DEFAULT_ODDS, CaptionOdds, describe
from .composer import FRAME_RATE, Note, SongPlan, compose, draw_plan
from .synth import render_stem

SAMPLE_RATE = 16000
# First seeds of the parts; a part has ten million songs.
SPLITS = {"train": 0, "valid": 10_000_000, "test": 20_000_000}
# Loudest sample of any song is below 0.95.
_LEVEL = np.float32(0.78)


@dataclass(frozen=True)
class Song:
    """A song: audio `[L]` float32, its stems (lead, chords, bass, drums; they sum to it) and its labels."""

    seed: int
    audio: np.ndarray
    stems: dict[str, np.ndarray]
    labels: SongPlan
    sample_rate: int

    @property
    def melody(self) -> np.ndarray:
        """What a melody model is to follow, lead and chords: `[L]`."""
        return np.asarray(self.stems["lead"] + self.stems["chords"])

    def caption(self, rng: np.random.Generator, odds: CaptionOdds = DEFAULT_ODDS) -> str:
        """A caption, other words on every call."""
        return describe(self.labels, rng, odds)


def write_score(seed: int, num_frames: int) -> tuple[SongPlan, dict[str, list[Note]]]:
    """The labels of song number `seed`, and the notes that start in its first frames, by stem."""
    rng = np.random.Generator(np.random.PCG64(seed))
    plan = draw_plan(rng)
    return plan, compose(plan, num_frames, rng)


def make_song(seed: int, seconds: float = 6.0, sample_rate: int = SAMPLE_RATE) -> Song:
    """Make song number `seed`, the first `seconds` of it; `sample_rate` must be a multiple of 50.

    The same note is the same samples in every song: none is made louder or softer than it comes out.
    """
    if sample_rate % FRAME_RATE:
        raise ValueError(f"sample_rate is {sample_rate}; allowed are multiples of {FRAME_RATE}, for example 16000.")
    num_samples = round(seconds * sample_rate)
    plan, notes = write_score(seed, -(-num_samples * FRAME_RATE // sample_rate))
    voices = {"lead": plan.lead, "chords": plan.chords, "bass": plan.bass_style, "drums": None}
    stems = {name: render_stem(name, voices[name], notes[name], num_samples, sample_rate) for name in notes}
    stems = {name: stem * _LEVEL for name, stem in stems.items()}
    return Song(seed, np.sum(list(stems.values()), axis=0), stems, plan, sample_rate)


def _job(job: tuple[int, float, int]) -> Song:
    return make_song(*job)


def make_songs(
    seeds: Iterable[int],
    seconds: float = 6.0,
    sample_rate: int = SAMPLE_RATE,
    *,
    workers: int = 0,
) -> Iterator[Song]:
    """Songs in the order of their seeds, made by `workers` other processes (0: by this one)."""
    jobs = ((seed, seconds, sample_rate) for seed in seeds)
    if workers == 0:
        yield from map(_job, jobs)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_job, jobs, chunksize=16)


def split_seeds(split: str, count: int, first: int = 0) -> range:
    """Seeds `first` to `first + count` of a part of the corpus: train, valid or test."""
    start = SPLITS[split] + first
    return range(start, start + count)
