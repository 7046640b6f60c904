"""Written music: scores from ABC, chords, notes and MIDI files, and scores as MIDI files. It knows no model."""

from .abc import read_abc
from .chords import read_chords
from .midi_reader import read_midi
from .midi_writer import midi_bytes
from .notes import read_notes
from .score import Note, Score, Voice

__all__ = ["Note", "Score", "Voice", "midi_bytes", "read_abc", "read_chords", "read_midi", "read_notes"]
