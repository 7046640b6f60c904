"""One voice of ABC music: its text becomes sounds, bar lines, tempi and chord symbols."""

from __future__ import annotations

import copy
import re
from fractions import Fraction

from .abc_fields import SIGNS, Key, parse_key, parse_meter, parse_tempo, parse_unit
from .abc_repeats import Bar, Ending, Event, Sound, Symbol, Tempo
from .chords import RESTS, chord_pitches
from .keys import NATURALS
from .score import check_count

_LENGTH = r"(\d{0,4}(?:/+\d{0,4})*)"
_NOTE = r"(\^\^|\^|__|_|=)?([A-Ga-g])([,']*)"
_TOKEN = re.compile(
    rf"(?P<skip>[\s`$\\*]+|y\d*|\{{[^}}]*\}}|![^!\n]*!|\+[^+\n]*\+)"
    rf'|"(?P<quote>[^"]*)"'
    rf"|\[(?P<field>[A-Za-z]):(?P<value>[^\]]*)\]"
    rf"|\[(?P<ending>\d[\d,-]*)"
    rf"|(?P<bar>:*\[?\|[|\]]?:*|::+|\|?\]|:+(?=\|))(?P<after>\d[\d,-]*)?"
    rf"|\((?P<tuple>\d)(?::(?P<time>\d{{0,2}}))?(?::(?P<count>\d{{0,2}}))?"
    rf"|\[(?P<chord>[^\]|:]*)\](?P<chord_length>{_LENGTH})(?P<chord_tie>-?)"
    rf"|(?P<note>{_NOTE}){_LENGTH}(?P<tie>-?)"
    rf"|(?P<rest>[zx]){_LENGTH}"
    rf"|(?P<bars>[ZX])(?P<bars_count>\d{{0,4}})"
    rf"|(?P<broken>>+|<+)"
    rf"|(?P<mark>[().~H-Wh-w-])"
)
_INNER = re.compile(rf"{_NOTE}{_LENGTH}(-?)|[\s()]+|\"[^\"]*\"|![^!]*!")
_PIECE = re.compile(rf"{_NOTE}{_LENGTH}")
_REST = re.compile(rf"[zx]{_LENGTH}")
_TUPLET_TIME = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}
_COMPOUND = (Fraction(6, 8), Fraction(9, 8), Fraction(12, 8))
_ANNOTATION = "^_<>@"
_MIDDLE = 60
_SHORT_METER = Fraction(3, 4)
_MOST_BARS = 1000
_LONGEST, _MOST_SLASHES = 512, 9
"""Bounds of the length of a note, so that times stay short fractions."""


def length_of(text: str) -> Fraction:
    """Read the factor behind a note.

    >>> [str(length_of(text)) for text in ("", "3", "3/2", "/", "//", "/4")]
    ['1', '3', '3/2', '1/2', '1/4', '1/4']

    Raises:
        ValueError: the note would have no length.
    """
    number, *below = text.split("/")
    value = Fraction(int(number) if number else 1)
    for part in below[:_MOST_SLASHES]:
        divisor = int(part) if part else 2
        value = value / divisor if divisor else Fraction(0)
    if not 0 < value.numerator <= _LONGEST or value.denominator > _LONGEST or len(below) > _MOST_SLASHES:
        raise ValueError(
            f"a note has the length {text[:20]}; allowed are lengths above 0 with numbers up to {_LONGEST}, such as 1/2"
        )
    return value


