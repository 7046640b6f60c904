"""Scores from standard MIDI files of formats 0 and 1, checked byte by byte: a damaged file gives a sentence.

Drums (channel 10) are left out. Each channel of each track is a voice.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from .score import MAX_NOTES, MAX_VOICES, Note, Score, check_count, check_score, voice_of

MAX_BYTES = 10_000_000
"""Largest file."""
SUFFIXES = (".mid", ".midi")
_DRUMS = 9
_DEFAULT_BEAT = 500_000
"""Microseconds in a quarter note where a file sets no tempo."""
_MAX_EVENTS = 20 * MAX_NOTES
_TEMPO, _TRACK_NAME, _KEY, _END = 0x51, 0x03, 0x59, 0x2F
_MAJOR_TONICS = {fifths: (7 * fifths) % 12 for fifths in range(-7, 8)}


def read_midi(data: bytes, name: str = "the MIDI file", bpm: float | None = None) -> Score:
    """Read a standard MIDI file.

    Args:
        data: content of the file.
        name: of the file, for messages.
        bpm: tempo at the start in quarter notes per minute; None for the file's own.

    Raises:
        ValueError: the file is none, is damaged, or has no note besides drums.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{name} has more than {MAX_BYTES} bytes; allowed are so many, so take a smaller MIDI file.")
    try:
        score = _read(data)
    except _DamagedError as error:
        raise ValueError(f"{name} is no MIDI file that can be read: {error}; save it again.") from error
    return score if bpm is None else score.at_tempo(bpm)


class _DamagedError(ValueError):
    """A file that breaks off, or breaks the rules of the format."""


