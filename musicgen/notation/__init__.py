"""Written music: scores from ABC, chords, notes and MIDI files, and scores as MIDI files. It knows no model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .abc import read_abc
    from .chords import read_chords
    from .midi_reader import read_midi
    from .midi_writer import midi_bytes
    from .notes import read_notes
    from .score import Note, Score, Voice

__all__ = ["Note", "Score", "Voice", "midi_bytes", "read_abc", "read_chords", "read_midi", "read_notes"]

_PLACES = {
    "read_abc": "abc",
    "read_chords": "chords",
    "read_midi": "midi_reader",
    "midi_bytes": "midi_writer",
    "read_notes": "notes",
    "Note": "score",
    "Score": "score",
    "Voice": "score",
}
"""The module of each name. It is imported where the name is asked for, so that those who need one pay for one."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)
