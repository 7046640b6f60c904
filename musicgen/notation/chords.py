"""Chords in texts: `C | G/B | Am7 | F`, a bar between two bar lines."""

from __future__ import annotations

import re

from ..times import Meter
from .keys import NATURALS
from .score import Note, Score, Voice, check_count, check_score, check_tempo, check_text

_ROOT = re.compile(r"([A-G])([#b\u266f\u266d]?)")
_SYMBOL = re.compile(r"([A-G][#b\u266f\u266d]?)([^/\s]*)(?:/([A-G][#b\u266f\u266d]?))?")
_SHIFT = {"#": 1, "b": -1, "\u266f": 1, "\u266d": -1, "": 0}
_BAR_LINE = re.compile(r"[|:]*\|[|:\]]*")
_LOWEST = 48
"""The C from which roots are counted."""
RESTS = ("N.C.", "NC", "N.C", "-", "z")
REPEAT = "%"

# Names of a chord, and its steps above the root.
_STEPS = {
    (0, 4, 7): ("", "maj", "major", "M"),
    (0, 3, 7): ("m", "min", "minor", "-"),
    (0, 3, 6): ("dim", "o", "\u00b0", "mb5"),
    (0, 4, 8): ("aug", "+", "#5"),
    (0, 7): ("5",),
    (0, 2, 7): ("sus2", "2"),
    (0, 5, 7): ("sus4", "sus", "4"),
    (0, 4, 7, 9): ("6", "maj6", "M6"),
    (0, 3, 7, 9): ("m6", "min6"),
    (0, 4, 7, 10): ("7", "dom7"),
    (0, 5, 7, 10): ("7sus4", "7sus"),
    (0, 4, 7, 11): ("maj7", "M7", "ma7", "\u0394", "\u03947", "j7"),
    (0, 3, 7, 10): ("m7", "min7", "-7"),
    (0, 3, 7, 11): ("mMaj7", "mM7", "minmaj7", "m(maj7)"),
    (0, 3, 6, 9): ("dim7", "o7", "\u00b07"),
    (0, 3, 6, 10): ("m7b5", "min7b5", "\u00f8", "\u00f87", "h7"),
    (0, 4, 8, 10): ("aug7", "+7", "7#5"),
    (0, 4, 6, 10): ("7b5",),
    (0, 4, 7, 10, 13): ("7b9",),
    (0, 4, 7, 10, 15): ("7#9",),
    (0, 4, 7, 14): ("add9", "add2"),
    (0, 3, 7, 14): ("madd9",),
    (0, 4, 7, 9, 14): ("6/9", "69"),
    (0, 4, 7, 10, 14): ("9",),
    (0, 4, 7, 11, 14): ("maj9", "M9"),
    (0, 3, 7, 10, 14): ("m9", "min9"),
    (0, 4, 7, 10, 14, 17): ("11",),
    (0, 3, 7, 10, 14, 17): ("m11", "min11"),
    (0, 4, 7, 10, 14, 21): ("13",),
}
STEPS = {name: steps for steps, names in _STEPS.items() for name in names}


def chord_pitches(symbol: str) -> tuple[int, ...] | None:
    """Return the MIDI pitches of a chord symbol from its root or bass upwards, or None if it is none.

    >>> chord_pitches("Am7"), chord_pitches("G/B"), chord_pitches("Fine")
    ((57, 60, 64, 67), (47, 55, 59, 62), None)
    """
    match = _SYMBOL.fullmatch(symbol.strip())
    if match is None or match[2] not in STEPS:
        return None
    root = _LOWEST + _pitch_class(match[1])
    pitches = [root + step for step in STEPS[match[2]]]
    if match[3] is None:
        return tuple(pitches)
    bass = _LOWEST + _pitch_class(match[3])
    return (bass if bass < root else bass - 12, *pitches)


def _pitch_class(name: str) -> int:
    match = _ROOT.fullmatch(name)
    assert match is not None
    return (NATURALS[match[1]] + _SHIFT[match[2]]) % 12


def read_chords(text: str, bpm: float = 120.0, beats_per_bar: int = 4) -> Score:
    """Read chords: bars between bar lines, in which chords share the beats evenly.

    `%` repeats the chord before, `-` and `N.C.` are rests, and a chord may have its number of beats: `C:3 G:1`.
    Without a bar line and beats each chord lasts a bar. Line ends are bar lines.

    >>> score = read_chords("C | Am F", bpm=120)
    >>> score.seconds, [(note.start, note.pitch) for note in score.chords.notes][:4]
    (4.0, [(0.0, 48), (0.0, 52), (0.0, 55), (2.0, 57)])

    Raises:
        ValueError: a symbol is unknown, or the beats of a bar do not fit.
    """
    meter = Meter(check_tempo(bpm), beats_per_bar)
    lines = check_text(text, "text of chords").splitlines()
    bars = [bar for line in lines for bar in _BAR_LINE.split(line) if bar.strip()]
    if len(bars) == 1 and "|" not in text and ":" not in text:  # no bar line at all
        bars = bars[0].split()
    notes: list[Note] = []
    last: tuple[int, ...] = ()
    beat = 0.0
    for number, bar in enumerate(bars, 1):
        for symbol, beats in _timed(bar.split(), number, beats_per_bar):
            last = last if symbol == REPEAT else () if symbol in RESTS else _known(symbol, number)
            start, end = float(meter.beats(beat)), float(meter.beats(beat + beats))
            notes += [Note(start, end, pitch) for pitch in last]
            beat += beats
            check_count(len(notes))
    return check_score(Score((), float(meter.beats(beat)), bpm, chords=Voice("chords", tuple(notes))))


def _known(symbol: str, bar: int) -> tuple[int, ...]:
    pitches = chord_pitches(symbol)
    if pitches is None:
        raise ValueError(
            f"bar {bar} has the chord {symbol[:20]!r}, which is unknown; allowed are a root such as C, F# or Bb, then "
            "nothing (major), m, 7, maj7, m7, dim, aug, sus2, sus4, 6, 9, add9 and their relatives, and /G for a bass."
        )
    return pitches


def _timed(symbols: list[str], bar: int, beats_per_bar: int) -> list[tuple[str, float]]:
    """Each symbol of a bar with its beats: those after its colon, or an even share of the rest of the bar."""
    given: list[tuple[str, float | None]] = []
    for symbol in symbols:
        name, colon, number = symbol.partition(":")
        try:
            beats = float(number) if colon else None
        except ValueError:
            beats = -1.0
        if beats is not None and not 0 < beats <= beats_per_bar:
            raise ValueError(
                f"bar {bar} has {symbol[:20]!r}; allowed after the colon are beats above 0, at most {beats_per_bar}."
            )
        given.append((name, beats))
    used = sum(beats for _, beats in given if beats is not None)
    free = [name for name, beats in given if beats is None]
    if used > beats_per_bar + 1e-6 or (free and used > beats_per_bar - 1e-6):
        raise ValueError(
            f"the chords of bar {bar} take {used:g} beats; allowed are {beats_per_bar} for all chords of a bar."
        )
    share = (beats_per_bar - used) / len(free) if free else 0.0
    return [(name, share if beats is None else beats) for name, beats in given]
