"""Notes as a standard MIDI file."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .score import Note, check_count, check_tempo

TICKS = 480
"""Ticks in a quarter note."""
_VELOCITY = 90
_LONGEST = 0x0FFFFFFF


def midi_bytes(notes: Sequence[Note], bpm: float = 120.0, name: str = "melody") -> bytes:
    """Return a MIDI file of format 0: one track, one channel, one tempo.

    >>> midi_bytes([Note(0.0, 0.5, 60)], bpm=120.0)[:4]
    b'MThd'

    Args:
        notes: in seconds.
        bpm: quarter notes per minute.
        name: of the track.

    Raises:
        ValueError: there are too many notes, or the tempo is none.
    """
    check_count(len(notes))
    pace = check_tempo(bpm) / 60 * TICKS
    events: list[tuple[int, int, bytes]] = []  # tick, order within a tick, message
    for note in notes:
        start = round(note.start * pace)
        end = max(round(note.end * pace), start + 1)
        events.append((start, 1, bytes((0x90, note.pitch, _VELOCITY))))
        events.append((end, 0, bytes((0x80, note.pitch, 0))))
    title = name.encode("utf-8")[:127]
    body = b"\x00\xff\x03" + _number(len(title)) + title
    body += b"\x00\xff\x51\x03" + min(round(6e7 / bpm), 0xFFFFFF).to_bytes(3, "big")
    last = 0
    for tick, _, message in sorted(events):
        body += _number(tick - last) + message
        last = tick
    body += b"\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS) + b"MTrk" + struct.pack(">I", len(body)) + body


def _number(value: int) -> bytes:
    """A number of variable length: seven bits a byte, the highest bit set in all but the last."""
    parts = [value & 0x7F]
    value = min(value, _LONGEST) >> 7
    while value:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(reversed(parts))
