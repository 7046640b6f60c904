"""The score of a song, frame by frame, as bits; a language model learns to foresee them beside the codes.

A piano roll with the grid of the bars. It is heard in training alone: a model that has to say which
frame begins a beat, and which instruments are struck in it, learns to count.
"""

from __future__ import annotations

import numpy as np

from .genres import DRUM_PATTERNS, GENRES, TEMPI
from .instruments import BASSES, CHORDS, KITS, LEADS
from .notes import SCALES, Note, SongPlan, frame_of

_DRUM_MARKS = {
    "kick": "kick",
    "snare": "snare",
    "clap": "snare",
    "rim": "snare",
    "hat": "hat",
    "ride": "hat",
    "shaker": "hat",
    "tambourine": "hat",
    "open hat": "open hat",
    "high tom": "tom",
    "low tom": "tom",
    "conga": "tom",
}
"""The mark that each drum sets."""
DRUMS = tuple(dict.fromkeys(_DRUM_MARKS.values()))
MARKS = (
    *("bar", "beat", "eighth"),
    *("lead struck", "chords struck", "bass struck", *(f"{drum} struck" for drum in DRUMS)),
    *(f"{stem} at {pitch}" for stem in ("lead", "bass") for pitch in range(12)),
    *(f"lead is {lead}" for lead in LEADS),
)
"""Meaning of each bit of a frame; pitches are classes, 0 = C."""
RHYTHM = frozenset(("bar", "beat", "eighth", *(f"{drum} struck" for drum in DRUMS)))
"""The marks that say where the beats are."""
_CHOICES: dict[str, tuple[object, ...]] = {
    "genre": tuple(GENRES),
    "mode": tuple(SCALES),
    "key": tuple(range(12)),
    "beat_frames": tuple(TEMPI),
    "beats": (3,),
    "lead": tuple(LEADS),
    "chords": tuple(CHORDS),
    "bass_style": tuple(BASSES),
    "kit": tuple(KITS),
    "drum_pattern": tuple(DRUM_PATTERNS),
    "bass": (True,),
    "drums": (True,),
    "ending": (True,),
}
LABELS = tuple((name, value) for name, values in _CHOICES.items() for value in values)
"""Meaning of each label of a song."""
_BIT = {name: np.uint64(1 << place) for place, name in enumerate(MARKS)}


def piano_roll(plan: SongPlan, notes: dict[str, list[Note]], num_frames: int) -> np.ndarray:
    """Bits uint64 `[T]` of a song's frames."""
    roll = np.full(num_frames, _BIT[f"lead is {plan.lead}"], dtype=np.uint64)
    bar = plan.beats * plan.beat_frames
    for name, period in (("bar", bar), ("beat", plan.beat_frames)):
        roll[::period] |= _BIT[name]
    for half in range(2 * num_frames // plan.beat_frames + 1):
        if (frame := frame_of(plan, 6 * half)) < num_frames:
            roll[frame] |= _BIT["eighth"]
    for stem, part in notes.items():
        for note in part:
            struck = _DRUM_MARKS[note.pitch] if isinstance(note.pitch, str) else stem
            roll[note.start] |= _BIT[f"{struck} struck"]
            if stem in ("lead", "bass") and isinstance(note.pitch, int):
                roll[note.start : note.start + note.frames] |= _BIT[f"{stem} at {note.pitch % 12}"]
    return roll


def label_bits(plan: SongPlan) -> list[float]:
    """0 or 1 for each of the labels."""
    return [float(getattr(plan, name) == value) for name, value in LABELS]


def unpack(roll: np.ndarray) -> np.ndarray:
    """Bits uint64 `[...]` -> 0 and 1, float32 `[..., len(MARKS)]`."""
    places = np.arange(len(MARKS), dtype=np.uint64)
    return ((roll[..., None] >> places) & np.uint64(1)).astype(np.float32)
