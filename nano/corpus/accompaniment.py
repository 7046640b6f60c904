"""The parts behind the melody: chords, bass and drums of a plan, as events in twelfths of a beat."""

from __future__ import annotations

import numpy as np

from .genres import DRUM_PATTERNS, FILLS
from .instruments import BASSES, CHORDS
from .notes import Event, SongPlan, scale_pitch

Roots = list[tuple[int, int, int]]
"""Chords in turn: start and length in twelfths of a beat, and the scale degree of the root."""
_FIFTHS_ONLY = "distorted guitar"


def nearest_above(pitch: int, low: int) -> int:
    """The pitch's class within the octave that starts at `low`.

    `nearest_above(0, 55)` is 60: the C above G3.
    """
    return low + (pitch - low) % 12


def _voicing(plan: SongPlan, degree: int) -> list[int]:
    """MIDI keys of a chord."""
    low = CHORDS[str(plan.chords)].low
    if plan.chords == _FIFTHS_ONLY:
        root = nearest_above(scale_pitch(plan, degree), low)
        return [root, root + 7]
    return sorted(nearest_above(scale_pitch(plan, degree + step), low) for step in (0, 2, 4))


def chord_part(plan: SongPlan, roots: Roots, rng: np.random.Generator) -> list[Event]:
    """Chords, struck as the plan's comping says."""
    upwards = rng.random() < 0.5
    events = []
    for start, length, degree in roots:
        keys = _voicing(plan, degree)
        if plan.comping == "held":
            events += [Event(start, length, key) for key in keys]
        elif plan.comping == "broken":
            turn = keys if upwards else keys[::-1]
            events += [Event(start + at, 6, turn[(at // 6) % len(turn)]) for at in range(0, length, 6)]
        else:
            first, every, held = {"beats": (0, 12, 10), "offbeats": (6, 12, 4), "eighths": (0, 6, 5)}[plan.comping]
            events += [Event(start + at, held, key) for at in range(first, length, every) for key in keys]
    return events


def bass_line(plan: SongPlan, roots: Roots, rng: np.random.Generator) -> list[Event]:
    """The bass, moving as the plan's walking says."""
    low = BASSES[str(plan.bass_style)].low
    dotted = rng.random() < 0.4
    events = []
    for start, length, degree in roots:
        root, third, fifth = (nearest_above(scale_pitch(plan, degree + step), low) for step in (0, 2, 4))
        if plan.walking == "halves":
            times = [(0, 18), (18, length - 18)] if dotted and length >= 24 else [(0, length)]
            events += [Event(start + at, long, root) for at, long in times]
        elif plan.walking == "walking":
            walk = (root, third, fifth, third)
            events += [Event(start + at, 12, walk[at // 12 % 4]) for at in range(0, length, 12)]
        elif plan.walking == "octaves":
            high = root + 12 if root + 12 <= BASSES[str(plan.bass_style)].high else root
            events += [Event(start + at, 6, high if at % 12 else root) for at in range(0, length, 6)]
        else:
            first = 6 if plan.walking == "offbeats" else 0
            every = 12 if first else 6
            events += [Event(start + at, 6, root) for at in range(first, length, every)]
    return events


def drum_part(plan: SongPlan, bars: int, rng: np.random.Generator) -> list[Event]:
    """The same bar of drums throughout; in most songs every fourth ends in a fill."""
    variants = DRUM_PATTERNS[str(plan.drum_pattern)]
    hits = variants[int(rng.integers(len(variants)))]
    fill = FILLS[int(rng.integers(len(FILLS)))] if rng.random() < 0.5 and not plan.steady else None
    length = 12 * plan.beats
    if plan.beats == 3:
        hits = {"kick": (0,)} | {drum: _of_three(drum, times) for drum, times in hits.items() if drum != "kick"}
    events = []
    for bar in range(bars):
        struck = hits
        if fill is not None and bar % 4 == 3 and plan.beats == 4:
            begin = min(times[0] for times in fill.values())
            struck = {drum: tuple(t for t in times if t < begin) for drum, times in hits.items()}
            for drum, times in fill.items():
                struck[drum] = (*struck.get(drum, ()), *times)
        events += [Event(bar * length + at, 3, drum) for drum, times in struck.items() for at in times if at < length]
    return sorted(events, key=lambda event: event.start)


def _of_three(drum: str, times: tuple[int, ...]) -> tuple[int, ...]:
    """Hits of a bar of three beats: backbeats on the second and third, other drums as in four."""
    return (12, 24) if drum in ("snare", "clap", "rim") else tuple(at for at in times if at < 36)
