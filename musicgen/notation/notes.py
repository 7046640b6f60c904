"""Notes in texts: `E4 E4 F4 G4:2 - G4:1/2`, each with its beats."""

from __future__ import annotations

import re
from fractions import Fraction

from ..times import Meter
from .keys import NATURALS
from .score import Note, Score, Voice, check_count, check_score, check_tempo, check_text

_NOTE = re.compile(r"([A-Ga-g])([#b\u266f\u266d]?)(-?\d)?")
_BEATS = re.compile(r"\d{1,4}(?:\.\d{1,4})?(?:/\d{1,2})?")
_SHIFT = {"#": 1, "b": -1, "\u266f": 1, "\u266d": -1, "": 0}
_RESTS = ("-", "r", "R", "z")
_MOST_BEATS = 1000
_OCTAVE = "4"


def read_notes(text: str, bpm: float = 120.0) -> Score:
    """Read notes, separated by white space or commas: a name, an octave (4 unless it is given), and beats (1).

    `-` is a rest, bar lines may stand anywhere, and notes joined by `+` sound at once.

    >>> [(note.start, note.end, note.pitch) for note in read_notes("A4 Bb:1/2 | C5+E5:2", bpm=60).voices[0].notes]
    [(0.0, 1.0, 69), (1.0, 1.5, 70), (1.5, 3.5, 72), (1.5, 3.5, 76)]

    Raises:
        ValueError: a word is no note; the message names it.
    """
    meter = Meter(check_tempo(bpm))
    notes: list[Note] = []
    beat = Fraction(0)
    for word in re.split(r"[\s,|]+", check_text(text, "text of notes")):
        if not word:
            continue
        names, colon, number = word.partition(":")
        beats = _beats(number, word) if colon else Fraction(1)
        pitches = [] if names in _RESTS else [_pitch(name, word) for name in names.split("+")]
        start, end = float(meter.beats(beat)), float(meter.beats(beat + beats))
        notes += [Note(start, end, pitch) for pitch in pitches]
        beat += beats
        check_count(len(notes))
    return check_score(Score((Voice("notes", tuple(notes)),), float(meter.beats(beat)), bpm))


def _beats(number: str, word: str) -> Fraction:
    beats = Fraction(0)
    if _BEATS.fullmatch(number):
        whole, _, part = number.partition("/")
        beats = Fraction(whole) / (int(part or 1) or 1) if int(part or 1) else Fraction(0)
    if not 0 < beats <= _MOST_BEATS:
        raise ValueError(
            f"the note {word[:20]!r} has no length; allowed after the colon are beats above 0 and at most "
            f"{_MOST_BEATS}, such as 2, 0.5 or 1/3."
        )
    return beats


def _pitch(name: str, word: str) -> int:
    match = _NOTE.fullmatch(name)
    if match is None:
        raise ValueError(
            f"the word {word[:20]!r} is no note; allowed are a letter A to G, # or b, an octave and beats after a "
            "colon, such as C4, F#5 or Bb3:2, and - for a rest."
        )
    letter, sign, octave = match.groups("")
    return 12 * (int(octave or _OCTAVE) + 1) + NATURALS[letter.upper()] + _SHIFT[sign]
