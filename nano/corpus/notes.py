"""The parts of a song: its plan, events in twelfths of a beat, and notes in frames of the codec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .genres import TEMPI

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Genres whose eighths are long and short.
_SWUNG = ("jazz", "blues")


@dataclass(frozen=True)
class SongPlan:
    """The labels of a song: all that is to be heard of it, and all that a caption may say.

    progression: scale degrees of the chords of a loop of `loop` bars; comping and walking: how chords and bass are
    played; tune: the name of a real tune that the lead plays; steady: the loop comes back note for note.
    """

    genre: str
    beat_frames: int
    beats: int
    key: int
    mode: str
    progression: tuple[int, ...]
    loop: int
    lead: str
    chords: str | None
    comping: str
    bass_style: str | None
    walking: str
    kit: str | None
    drum_pattern: str | None
    ending: bool
    tune: str | None
    steady: bool = False

    @property
    def tempo_bpm(self) -> int:
        """Beats per minute, as captions say it."""
        return TEMPI[self.beat_frames]

    @property
    def bass(self) -> bool:
        """Whether there is a bass."""
        return self.bass_style is not None

    @property
    def drums(self) -> bool:
        """Whether there are drums."""
        return self.drum_pattern is not None

    @property
    def swung(self) -> bool:
        """Whether eighths are long and short."""
        return self.genre in _SWUNG


@dataclass(frozen=True)
class Event:
    """A note or hit: start and length in twelfths of a beat, MIDI key or name of a drum."""

    start: int
    length: int
    pitch: int | str


@dataclass(frozen=True)
class Note:
    """A note or hit: start and length in frames, MIDI key or name of a drum."""

    start: int
    frames: int
    pitch: int | str


def frame_of(plan: SongPlan, twelfths: int) -> int:
    """The frame of a time: whole beats are exact, and times between go to the nearest frame of its beat."""
    beat, within = divmod(twelfths, 12)
    if plan.swung and within == 6:
        within = 8
    return beat * plan.beat_frames + (within * plan.beat_frames + 6) // 12


def to_frames(plan: SongPlan, events: Iterable[Event]) -> list[Note]:
    """Events as notes on the frame grid; none is shorter than a frame."""
    notes = []
    for event in events:
        start = frame_of(plan, event.start)
        notes.append(Note(start, max(frame_of(plan, event.start + event.length) - start, 1), event.pitch))
    return notes


def scale_pitch(plan: SongPlan, degree: int) -> int:
    """Semitones from C of a scale degree, any octave."""
    scale = SCALES[plan.mode]
    return plan.key + 12 * (degree // 7) + scale[degree % 7]
