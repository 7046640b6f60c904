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
from .composer import FRAME_RATE, SongPlan, compose, draw_plan
from .synth import render_stem

SAMPLE_RATE = 16000
# First seeds of the parts; a part has ten million songs.
SPLITS = {"train": 0, "valid": 10_000_000, "test": 20_000_000}
_RMS, _PEAK = 0.13, 0.75


@dataclass(frozen=True)
class Song:
    """A song: audio `[L]` float32, its stems (lead, chords, bass, drums; they sum to it) and its labels."""

    seed: int
    audio: np.ndarray
    stems: dict[str, np.ndarray]
    labels: SongPlan
    sample_rate: int

    def caption(self, rng: np.random.Generator, odds: CaptionOdds = DEFAULT_ODDS) -> str:
        """A caption, other words on every call."""
        return describe(self.labels, rng, odds)


def make_song(seed: int, seconds: float = 6.0, sample_rate: int = SAMPLE_RATE) -> Song:
    """Make song number `seed`, the first `seconds` of it; `sample_rate` must be a multiple of 50.

    Songs have an RMS of 0.13, or less where their peak would exceed 0.75.
    """
    if sample_rate % FRAME_RATE:
        raise ValueError(f"sample_rate is {sample_rate}; allowed are multiples of {FRAME_RATE}, for example 16000.")
    rng = np.random.Generator(np.random.PCG64(seed))
    plan = draw_plan(rng)
    num_samples = round(seconds * sample_rate)
    notes = compose(plan, -(-num_samples * FRAME_RATE // sample_rate), rng)
    voices = {"lead": plan.lead, "chords": plan.chords, "bass": plan.bass_style, "drums": None}
    stems = {name: render_stem(name, voices[name], notes[name], num_samples, sample_rate) for name in notes}
    mix = sum(stems.values())
    level = np.sqrt(np.mean(np.square(mix)))
    gain = np.float32(min(_RMS / max(level, 1e-6), _PEAK / max(np.abs(mix).max(), 1e-6)))
    stems = {name: stem * gain for name, stem in stems.items()}
    return Song(seed, mix * gain, stems, plan, sample_rate)


def _job(job: tuple[int, float, int]) -> Song:
    return make_song(*job)


def make_songs(
    seeds: Iterable[int], seconds: float = 6.0, sample_rate: int = SAMPLE_RATE, *, workers: int = 0
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
