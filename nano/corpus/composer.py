"""The composer: a seed becomes a song plan, and a plan becomes notes. No sound, no words.

A beat is a whole number of the codec's frames (50 Hz) and every onset is moved to the nearest frame within its beat,
so that each beat repeats the one before it frame by frame: music which repeats is codes which repeat. A song is a loop
of one, two or four bars; the melody answers itself, every fourth bar of the drums may end in a fill, and songs that
say so come to an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from .accompaniment import bass_line, chord_part, drum_part, nearest_above
from .genres import DRUM_PATTERNS, FRAME_RATE, GENRES, STEADY_TEMPI, TEMPI, Genre
from .instruments import BASSES, CHORDS, KITS, LEADS
from .melodies import draw_melody, tune_melody
from .notes import SCALES, Event, Note, SongPlan, to_frames
from .tunes import TUNES

T = TypeVar("T")
KEYS = tuple(range(12))
"""Pitch classes of home."""
# Scale degrees of the chord roots of a loop, all from home; each is as long as half a bar, a bar or two.
PROGRESSIONS = {
    "major": ((0, 3), (0, 4), (0, 5), (0, 0), (0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 4), (0, 3, 0, 4), (0, 0, 3, 4)),
    "minor": ((0, 3), (0, 5), (0, 6), (0, 0), (0, 5, 2, 6), (0, 6, 5, 6), (0, 3, 6, 2), (0, 3, 0, 6), (0, 0, 5, 6)),
}
ENDING_SECONDS = (7.0, 13.0)
"""When songs that end do so."""
_LONGEST_LOOP = 300
"""Frames of a steady song's loop, where its chords fit into one bar."""
_TUNES = tuple(name for name, tune in TUNES.items() if not tune.held_out)


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def draw_plan(rng: np.random.Generator, follow_genre: float = 0.7) -> SongPlan:
    """Draw a song's labels: by its genre's habits in `follow_genre` of the songs, freely in the others."""
    genre = pick(rng, tuple(GENRES))
    habits = GENRES[genre]
    if rng.random() >= follow_genre:
        habits = _free(habits)
    mode = "minor" if rng.random() < habits.minor else "major"
    tune = pick(rng, _TUNES) if rng.random() < 0.15 else None
    beats = 3 if rng.random() < habits.waltz else 4
    if tune is not None:
        mode, beats = TUNES[tune].mode, TUNES[tune].beats
    progression = pick(rng, PROGRESSIONS[mode])
    kit = pick(rng, habits.kits)
    pattern = pick(rng, habits.patterns) if kit else None
    return SongPlan(
        genre=genre,
        beat_frames=pick(rng, habits.beats),
        beats=beats,
        key=pick(rng, KEYS),
        mode=mode,
        progression=progression,
        loop=_draw_loop(rng, len(progression), beats),
        lead=pick(rng, habits.leads),
        chords=pick(rng, habits.chords),
        comping=pick(rng, habits.comping),
        bass_style=pick(rng, habits.basses),
        walking=pick(rng, habits.walking),
        kit=kit,
        drum_pattern=pattern,
        ending=bool(rng.random() < 0.04),
        tune=tune,
    )


def steady(plan: SongPlan) -> SongPlan:
    """The plan as a steady song: a short loop that comes back note for note, one of fewer tempi, and no tune.

    .98 of the codes of such a song are those of one loop before; of other songs with short loops it is .73.
    """
    beat = min(STEADY_TEMPI, key=lambda frames: abs(frames - plan.beat_frames))
    loop = 1 if plan.beats == 4 and plan.loop * plan.beats * beat > _LONGEST_LOOP else plan.loop
    return replace(plan, beat_frames=beat, loop=loop, tune=None, steady=True)


def _free(habits: Genre) -> Genre:
    """A genre with any tempo and any instruments; how they are played remains."""
    rest = (None,)
    return Genre(
        beats=tuple(TEMPI),
        minor=0.5,
        leads=tuple(LEADS),
        chords=(*CHORDS, *rest),
        basses=(*BASSES, *rest),
        kits=(*KITS, *rest, *rest, *rest),
        patterns=habits.patterns if habits.kits != rest else tuple(DRUM_PATTERNS),
        comping=habits.comping,
        walking=habits.walking,
        waltz=habits.waltz,
    )


def _draw_loop(rng: np.random.Generator, chords: int, beats: int) -> int:
    """Bars of a loop of so many chords: short ones, which come back within the clips of a training."""
    if beats == 3:
        return 2 if chords == 2 else 4
    return int(rng.choice((1, 2), p=(0.65, 0.35))) if chords == 2 else 2


def compose(plan: SongPlan, num_frames: int, rng: np.random.Generator) -> dict[str, list[Note]]:
    """Notes of the stems lead, chords, bass and drums that start within `num_frames`.

    Stems that the plan lets rest have no notes.
    """
    bar = plan.beats * plan.beat_frames
    bars = -(-num_frames // bar)
    # Each part has its own random numbers, so that a song does not change with its length.
    seeds = [np.random.Generator(np.random.PCG64(int(seed))) for seed in rng.integers(2**62, size=4)]
    melody, roots = (
        draw_melody(plan, bars, seeds[0]) if plan.tune is None else tune_melody(plan, TUNES[plan.tune], bars)
    )
    stems: dict[str, list[Event]] = {
        "lead": melody,
        "chords": chord_part(plan, roots, seeds[1]) if plan.chords else [],
        "bass": bass_line(plan, roots, seeds[2]) if plan.bass else [],
        "drums": drum_part(plan, bars, seeds[3]) if plan.drums else [],
    }
    last = min(_last_bar(plan, seeds[3]), bars) if plan.ending else bars
    notes = {}
    for name, events in stems.items():
        kept = [event for event in events if event.start < last * 12 * plan.beats]
        if plan.ending and last < bars and kept:
            kept = _cut(kept, last * 12 * plan.beats) + _final(plan, name, last * 12 * plan.beats)
        notes[name] = [note for note in to_frames(plan, kept) if note.start < num_frames]
    return notes


def compose_lead(plan: SongPlan, num_frames: int) -> list[Note]:
    """The notes of a plan's real tune that start within `num_frames`."""
    if plan.tune is None:
        raise ValueError("the plan has no real tune; draw its melody with compose.")
    bars = -(-num_frames // (plan.beats * plan.beat_frames))
    notes = to_frames(plan, tune_melody(plan, TUNES[plan.tune], bars)[0])
    return [note for note in notes if note.start < num_frames]


def _last_bar(plan: SongPlan, rng: np.random.Generator) -> int:
    """The bar in which a song that ends strikes its last chord."""
    seconds = rng.uniform(*ENDING_SECONDS)
    return max(2, round(seconds * FRAME_RATE / (plan.beats * plan.beat_frames)))


def _cut(events: list[Event], end: int) -> list[Event]:
    return [Event(event.start, min(event.length, end - event.start), event.pitch) for event in events]


def _final(plan: SongPlan, stem: str, start: int) -> list[Event]:
    """The last chord of a song that ends, held for a bar."""
    length = 12 * plan.beats
    if stem == "drums":
        return [Event(start, 6, "kick"), Event(start, 6, "open hat")]
    if stem == "bass":
        return [Event(start, length, nearest_above(plan.key, BASSES[str(plan.bass_style)].low))]
    if stem == "lead":
        return [Event(start, length, nearest_above(plan.key, LEADS[plan.lead].low))]
    third = SCALES[plan.mode][2]
    low = CHORDS[str(plan.chords)].low
    return [Event(start, length, nearest_above(plan.key + step, low)) for step in (0, third, 7)]
