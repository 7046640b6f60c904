"""The composer: a seed becomes a song plan, and a plan becomes notes. No sound, no words.

Every onset lies on the codec's frame grid (50 Hz): a beat is 20 to 40 whole frames and a
sixteenth a quarter of it, so that music which repeats by the bar is codes which repeat by the
bar. All music is in 4/4, starts on bar 1, stays in the natural scale of its key, and is a loop:
bass, chords and drums play the same bar over and over, the melody one bar or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")
FRAME_RATE = 50
# Frames of a beat and the tempo it makes, in beats per minute.
TEMPI = {20: 150, 24: 125, 28: 107, 32: 94, 36: 83, 40: 75}
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Pitch classes of home: those that one letter names.
KEYS = (0, 2, 4, 5, 7, 9)
# Scale degrees of melodies: five of the seven, which go with any chord of the key.
_MELODIC = {"major": (0, 1, 2, 4, 5), "minor": (0, 2, 3, 4, 6)}
# Scale degrees of the chord roots, half a bar each. All start at home.
PROGRESSIONS = {"major": ((0, 0), (0, 3), (0, 4), (0, 5)), "minor": ((0, 0), (0, 3), (0, 5), (0, 6))}
# Lead instruments and the lowest key (MIDI) of the octave that their melodies stay in.
LEADS = {
    "flute": 71,
    "clarinet": 55,
    "trumpet": 60,
    "guitar": 52,
    "bells": 74,
    "electric piano": 57,
    "organ": 62,
    "synth": 64,
}
CHORDS = ("pad", "piano")
BASSES = ("bass guitar", "synth bass")
# Hits in sixteenths of a bar.
DRUM_PATTERNS: dict[str, dict[str, tuple[int, ...]]] = {
    "rock": {"kick": (0, 8), "snare": (4, 12), "hat": (0, 2, 4, 6, 8, 10, 12, 14)},
    "dance": {"kick": (0, 4, 8, 12), "open hat": (2, 6, 10, 14)},
    "hip hop": {"kick": (0, 6, 8), "clap": (4, 12), "hat": (0, 4, 8, 12)},
    "brushes": {"soft kick": (0, 8), "rim": (4, 12), "shaker": (0, 4, 8, 12)},
    "funk": {"kick": (0, 6, 8, 14), "snare": (4, 12), "hat": (0, 2, 4, 6, 8, 10, 12, 14)},
}


@dataclass(frozen=True)
class Genre:
    """What a genre prefers; each tuple is drawn from uniformly, None is an instrument that rests."""

    beats: tuple[int, ...]
    minor: float
    leads: tuple[str, ...]
    chords: tuple[str | None, ...]
    basses: tuple[str | None, ...]
    drums: tuple[str | None, ...]


GENRES = {
    "pop": Genre((24, 28), 0.3, ("electric piano", "synth", "guitar"), ("piano", None), ("bass guitar",), ("rock",)),
    "rock": Genre((20, 24), 0.5, ("guitar", "organ"), ("piano", None), ("bass guitar",), ("rock",)),
    "electronic": Genre((20, 24), 0.7, ("synth", "bells"), ("pad", None), ("synth bass",), ("dance",)),
    "jazz": Genre((24, 32), 0.5, ("trumpet", "clarinet"), ("piano", None), ("bass guitar",), ("brushes",)),
    "hip hop": Genre((36, 32), 0.8, ("electric piano", "bells"), ("pad", None), ("synth bass",), ("hip hop",)),
    "ambient": Genre((40, 36), 0.5, ("flute", "bells"), ("pad",), (None,), (None,)),
    "classical": Genre((28, 36), 0.4, ("flute", "clarinet", "trumpet"), ("piano", None), (None,), (None,)),
    "folk": Genre((28, 32), 0.3, ("guitar", "flute"), ("piano", None), (None, "bass guitar"), (None, "brushes")),
    "funk": Genre((24, 28), 0.6, ("organ", "trumpet"), (None,), ("bass guitar",), ("funk",)),
}
# Melody rhythms of a bar: onset and length in sixteenths.
_RHYTHMS = (
    ((0, 4), (4, 4), (8, 4), (12, 4)),
    ((0, 4), (4, 2), (6, 2), (8, 4), (12, 4)),
    ((0, 6), (6, 2), (8, 8)),
    ((0, 4), (4, 4), (8, 2), (10, 2), (12, 4)),
    ((0, 8), (8, 4), (12, 4)),
    ((0, 2), (2, 2), (4, 4), (8, 2), (10, 2), (12, 4)),
)
_BASS_RHYTHMS = (
    ((0, 8), (8, 8)),
    ((0, 4), (4, 4), (8, 4), (12, 4)),
    ((0, 2), (2, 2), (4, 2), (6, 2), (8, 2), (10, 2), (12, 2), (14, 2)),
)
_BASS_LOW, _CHORD_LOW = 36, 55


@dataclass(frozen=True)
class SongPlan:
    """The labels of a song: all that is to be heard of it, and all that a caption may say."""

    genre: str
    beat_frames: int
    key: int
    mode: str
    progression: tuple[int, ...]
    lead: str
    chords: str | None
    bass_style: str | None
    drum_pattern: str | None

    @property
    def tempo_bpm(self) -> int:
        """Beats per minute, as captions say it."""
        return TEMPI[self.beat_frames]

    @property
    def bass(self) -> bool:
        """Whether there is a bass."""
        return self.bass_style is not None

    @property
    def drums(self) -> bool:
        """Whether there are drums."""
        return self.drum_pattern is not None


@dataclass(frozen=True)
class Note:
    """One note or hit: start and length in frames, MIDI key or name of a drum."""

    start: int
    frames: int
    pitch: int | str


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def draw_plan(rng: np.random.Generator, follow_genre: float = 0.6) -> SongPlan:
    """Draw a song's labels: by its genre's habits in `follow_genre` of the songs, freely in the others."""
    genre = pick(rng, tuple(GENRES))
    habits = GENRES[genre]
    if rng.random() >= follow_genre:
        rests: tuple[None, ...] = (None, None)
        drums = (*DRUM_PATTERNS, *rests, None)
        habits = Genre(tuple(TEMPI), 0.5, tuple(LEADS), (*CHORDS, *rests), (*BASSES, *rests), drums)
    mode = "minor" if rng.random() < habits.minor else "major"
    return SongPlan(
        genre=genre,
        beat_frames=pick(rng, habits.beats),
        key=pick(rng, KEYS),
        mode=mode,
        progression=pick(rng, PROGRESSIONS[mode]),
        lead=pick(rng, habits.leads),
        chords=pick(rng, habits.chords),
        bass_style=pick(rng, habits.basses),
        drum_pattern=pick(rng, habits.drums),
    )


def scale_pitch(plan: SongPlan, degree: int) -> int:
    """Semitones from C of a scale degree, any octave."""
    scale = SCALES[plan.mode]
    return plan.key + 12 * (degree // 7) + scale[degree % 7]


def _near(pitch: int, low: int) -> int:
    """The pitch's class within the octave that starts at `low`."""
    return low + (pitch - low) % 12