class _Bytes:
    """Bytes of which each is read once."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    @property
    def left(self) -> int:
        """Number of bytes that are not read yet."""
        return len(self.data) - self.place

    def take(self, count: int) -> bytes:
        """Read some bytes."""
        if count > self.left:
            raise _DamagedError(f"it breaks off at byte {len(self.data)}")
        self.place += count
        return self.data[self.place - count : self.place]

    def byte(self) -> int:
        """Read one byte."""
        return self.take(1)[0]

    def number(self) -> int:
        """Read a number of variable length, of at most four bytes."""
        value = 0
        for _ in range(4):
            byte = self.byte()
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
        raise _DamagedError("a time in it has more than four bytes")


@dataclass
class _Track:
    """Events of one track, in ticks."""

    name: str = ""
    notes: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)  # channel -> start, end, pitch
    tempi: list[tuple[int, int]] = field(default_factory=list)  # tick, microseconds in a quarter note
    key: tuple[int, str] | None = None
    ticks: int = 0


def _read(data: bytes) -> Score:
    stream = _Bytes(data)
    if stream.take(4) != b"MThd":
        raise _DamagedError("it does not begin with MThd")
    (size,) = struct.unpack(">I", stream.take(4))
    kind, count, division = struct.unpack(">HHH", _Bytes(stream.take(size)).take(6))
    if kind not in (0, 1):
        raise _DamagedError(f"it has format {kind}, and allowed are 0 and 1")
    if not division or (division & 0x8000 and not division & 0xFF):
        raise _DamagedError("its ticks have no length")
    tracks: list[_Track] = []
    events = 0
    while stream.left >= 8 and len(tracks) < count:
        mark = stream.take(4)
        (size,) = struct.unpack(">I", stream.take(4))
        body = stream.take(size)
        if mark == b"MTrk":  # other chunks are passed over
            track, events = _track(_Bytes(body), events)
            tracks.append(track)
    if not tracks:
        raise _DamagedError("it holds no track")
    return _score(tracks, division)


def _track(stream: _Bytes, events: int) -> tuple[_Track, int]:
    """Read one track; `events` counts those of all tracks."""
    track, status = _Track(), 0
    open_notes: dict[tuple[int, int], int] = {}  # channel, pitch -> start
    while stream.left:
        events += 1
        if events > _MAX_EVENTS:
            raise _DamagedError(f"it has more than {_MAX_EVENTS} events")
        track.ticks += stream.number()
        byte = stream.byte()
        if byte == 0xFF:
            kind, body = stream.byte(), stream.take(stream.number())
            if kind == _END:
                break
            _meta(track, kind, body)
            continue
        if byte in (0xF0, 0xF7):
            stream.take(stream.number())
            continue
        if byte >= 0x80:
            status, first = byte, stream.byte()
        else:
            first = byte  # the status before still counts
        if not 0x80 <= status < 0xF0:
            raise _DamagedError(f"byte {stream.place} of a track is no event")
        kind, channel = status >> 4, status & 0x0F
        second = 0 if kind in (0xC, 0xD) else stream.byte()
        if first > 0x7F or second > 0x7F:
            raise _DamagedError(f"byte {stream.place} of a track is no value of an event")
        if kind in (0x8, 0x9) and channel != _DRUMS:
            _note(track, open_notes, (channel, first), kind == 0x9 and second > 0)
    for channel, pitch in list(open_notes):
        _note(track, open_notes, (channel, pitch), False)
    return track, events


def _note(track: _Track, open_notes: dict[tuple[int, int], int], key: tuple[int, int], begins: bool) -> None:
    """Begin or end a note; a note that begins again ends first."""
    start = open_notes.pop(key, None)
    if start is not None and track.ticks > start:
        notes = track.notes.setdefault(key[0], [])
        notes.append((start, track.ticks, key[1]))
        check_count(len(notes))
    if begins:
        open_notes[key] = track.ticks


def _meta(track: _Track, kind: int, body: bytes) -> None:
    if kind == _TEMPO and len(body) == 3:
        beat = int.from_bytes(body, "big")
        if beat:
            track.tempi.append((track.ticks, beat))
    elif kind == _TRACK_NAME and not track.name:
        track.name = body.decode("utf-8", "replace").strip()[:40]
    elif kind == _KEY and len(body) == 2 and track.key is None:
        fifths, minor = struct.unpack(">bB", body)
        if fifths in _MAJOR_TONICS and minor in (0, 1):
            track.key = (_MAJOR_TONICS[fifths] + 9 * minor) % 12, ("major", "minor")[minor]


def _score(tracks: list[_Track], division: int) -> Score:
    tempi = sorted(at for track in tracks for at in track.tempi)
    clock = _Clock(tempi, division)
    voices = [voice for index, track in enumerate(tracks, 1) for voice in _voices(track, index, clock)]
    if not voices:
        raise _DamagedError("it has no note besides drums")
    if len(voices) > MAX_VOICES:
        raise _DamagedError(f"it has more than {MAX_VOICES} voices")
    ticks = max(end for track in tracks for notes in track.notes.values() for _, end, _ in notes)
    key = next((track.key for track in tracks if track.key), None)
    return check_score(Score(tuple(voices), clock.at(ticks), 6e7 / clock.first, key, ranked=False))


def _voices(track: _Track, index: int, clock: _Clock) -> Iterator:
    for channel in sorted(track.notes):
        notes = (Note(clock.at(start), clock.at(end), pitch) for start, end, pitch in track.notes[channel])
        yield voice_of(track.name or f"track {index}, channel {channel + 1}", notes)


class _Clock:
    """Ticks -> seconds, through all changes of tempo."""

    def __init__(self, tempi: list[tuple[int, int]], division: int) -> None:
        self.first = tempi[0][1] if tempi and not tempi[0][0] else _DEFAULT_BEAT
        self._ticks, self._seconds, self._paces = [0], [0.0], [0.0]
        if division & 0x8000:  # frames per second and ticks per frame, whatever the tempo is
            self._paces = [1 / ((256 - (division >> 8)) * (division & 0xFF))]
            return
        self._paces = [self.first / 1e6 / division]
        for tick, beat in tempi:
            self._seconds.append(self.at(tick))
            self._ticks.append(tick)
            self._paces.append(beat / 1e6 / division)

    def at(self, tick: int) -> float:
        """Return seconds."""
        place = bisect_right(self._ticks, tick) - 1
        return self._seconds[place] + (tick - self._ticks[place]) * self._paces[place]
