"""The composer: a seed becomes a song plan, and a plan becomes notes. No sound, no words.

Every onset lies on the codec's frame grid (50 Hz): a beat is 20 to 40 whole frames and a
sixteenth a quarter of it, so that music which repeats by the bar is codes which repeat by the
bar. All music is in 4/4, starts on bar 1 and stays in the natural scale of its key.
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
# Scale degrees of the chord roots, a bar each. All start at home, so that key and mode are heard in bar 1.
PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 3), (0, 2, 3, 4), (0, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6), (0, 5, 3, 4), (0, 3, 0, 6)),
}
# Lead instruments and the lowest key (MIDI) of the octave that their melodies are centred on.
LEADS = {
    "flute": 74,
    "clarinet": 55,
    "trumpet": 62,
    "guitar": 52,
    "bells": 79,
    "electric piano": 60,
    "organ": 65,
    "synth": 69,
}
CHORDS = ("pad", "strings", "piano", "harp")
BASSES = ("bass guitar", "synth bass")
# Hits in sixteenths of a bar.
DRUM_PATTERNS: dict[str, dict[str, tuple[int, ...]]] = {
    "rock": {"kick": (0, 8, 10), "snare": (4, 12), "hat": (0, 2, 4, 6, 8, 10, 12, 14)},
    "dance": {"kick": (0, 4, 8, 12), "clap": (4, 12), "open hat": (2, 6, 10, 14)},
    "hip hop": {"kick": (0, 7, 10), "snare": (4, 12), "hat": (0, 4, 8, 12)},
    "brushes": {"soft kick": (0, 8), "rim": (4, 12), "shaker": (0, 2, 4, 6, 8, 10, 12, 14)},
    "funk": {"kick": (0, 3, 8, 11), "snare": (4, 12), "hat": tuple(range(16))},
}


@dataclass(frozen=True)
class Genre:
    """What a genre prefers; each tuple is drawn from uniformly, None is an instrument that rests."""

    beats: tuple[int, ...]
    minor: float
    leads: tuple[str, ...]
    chords: tuple[str, ...]
    basses: tuple[str | None, ...]
    drums: tuple[str | None, ...]


GENRES = {
    "pop": Genre((24, 28), 0.3, ("electric piano", "synth", "guitar"), ("piano", "pad"), ("bass guitar",), ("rock",)),
    "rock": Genre((20, 24), 0.5, ("guitar", "organ"), ("strings", "piano"), ("bass guitar",), ("rock",)),
    "electronic": Genre((20, 24), 0.7, ("synth", "bells"), ("pad", "strings"), ("synth bass",), ("dance",)),
    "jazz": Genre((24, 32), 0.5, ("trumpet", "clarinet"), ("piano",), ("bass guitar",), ("brushes",)),
    "hip hop": Genre((36, 32), 0.8, ("electric piano", "bells"), ("pad", "piano"), ("synth bass",), ("hip hop",)),
    "ambient": Genre((40, 36), 0.5, ("flute", "bells"), ("pad", "harp"), (None,), (None,)),
    "classical": Genre((28, 36), 0.4, ("flute", "clarinet", "trumpet"), ("strings", "harp"), (None,), (None,)),
    "folk": Genre((28, 32), 0.3, ("guitar", "flute"), ("harp", "piano"), (None, "bass guitar"), (None, "brushes")),
    "funk": Genre((24, 28), 0.6, ("organ", "trumpet"), ("piano",), ("bass guitar",), ("funk",)),
}
# Melody rhythms of a bar: onset and length in sixteenths.
_RHYTHMS = (
    ((0, 4), (4, 4), (8, 4), (12, 4)),
    ((0, 4), (4, 2), (6, 2), (8, 4), (12, 4)),
    ((0, 6), (6, 2), (8, 8)),
    ((0, 2), (2, 2), (4, 4), (8, 2), (10, 2), (12, 4)),
    ((0, 4), (4, 4), (8, 2), (10, 2), (12, 2), (14, 2)),
    ((0, 8), (8, 4), (12, 4)),
    ((0, 2), (2, 2), (4, 2), (6, 2), (8, 2), (10, 2), (12, 2), (14, 2)),
    ((0, 3), (3, 3), (6, 2), (8, 3), (11, 3), (14, 2)),
)
# Bar forms: which of the two motifs each of four bars plays.
_FORMS = ((0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 1), (0, 0, 0, 0))
_BASS_RHYTHMS = (
    ((0, 8, 0), (8, 8, 0)),
    ((0, 4, 0), (4, 4, 0), (8, 4, 0), (12, 4, 0)),
    ((0, 2, 0), (2, 2, 0), (4, 2, 0), (6, 2, 0), (8, 2, 0), (10, 2, 0), (12, 2, 0), (14, 2, 0)),
    ((0, 4, 0), (4, 4, 4), (8, 4, 0), (12, 4, 4)),
)
_COMPING = (((0, 8), (8, 8)), ((0, 4), (4, 4), (8, 4), (12, 4)), ((0, 6), (6, 6), (12, 4)))
_HELD = ("pad", "strings")


@dataclass(frozen=True)
class SongPlan:
    """The labels of a song: all that is to be heard of it, and all that a caption may say."""

    genre: str
    beat_frames: int
    key: int
    mode: str
    progression: tuple[int, ...]
    lead: str
    chords: str
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
    """One note or hit: start and length in frames, MIDI key or name of a drum, loudness 0 to 1."""

    start: int
    frames: int
    pitch: int | str
    velocity: float


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
        habits = Genre(tuple(TEMPI), 0.5, tuple(LEADS), CHORDS, (*BASSES, *rests), drums)
    mode = "minor" if rng.random() < habits.minor else "major"
    return SongPlan(
        genre=genre,
        beat_frames=pick(rng, habits.beats),
        key=int(rng.integers(12)),
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


def _draw_motif(rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """A bar of melody: onset and length in sixteenths, and scale steps above the chord's root.

    Notes on a beat are chord tones (0, 2, 4, 7), the others step to a neighbour.
    """
    motif = []
    step = pick(rng, (0, 2, 4))
    for onset, length in pick(rng, _RHYTHMS):
        motif.append((onset, length, step))
        move = pick(rng, (-1, 1))
        chord_tones = [tone for tone in (-3, 0, 2, 4, 7) if tone != step]
        nearest = sorted(chord_tones, key=lambda tone: abs(tone - step))[:2]
        step = pick(rng, nearest) if (onset + length) % 4 == 0 else step + move
        step = min(max(step, -3), 7)
    return motif


def _melody(plan: SongPlan, bars: int, rng: np.random.Generator) -> list[Note]:
    motifs = [_draw_motif(rng), _draw_motif(rng)]
    form = pick(rng, _FORMS)
    low, sixteenth = LEADS[plan.lead], plan.beat_frames // 4
    notes = []
    for bar in range(bars):
        degree = plan.progression[bar % 4]
        root = _near(scale_pitch(plan, degree), low - 4)
        base = scale_pitch(plan, degree)
        for onset, length, step in motifs[form[bar % 4]]:
            pitch = root + scale_pitch(plan, degree + step) - base
            start = (bar * 16 + onset) * sixteenth
            velocity = 1.0 if onset % 8 == 0 else 0.85
            notes.append(Note(start, length * sixteenth, pitch, velocity))
    return notes


def _accompaniment(plan: SongPlan, bars: int, rng: np.random.Generator) -> list[Note]:
    rhythm = ((0, 16),) if plan.chords in _HELD else pick(rng, _COMPING)
    sixteenth = plan.beat_frames // 4
    notes = []
    for bar in range(bars):
        degree = plan.progression[bar % 4]
        pitches = [_near(scale_pitch(plan, degree + step), 52) for step in (0, 2, 4)]
        for onset, length in rhythm:
            start = (bar * 16 + onset) * sixteenth
            velocity = 1.0 if onset == 0 else 0.8
            notes += [Note(start, length * sixteenth, pitch, velocity) for pitch in pitches]
    return notes


def _bass_line(plan: SongPlan, bars: int, rng: np.random.Generator) -> list[Note]:
    rhythm = pick(rng, _BASS_RHYTHMS)
    sixteenth = plan.beat_frames // 4
    notes = []
    for bar in range(bars):
        degree = plan.progression[bar % 4]
        for onset, length, step in rhythm:
            pitch = _near(scale_pitch(plan, degree + step), 30)
            notes.append(Note((bar * 16 + onset) * sixteenth, length * sixteenth, pitch, 1.0 if onset == 0 else 0.85))
    return notes


def _drum_part(plan: SongPlan, bars: int) -> list[Note]:
    hits = DRUM_PATTERNS[plan.drum_pattern] if plan.drum_pattern else {}
    sixteenth = plan.beat_frames // 4
    return [
        Note((bar * 16 + onset) * sixteenth, sixteenth, drum, 1.0 if onset % 4 == 0 else 0.7)
        for bar in range(bars)
        for drum, onsets in hits.items()
        for onset in onsets
    ]


def compose(plan: SongPlan, num_frames: int, rng: np.random.Generator) -> dict[str, list[Note]]:
    """Notes of the stems lead, chords, bass and drums that start within `num_frames`.

    Repetition is by the bar: two motifs follow the chords, rhythms and drums are the same in
    every bar. Stems that the plan lets rest have no notes.
    """
    bars = -(-num_frames // (4 * plan.beat_frames))
    stems = {
        "lead": _melody(plan, bars, rng),
        "chords": _accompaniment(plan, bars, rng),
        "bass": _bass_line(plan, bars, rng) if plan.bass else [],
        "drums": _drum_part(plan, bars),
    }
    return {name: [note for note in notes if note.start < num_frames] for name, notes in stems.items()}
