"""Scores from ABC text (the standard 2.1), as score editors, SheetSage and ComfyUI's SheetSage2AudioToABC write it.

It reads everything that decides pitch and time: keys and modes, accidentals, metres, unit lengths, tempi,
chords, ties, tuplets, broken rhythm, voices, repeats and endings, and chord symbols. It passes over lyrics, titles,
decorations, grace notes, slurs and directions. A second tune in the text is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from .abc_repeats import Sound, Symbol, Tempo, unrolled
from .abc_voice import VoiceReader
from .score import MAX_VOICES, Note, Score, check_count, check_score, check_tempo, check_text, voice_of

_FIELD = re.compile(r"([A-Za-z+]):(?!\||:)(.*)")
_INLINE_VOICE = re.compile(r"\s*(\S+)")
_DEFAULT_TEMPO = Tempo(120.0, Fraction(1, 4))


def read_abc(text: str, bpm: float | None = None) -> Score:
    """Read the first tune of an ABC text.

    >>> score = read_abc("X:1\\nL:1/4\\nQ:1/4=60\\nK:G\\nF G/ (3A/B/c/ | z")
    >>> [(round(note.start, 3), note.pitch) for note in score.voices[0].notes]
    [(0.0, 66), (1.0, 67), (1.5, 69), (1.833, 71), (2.167, 72)]

    Args:
        text: the tune, with its fields or without any.
        bpm: the tempo at the start; None for the tune's own, or 120 where it has none.

    Raises:
        ValueError: a line cannot be read; the message names the line.
    """
    voices: dict[str, VoiceReader] = {}
    header = VoiceReader("")
    current: VoiceReader | None = None
    for number, line in enumerate(check_text(text, "ABC text").splitlines(), 1):
        line = _without_comment(line)
        match = _FIELD.fullmatch(line.strip())
        if match is not None and match[1] == "X" and (current is not None or header.has_key):
            break  # the next tune
        try:
            if match is not None and match[1] == "V":
                current = _voice(match[2], voices, header)
            elif match is not None and current is None and match[1] != "K":
                header.read_field(match[1], match[2])
            elif match is not None:
                for voice in [header, *voices.values()] if current is None or not current.begun else [current]:
                    voice.read_field(match[1], match[2])
            elif line.strip():
                for name, part in _by_voice(line):
                    current = _voice(name, voices, header) if name else current or _voice("1", voices, header)
                    current.read_music(part)
        except ValueError as error:
            raise ValueError(f"line {number} of the ABC text cannot be read: {error}.") from error
    return _score(list(voices.values()), header, bpm)


def _without_comment(line: str) -> str:
    """A line up to its comment; a directive is a comment."""
    return re.split(r"(?<!\\)%", line, maxsplit=1)[0]


def _voice(text: str, voices: dict[str, VoiceReader], header: VoiceReader) -> VoiceReader:
    """The voice that a field names, which takes over the header's fields when it is new."""
    match = _INLINE_VOICE.match(text)
    name = match[1] if match else "1"
    if name not in voices:
        if len(voices) >= MAX_VOICES:
            raise ValueError(f"it has more than {MAX_VOICES} voices")
        voices[name] = header.copy(name)
    return voices[name]


def _by_voice(line: str) -> Iterable[tuple[str, str]]:
    """A line of music in the parts of its voices: the name of each, empty for the voice before, and its music."""
    parts = re.split(r"\[V:([^\]]*)\]", line)
    yield from (("", part) for part in parts[:1] if part.strip())
    yield from zip(parts[1::2], parts[2::2], strict=True)


def _score(readers: list[VoiceReader], header: VoiceReader, bpm: float | None) -> Score:
    played = [(reader.name, unrolled(reader.events)) for reader in readers]
    check_count(sum(len(event.pitches) for _, events in played for event in events if isinstance(event, Sound)))
    tempi = sorted((at for _, events in played for at in _tempi(events)), key=lambda at: at[0])
    first = tempi[0][1] if tempi and not tempi[0][0] else header.tempo or _DEFAULT_TEMPO
    clock = _Clock([(Fraction(0), first), *tempi])
    voices, symbols, longest = [], [], Fraction(0)
    for name, events in played:
        notes, end = _notes(events)
        longest = max(longest, end)
        voices.append(voice_of(name, (Note(clock.at(a), clock.at(b), pitch) for a, b, pitch in notes)))
        symbols += [Note(clock.at(a), clock.at(b), pitch) for a, b, pitch in _symbols(events, end)]
    key = next((reader.key.name for reader in readers if reader.key.name), header.key.name)
    chords = voice_of("chords", symbols) if symbols else None
    sung = tuple(voice for voice in voices if voice.notes)
    score = check_score(Score(sung, clock.at(longest), check_tempo(first.bpm), key, chords))
    return score if bpm is None else score.at_tempo(bpm)


def _tempi(events: Iterable[Sound | Tempo | Symbol]) -> Iterable[tuple[Fraction, Tempo]]:
    at = Fraction(0)
    for event in events:
        if isinstance(event, Tempo):
            yield at, event
        elif isinstance(event, Sound):
            at += event.length


def _notes(events: Iterable[Sound | Tempo | Symbol]) -> tuple[list[tuple[Fraction, Fraction, int]], Fraction]:
    """The notes of a voice in whole notes from its start, ties joined, and its length."""
    notes: list[tuple[Fraction, Fraction, int]] = []
    held: dict[int, Fraction] = {}  # pitch -> start of the note that is tied on
    at = Fraction(0)
    for event in events:
        if not isinstance(event, Sound):
            continue
        for pitch in held.keys() - set(event.pitches):  # tied to a note that does not come
            notes.append((held.pop(pitch), at, pitch))
        starts = {pitch: held.pop(pitch, at) for pitch in event.pitches}
        at += event.length
        for pitch, start in starts.items():
            if pitch in event.tied:
                held[pitch] = start
            else:
                notes.append((start, at, pitch))
    return notes + [(start, at, pitch) for pitch, start in held.items()], at


def _symbols(events: Iterable[Sound | Tempo | Symbol], end: Fraction) -> list[tuple[Fraction, Fraction, int]]:
    """The chord symbols of a voice as notes; each lasts until the next one."""
    at, found = Fraction(0), []
    for event in events:
        if isinstance(event, Symbol):
            found.append((at, event.pitches))
        elif isinstance(event, Sound):
            at += event.length
    ends = [start for start, _ in found[1:]] + [end][: len(found)]
    return [(a, b, pitch) for (a, pitches), b in zip(found, ends, strict=True) if b > a for pitch in pitches]


class _Clock:
    """Whole notes from the start -> seconds, through all changes of tempo."""

    def __init__(self, tempi: list[tuple[Fraction, Tempo]]) -> None:
        self._marks: list[tuple[Fraction, Fraction, Fraction]] = []  # whole notes, seconds, seconds in a whole note
        for at, tempo in tempi:
            seconds = self._seconds(at) if self._marks else Fraction(0)
            pace = Fraction(60) / (Fraction(str(check_tempo(tempo.bpm))) * tempo.beat)
            self._marks.append((at, seconds, pace))

    def _seconds(self, at: Fraction) -> Fraction:
        low, high = 0, len(self._marks)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._marks[middle][0] <= at else (low, middle)
        mark, seconds, pace = self._marks[low]
        return seconds + (at - mark) * pace

    def at(self, at: Fraction) -> float:
        """Return seconds."""
        return float(self._seconds(at))