def _draw_motif(plan: SongPlan, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """A bar of melody: onset and length in sixteenths, and pitch; a walk over five notes of one octave."""
    low = LEADS[plan.lead]
    ladder = sorted(_near(scale_pitch(plan, degree), low) for degree in _MELODIC[plan.mode])
    step = int(rng.integers(len(ladder)))
    motif = []
    for onset, length in pick(rng, _RHYTHMS):
        motif.append((onset, length, ladder[step]))
        step = min(max(step + pick(rng, (-2, -1, 1, 2)), 0), len(ladder) - 1)
    return motif


def _melody(plan: SongPlan, bars: int, rng: np.random.Generator) -> list[Note]:
    first, other = _draw_motif(plan, rng), _draw_motif(plan, rng)
    motifs = (first, other if rng.random() < 0.3 else first)
    return _notes(
        plan, [(bar * 16 + onset, length, pitch) for bar in range(bars) for onset, length, pitch in motifs[bar % 2]]
    )


def _notes(plan: SongPlan, events: list[tuple[int, int, int]]) -> list[Note]:
    """Events in sixteenths as notes in frames."""
    sixteenth = plan.beat_frames // 4
    return [Note(start * sixteenth, length * sixteenth, pitch) for start, length, pitch in events]


def _accompaniment(plan: SongPlan, bars: int) -> list[Note]:
    events = []
    for half in range(2 * bars):
        degree = plan.progression[half % 2]
        events += [(8 * half, 8, _near(scale_pitch(plan, degree + step), _CHORD_LOW)) for step in (0, 2, 4)]
    return _notes(plan, events)


def _bass_line(plan: SongPlan, bars: int, rng: np.random.Generator) -> list[Note]:
    rhythm = pick(rng, _BASS_RHYTHMS)
    roots = [_near(scale_pitch(plan, degree), _BASS_LOW) for degree in plan.progression]
    events = [(bar * 16 + onset, length, roots[onset // 8]) for bar in range(bars) for onset, length in rhythm]
    return _notes(plan, events)


def _drum_part(plan: SongPlan, bars: int) -> list[Note]:
    hits = DRUM_PATTERNS[plan.drum_pattern] if plan.drum_pattern else {}
    sixteenth = plan.beat_frames // 4
    return [
        Note((bar * 16 + onset) * sixteenth, sixteenth, drum)
        for bar in range(bars)
        for drum, onsets in hits.items()
        for onset in onsets
    ]


def compose(plan: SongPlan, num_frames: int, rng: np.random.Generator) -> dict[str, list[Note]]:
    """Notes of the stems lead, chords, bass and drums that start within `num_frames`.

    Stems that the plan lets rest have no notes.
    """
    bars = -(-num_frames // (4 * plan.beat_frames))
    stems = {
        "lead": _melody(plan, bars, rng),
        "chords": _accompaniment(plan, bars) if plan.chords else [],
        "bass": _bass_line(plan, bars, rng) if plan.bass else [],
        "drums": _drum_part(plan, bars),
    }
    return {name: [note for note in notes if note.start < num_frames] for name, notes in stems.items()}