class VoiceReader:
    """The state of one voice, line after line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[Event] = []
        self.key = Key()
        self.meter = Fraction(1)
        self.tempo: Tempo | None = None
        self.has_key, self.begun = False, False
        self._unit: Fraction | None = None
        self._accidentals: dict[str, int] = {}  # of this bar, by letter
        self._tied: dict[tuple[str, str], int] = {}  # letter and octave -> pitch that is tied on
        self._stretch = Fraction(1)  # of the next note, after a broken rhythm
        self._tuplet = (Fraction(1), 0)  # factor, and notes left

    @property
    def unit(self) -> Fraction:
        """The length of a note without a number, in whole notes."""
        return self._unit or (Fraction(1, 16) if self.meter < _SHORT_METER else Fraction(1, 8))

    def copy(self, name: str) -> VoiceReader:
        """Return a new voice that begins with this one's fields."""
        other = copy.copy(self)
        other.begun = False
        other.name, other.events = name, [] if self.tempo is None else [self.tempo]
        other._accidentals, other._tied = {}, {}
        return other

    def read_field(self, letter: str, value: str) -> None:
        """Take over a field that decides pitch or time; pass over all others."""
        if letter == "K":
            self.key, self.has_key = parse_key(value), True
            self._accidentals = {}
        elif letter == "M":
            self.meter = parse_meter(value)
        elif letter == "L":
            self._unit = parse_unit(value)
        elif letter == "Q" and (found := parse_tempo(value, self._unit)) is not None:
            self.tempo = Tempo(*found)
            self.events.append(self.tempo)

    def read_music(self, text: str) -> None:
        """Read a line, or a part of it.

        Raises:
            ValueError: a character is unknown, or a note has no length.
        """
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise ValueError(
                    f"{text[place : place + 12]!r} is no music; allowed are notes, rests, bars, chords, repeats"
                )
            place = match.end()
            self._read(match)

    def _read(self, match: re.Match[str]) -> None:
        """Take over one token."""
        found = match.groupdict()
        if found["note"] is not None:
            piece = _PIECE.fullmatch(match[0].rstrip("-"))
            assert piece is not None
            self._add([piece], length_of(piece[4]), bool(found["tie"]))
        elif found["rest"] is not None:
            rest = _REST.fullmatch(match[0])
            assert rest is not None
            self._append(Sound(self._factored(length_of(rest[1])) * self.unit))
        elif found["chord"] is not None:
            self._chord(found["chord"], found["chord_length"], bool(found["chord_tie"]))
        elif found["bar"] is not None:
            self._bar(found["bar"], found["after"])
        elif found["ending"] is not None:
            self.events.append(Ending(_passes(found["ending"])))
        elif found["quote"] is not None:
            self._symbol(found["quote"])
        elif found["field"] is not None:
            self.read_field(found["field"], found["value"])
        elif found["tuple"] is not None:
            self._begin_tuplet(int(found["tuple"]), found["time"], found["count"])
        elif found["broken"] is not None:
            self._break(found["broken"])
        elif found["bars"] is not None:
            count = int(found["bars_count"] or 1)
            if not 0 < count <= _MOST_BARS:
                raise ValueError(f"a rest lasts {count} bars; allowed are 1 to {_MOST_BARS}")
            self._append(Sound(self.meter * count))

    def _append(self, sound: Sound) -> None:
        self.events.append(sound)
        self.begun = True
        check_count(len(self.events))

    def _factored(self, length: Fraction) -> Fraction:
        """A length after the broken rhythm and in the tuplet that it stands in."""
        factor, left = self._tuplet
        length *= self._stretch * (factor if left else 1)
        self._stretch, self._tuplet = Fraction(1), (factor, max(0, left - 1))
        return length

    def _add(self, pieces: list[re.Match[str]], length: Fraction, tie: bool, own_ties: tuple[bool, ...] = ()) -> None:
        """Add notes that sound at once."""
        pitches, tied = [], {}
        for index, piece in enumerate(pieces):
            sign, letter, octaves = piece[1] or "", piece[2], piece[3]
            name = (letter, octaves)
            pitch = self._tied.get(name) if not sign else None
            pitch = self._pitch(sign, letter, octaves) if pitch is None else pitch
            pitches.append(pitch)
            if tie or (own_ties and own_ties[index]):
                tied[name] = pitch
        self._tied = tied
        self._append(Sound(self._factored(length) * self.unit, tuple(pitches), frozenset(tied.values())))

    def _pitch(self, sign: str, letter: str, octaves: str) -> int:
        upper = letter.upper()
        if sign:
            self._accidentals[upper] = SIGNS[sign] or 0
        shift = self._accidentals.get(upper, self.key.signs.get(upper, 0)) + self.key.shift
        octave = (letter.islower()) + octaves.count("'") - octaves.count(",")
        pitch = _MIDDLE + NATURALS[upper] + 12 * octave + shift
        if not 0 <= pitch <= 127:
            raise ValueError(f"the note {sign}{letter}{octaves[:10]} lies outside of MIDI's 128 pitches")
        return pitch

    def _chord(self, text: str, length: str, tie: bool) -> None:
        pieces, ties, place = [], [], 0
        while place < len(text):
            inner = _INNER.match(text, place)
            if inner is None:
                raise ValueError(f"[{text[:30]}] is no chord; allowed are notes such as [CEG]")
            place = inner.end()
            if inner[2]:
                pieces.append(inner)
                ties.append(bool(inner[5]))
        if pieces:
            self._add(pieces, length_of(pieces[0][4]) * length_of(length), tie, tuple(ties))

    def _bar(self, text: str, ending: str | None) -> None:
        self._accidentals = {}
        self.events.append(Bar(text))
        if ending:
            self.events.append(Ending(_passes(ending)))

    def _symbol(self, text: str) -> None:
        """A chord symbol; other words above the music are passed over."""
        name = text.strip()
        if name and name[0] not in _ANNOTATION:
            pitches = () if name in RESTS else chord_pitches(name.split()[0])
            if pitches is not None:
                self.events.append(Symbol(pitches))

    def _begin_tuplet(self, count: int, time: str | None, notes: str | None) -> None:
        if count < 2:
            raise ValueError(f"({count} is no tuplet; allowed are (2 to (9")
        usual = _TUPLET_TIME.get(count, 3 if self.meter in _COMPOUND else 2)
        self._tuplet = (Fraction(int(time or 0) or usual, count), int(notes or 0) or count)

    def _break(self, marks: str) -> None:
        """Lengthen the note before and shorten the next one, or the other way round for `<`."""
        if self._stretch != 1:
            raise ValueError(f"{marks[:10]} stands behind another broken rhythm; allowed is one between two notes")
        short = Fraction(1, 2 ** min(len(marks), 4))
        before, after = (2 - short, short) if marks[0] == ">" else (short, 2 - short)
        for index in range(len(self.events) - 1, -1, -1):
            event = self.events[index]
            if isinstance(event, Sound):
                self.events[index] = Sound(event.length * before, event.pitches, event.tied)
                self._stretch = after
                return


def _passes(text: str) -> frozenset[int]:
    """`1`, `1,3` or `1-3`, each number with one digit or two."""
    passes: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first and len(first) <= 2 and len(last) <= 2:
            passes |= set(range(int(first), int(last or first) + 1))
    return frozenset(passes)
