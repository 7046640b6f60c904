"""Melodies: drawn at random over a loop of chords, or a real tune with chords found for it."""

from __future__ import annotations

import numpy as np

from .accompaniment import Roots
from .instruments import LEADS
from .notes import SCALES, Event, SongPlan, scale_pitch
from .tunes import Tune

# Onset and length in twelfths of a beat, for motifs of one beat; () rests. Likelier ones stand more often.
_CELLS = (
    ((0, 12),),
    ((0, 12),),
    ((0, 6), (6, 6)),
    ((0, 6), (6, 6)),
    ((0, 9), (9, 3)),
    ((0, 6), (6, 3), (9, 3)),
    ((6, 6),),
    (),
)
_SLOW_CELLS = (((0, 12),), ((0, 12),), ((0, 6), (6, 6)), ())
_MOVES = (-3, -2, -1, -1, 0, 1, 1, 2, 3)
_CHORD_STEPS = (0, 2, 4)
_LOWEST, _HIGHEST = 0, 7
"""Steps of the scale that drawn melodies keep to: the octave above home. Real tunes have their own."""


def loop_roots(plan: SongPlan, bars: int) -> Roots:
    """The chords of a plan's loop, over and over for so many bars."""
    length = 12 * plan.beats * plan.loop // len(plan.progression)
    total = 12 * plan.beats * bars
    degrees = plan.progression
    return [(start, length, degrees[at % len(degrees)]) for at, start in enumerate(range(0, total, length))]


def draw_melody(plan: SongPlan, bars: int, rng: np.random.Generator) -> tuple[list[Event], Roots]:
    """A melody over the plan's loop, and the chords: a phrase as long as the loop, and another that answers it."""
    roots = loop_roots(plan, bars)
    phrase, answer = _draw_phrase(plan, roots, rng), _draw_phrase(plan, roots, rng)
    order = ((0,), (0, 0, 0, 1), (0, 1))[int(rng.choice(3, p=(0.55, 0.2, 0.25)))]
    order = (0,) if plan.steady else order
    length = 12 * plan.beats * plan.loop
    events = []
    for turn in range(-(-bars // plan.loop)):
        for event in (phrase, answer)[order[turn % len(order)]]:
            events.append(Event(turn * length + event.start, event.length, event.pitch))
    return events, roots


def _draw_phrase(plan: SongPlan, roots: Roots, rng: np.random.Generator) -> list[Event]:
    """One loop of melody: beats take cells of rhythm, and notes walk the scale from chord tone to chord tone."""
    voice = LEADS[plan.lead]
    middle = voice.low + (plan.key - voice.low) % 12
    cells = _SLOW_CELLS if plan.beat_frames <= 22 else _CELLS
    # One or two beats of rhythm that come back make a melody of a row of notes.
    kept = [cells[int(rng.integers(len(cells)))] for _ in range(2)]
    step, events = int(rng.integers(0, 8)), []
    for beat in range(plan.beats * plan.loop):
        at = 12 * beat
        degree = next(root for start, length, root in reversed(roots) if start <= at)
        cell = kept[beat % 2] if rng.random() < 0.6 else cells[int(rng.integers(len(cells)))]
        for onset, length in cell or ((0, 24),) * (beat == 0):
            step = min(max(step + int(rng.choice(_MOVES)), _LOWEST), _HIGHEST)
            if onset == 0 and beat % 2 == 0:
                step = min(
                    range(-2, 10),
                    key=lambda s, d=degree, o=step: (  # type: ignore[misc]
                        (s - d) % 7 not in _CHORD_STEPS,
                        abs(s - o),
                        s,
                    ),
                )
            pitch = middle - plan.key + scale_pitch(plan, step)
            events.append(Event(at + onset, length, _within(pitch, voice.low, voice.high)))
    return events


def _within(pitch: int, low: int, high: int) -> int:
    """The pitch, moved by octaves into a range of two octaves."""
    while pitch < low:
        pitch += 12
    while pitch > high:
        pitch -= 12
    return pitch


def tune_melody(plan: SongPlan, tune: Tune, bars: int) -> tuple[list[Event], Roots]:
    """A real tune from its first bar on, again and again, and a chord for each of its bars."""
    bar = 12 * plan.beats
    pitches = [pitch for _, _, pitch in tune.notes if pitch is not None]
    home = _home(plan, min(pitches), max(pitches))
    end = max(start + length for start, length, _ in tune.notes)
    tune_bars = -(-6 * end // bar)
    degrees = [_chord_of(tune, number, plan) for number in range(tune_bars)]
    events = []
    for turn in range(-(-bars // tune_bars)):
        for start, length, pitch in tune.notes:
            if pitch is not None:
                events.append(Event(turn * tune_bars * bar + 6 * start, 6 * length, home + pitch))
    return events, [(number * bar, bar, degrees[number % tune_bars]) for number in range(bars)]


def _home(plan: SongPlan, lowest: int, highest: int) -> int:
    """The home note in the octave that keeps the tune within the lead's range."""
    voice = LEADS[plan.lead]
    homes = range(voice.low + (plan.key - voice.low) % 12 - 12, voice.high + 1, 12)
    return min(homes, key=lambda home: max(voice.low - home - lowest, 0) + max(home + highest - voice.high, 0))


def _chord_of(tune: Tune, number: int, plan: SongPlan) -> int:
    """The one of the three chief chords that holds most of a bar's notes; home where it is a draw."""
    scale, weights = SCALES[tune.mode], dict.fromkeys((0, 4, 3), 0)
    first, last = 2 * plan.beats * number, 2 * plan.beats * (number + 1)
    for start, length, pitch in tune.notes:
        shared = min(start + length, last) - max(start, first)
        if pitch is None or shared <= 0:
            continue
        for degree in weights:
            if pitch % 12 in {scale[(degree + step) % 7] for step in _CHORD_STEPS}:
                weights[degree] += shared
    return max(weights, key=lambda degree: weights[degree])
