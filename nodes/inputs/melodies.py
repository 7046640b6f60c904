"""Scores from the sockets, and edits of melodies, in the library's terms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ...musicgen.conditioning.melody import Melody
from ...musicgen.conditioning.melody_edits import cut, join, mix, repeat, silence, stretch, transpose
from ...musicgen.conditioning.score_tune import TAKEN, ScoreTune, Taken, chroma_notes
from ...musicgen.times import Meter, parse_range
from ...musicgen.writing import Numbered, write_file
from ..host import folders
from ..sockets import MelodyBatch

if TYPE_CHECKING:
    from ...musicgen.notation import Score

SOURCES = CHORDS, NOTES, ABC, MIDI = "chords", "notes", "ABC", "MIDI file"
PARTS = MELODY, _ = "melody", "chords"
AUTO = "auto"
NOTES_TAKEN = (AUTO, *TAKEN)
RESTS = HOLD, _ = "hold the note", "silence"
HOWS = MIX, APPEND = "mix", "append"
_USUAL_BPM = 120.0


def read_score(source: str, text: str, file: str, bpm: float, beats_per_bar: int) -> Score:
    """The values of the widgets -> a score. bpm: 0 for the score's own, or 120."""
    from ...musicgen.notation import read_abc, read_chords, read_midi, read_notes
    from ...musicgen.notation.midi_reader import MAX_BYTES

    if source == MIDI:
        path = folders.resolve_midi(file)
        with path.open("rb") as stream:
            return read_midi(stream.read(MAX_BYTES + 1), path.name, bpm or None)
    if source == ABC:
        return read_abc(text, bpm or None)
    if source == NOTES:
        return read_notes(text, bpm or _USUAL_BPM)
    return read_chords(text, bpm or _USUAL_BPM, beats_per_bar)


def score_tune(score: Score, part: str, taken: str, voice: int, rests: str) -> ScoreTune:
    """A score -> a tune; a score without a melody leads by its chords, and these by their lowest notes."""
    chords = part != MELODY or not score.voices
    if taken == AUTO:
        taken = "lowest" if chords else "highest"
    return ScoreTune(score, "chords" if chords else "melody", voice, cast(Taken, taken), rests == HOLD)


@dataclass(frozen=True)
class Edits:
    """The widgets of MusicGen Edit Melody; ranges are texts, empty for none."""

    transpose: int
    stretch: float
    repeat: int
    keep: str
    silence: str
    how: str
    share: float
    mix_range: str

    def apply(self, melody: MelodyBatch, other: MelodyBatch | None, meter: Meter) -> MelodyBatch:
        """Edit every melody of a batch, with its own other one or the same for all."""
        others: tuple[Melody | None, ...] = (None,) if other is None else other.items
        count = max(len(melody.items), len(others))
        for name, size in (("melodies", len(melody.items)), ("other melodies", len(others))):
            if size not in (1, count):
                raise ValueError(f"{size} {name} arrived; allowed are 1 or {count}, as many as there are of both.")
        pairs = zip(melody.items * (count // len(melody.items)), others * (count // len(others)), strict=True)
        return MelodyBatch(tuple(self._edited(item, partner, meter) for item, partner in pairs))

    def _edited(self, melody: Melody, other: Melody | None, meter: Meter) -> Melody:
        if self.keep.strip():
            melody = cut(melody, *_range(self.keep, meter, melody))
        if self.silence.strip():
            melody = silence(melody, *_range(self.silence, meter, melody))
        if self.transpose:
            melody = transpose(melody, self.transpose)
        if self.stretch != 1.0:
            melody = stretch(melody, self.stretch)
        if other is not None and self.how == APPEND:
            melody = join(melody, other)
        elif other is not None:
            place = _range(self.mix_range, meter, melody) if self.mix_range.strip() else (0.0, math.inf)
            melody = mix(melody, other, self.share, *place)
        return repeat(melody, self.repeat) if self.repeat != 1 else melody


def _range(text: str, meter: Meter, melody: Melody) -> tuple[float, float]:
    return parse_range(text, meter, duration=melody.tune.seconds)


def save_midi(melody: Melody, target: Numbered, bpm: float) -> Path:
    """Write a melody's chroma as notes into a MIDI file."""
    from ...musicgen.notation import midi_bytes

    data = midi_bytes(chroma_notes(melody), bpm)
    return write_file(target, lambda file: file.write(data), len(data))
