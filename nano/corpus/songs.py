"""The corpus: an endless, seeded supply of songs with sound, stems, labels and captions.

Nothing but the bank of notes is stored: song number s is made again from s, the same on every run and in any order.
Training, validation and test songs come from disjoint ranges of seeds, and so do songs that are steady.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from .bank import SAMPLE_RATE, open_bank
from .captions import DEFAULT_ODDS, CaptionOdds, describe
from .composer import compose, draw_plan, steady
from .genres import FRAME_RATE
from .mixing import hummed, mix_stem
from .notes import Note, SongPlan

# First seeds of the parts; a part has ten million songs.
_STEADY = 30_000_000
"""First seed of the steady songs."""
SPLITS = {"train": 0, "valid": 10_000_000, "test": 20_000_000} | {
    f"steady-{name}": _STEADY + number * 10_000_000 for number, name in enumerate(("train", "valid", "test"))
}
# Loudest sample of nearly any song is below 0.95; louder ones are cut.
_LEVEL = np.float32(0.7)


@dataclass(frozen=True)
class Song:
    """A song: audio `[L]` float32, its stems (lead, chords, bass, drums), its labels, and the melody as somebody
    gives it to a melody model `[L]`: played, hummed, or played with its chords."""

    seed: int
    audio: np.ndarray
    stems: dict[str, np.ndarray]
    labels: SongPlan
    melody: np.ndarray

    def caption(self, rng: np.random.Generator, odds: CaptionOdds = DEFAULT_ODDS) -> str:
        """A caption, other words on every call."""
        return describe(self.labels, rng, odds)


def write_score(seed: int, num_frames: int) -> tuple[SongPlan, dict[str, list[Note]]]:
    """The labels of song number `seed`, and the notes that start in its first frames, by stem."""
    rng = np.random.Generator(np.random.PCG64(seed))
    plan = draw_plan(rng)
    if seed >= _STEADY:
        plan = steady(plan)
    return plan, compose(plan, num_frames, rng)


def make_song(seed: int, seconds: float = 10.0) -> Song:
    """Make song number `seed`, the first `seconds` of it, at 16 kHz.

    The same note is the same samples in every song: none is made louder or softer than it comes out.
    """
    num_samples = round(seconds * SAMPLE_RATE)
    plan, notes = write_score(seed, -(-num_samples * FRAME_RATE // SAMPLE_RATE))
    return perform(seed, plan, notes, num_samples)


def perform(seed: int, plan: SongPlan, notes: dict[str, list[Note]], num_samples: int) -> Song:
    """A plan and its notes by stem as a song; the seed says how its melody is given."""
    voices = {"lead": plan.lead, "chords": plan.chords, "bass": plan.bass_style, "drums": plan.kit}
    bank = open_bank()
    stems = {name: _LEVEL * mix_stem(bank, name, voices[name], notes[name], num_samples) for name in notes}
    audio = np.clip(np.sum(list(stems.values()), axis=0), -1, 1)
    return Song(seed, audio, stems, plan, _given_melody(seed, stems, notes["lead"]))


def _given_melody(seed: int, stems: dict[str, np.ndarray], lead: list[Note]) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64([seed, 2]))
    how = rng.random()
    if how < 0.4:
        return hummed(lead, len(stems["lead"]), rng)
    return stems["lead"] if how < 0.8 else np.asarray(stems["lead"] + stems["chords"])


def _job(job: tuple[int, float]) -> Song:
    return make_song(*job)


def make_songs(seeds: Iterable[int], seconds: float = 10.0, *, workers: int = 0) -> Iterator[Song]:
    """Songs in the order of their seeds, made by `workers` other processes (0: by this one)."""
    jobs = ((seed, seconds) for seed in seeds)
    open_bank()
    if workers == 0:
        yield from map(_job, jobs)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_job, jobs, chunksize=16)


def split_seeds(split: str, count: int, first: int = 0) -> range:
    """Seeds `first` to `first + count` of a part of the corpus, one of `SPLITS`."""
    start = SPLITS[split] + first
    return range(start, start + count)
