"""A score: voices of notes in seconds, and the limits that every reader keeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

MAX_TEXT = 200_000
"""Longest text of a score, in characters."""
MAX_NOTES = 50_000
"""Most notes of a score, its repeats played."""
MAX_SECONDS = 3600.0
"""Longest score in seconds."""
MAX_VOICES = 256
SLOWEST, FASTEST = 1.0, 1000.0
"""Tempi in beats per minute."""


@dataclass(frozen=True)
class Note:
    """A note from `start` to `end` seconds. pitch: MIDI number, 60 is the C in the middle of the piano."""

    start: float
    end: float
    pitch: int


@dataclass(frozen=True)
class Voice:
    """A part of a score: notes in the order of their starts, of which several may sound at once."""

    name: str
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Score:
    """Written music.

    Attributes:
        voices: melodies, the leading one first.
        chords: the chord symbols as notes, from the root upwards; None without any.
        seconds: length, rests at the end included.
        bpm: tempo at the start, in beats per minute.
        key: tonic (0 = C) and `major` or `minor`; None where the score names none.
        ranked: True if a voice sounds only while those before it rest; False if the highest note of all voices leads.
    """

    voices: tuple[Voice, ...]
    seconds: float
    bpm: float
    key: tuple[int, str] | None = None
    chords: Voice | None = None
    ranked: bool = True

    @property
    def num_notes(self) -> int:
        """Number of notes, those of the chords included."""
        return sum(len(voice.notes) for voice in self.parts)

    @property
    def parts(self) -> tuple[Voice, ...]:
        """The voices and the chords."""
        return self.voices if self.chords is None else (*self.voices, self.chords)

    def at_tempo(self, bpm: float) -> Score:
        """Return the score played so that it begins at another tempo."""
        factor = self.bpm / check_tempo(bpm)

        def moved(voice: Voice) -> Voice:
            return replace(voice, notes=tuple(Note(n.start * factor, n.end * factor, n.pitch) for n in voice.notes))

        chords = None if self.chords is None else moved(self.chords)
        voices = tuple(map(moved, self.voices))
        return check_score(replace(self, voices=voices, chords=chords, seconds=self.seconds * factor, bpm=bpm))


def check_text(text: str, kind: str) -> str:
    """Return a text that is not empty and not too long.

    Raises:
        ValueError: it is.
    """
    if not text.strip():
        raise ValueError(f"the {kind} is empty; write at least one note.")
    if len(text) > MAX_TEXT:
        raise ValueError(f"the {kind} has {len(text)} characters; allowed are {MAX_TEXT}, so take a part of it.")
    return text


def check_tempo(bpm: float) -> float:
    """Return a tempo that music can have.

    Raises:
        ValueError: it is none.
    """
    if not SLOWEST <= bpm <= FASTEST:
        raise ValueError(f"the tempo is {bpm:g} beats per minute; allowed are {SLOWEST:g} to {FASTEST:g}.")
    return bpm


def check_score(score: Score) -> Score:
    """Return a score that has notes, and neither too many nor for too long.

    Raises:
        ValueError: it has not.
    """
    if not score.num_notes:
        raise ValueError("the score has no note; write at least one.")
    if score.seconds > MAX_SECONDS:
        raise ValueError(
            f"the score lasts {score.seconds:.6g} seconds; allowed are {MAX_SECONDS:g}, so take a part of it or raise "
            "its tempo."
        )
    check_count(score.num_notes)
    return score


def check_count(notes: int) -> None:
    """Raise ValueError where a score has too many notes."""
    if notes > MAX_NOTES:
        raise ValueError(f"the score has more than {MAX_NOTES} notes, its repeats played; take a part of it.")


def voice_of(name: str, notes: Iterable[Note]) -> Voice:
    """Return a voice whose notes are in order."""
    return Voice(name, tuple(sorted(notes, key=lambda note: (note.start, note.pitch, note.end))))


def sounding(voices: Sequence[Voice], *, ranked: bool) -> list[tuple[float, tuple[int, ...]]]:
    """Return when the sounding pitches change, and the pitches from then on, in rising order; none in a rest.

    Args:
        voices: the leading one first.
        ranked: whether a voice counts only while all before it rest; else all voices count.
    """
    changes: dict[float, list[tuple[int, int, int]]] = {}  # time -> (voice, pitch, 1 or -1)
    for rank, voice in enumerate(voices):
        for note in voice.notes:
            if note.end > note.start:
                changes.setdefault(note.start, []).append((rank, note.pitch, 1))
                changes.setdefault(note.end, []).append((rank, note.pitch, -1))
    counts: list[dict[int, int]] = [{} for _ in voices]
    found: list[tuple[float, tuple[int, ...]]] = []
    for time in sorted(changes):
        for rank, pitch, change in changes[time]:
            counts[rank][pitch] = counts[rank].get(pitch, 0) + change
            if not counts[rank][pitch]:
                del counts[rank][pitch]
        heard = next((count for count in counts if count), {}) if ranked else {p: 1 for count in counts for p in count}
        pitches = tuple(sorted(heard))
        # A note that begins anew while it already sounds, or after a note of the same pitch, changes nothing here.
        if not found or found[-1][1] != pitches:
            found.append((time, pitches))
    return found
