"""A score as a tune: at every moment the pitch class that leads, or all that sound; and chroma as notes again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import ChromaConfig
from ..notation.score import Note, Score, sounding
from .melody import Melody

Taken = Literal["highest", "lowest", "in turn", "all"]
TAKEN: tuple[Taken, ...] = ("highest", "lowest", "in turn", "all")
"""The notes that count where several sound at once: one of them, one after another from the lowest on, or all."""
_CLASSES = 12
_OCTAVE_OF_NOTES = 60
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class ScoreTune:
    """A score as a function of time.

    Attributes:
        score: the score.
        part: `melody` takes the voices, `chords` the chord symbols.
        voice: number of one voice from 1 on; 0 for all of them, in the score's own order of rank.
        taken: notes that count where several sound at once. With `in turn` each lasts half a beat.
        hold: a note lasts through the rest behind it, as sound dies away slowly; else a rest is silence.

    Raises:
        ValueError: the score has no such part or voice.
    """

    score: Score
    part: Literal["melody", "chords"] = "melody"
    voice: int = 0
    taken: Taken = "highest"
    hold: bool = True

    def __post_init__(self) -> None:
        """Refuse a part that the score does not have."""
        if self.part == "chords" and self.score.chords is None:
            raise ValueError('the score has no chord symbols; take its melody, or write chords such as "Am" into it.')
        if self.part == "melody" and not self.score.voices:
            raise ValueError("the score has chords and no melody; take its chords.")
        if not 0 <= self.voice <= len(self.score.voices):
            names = ", ".join(f"{number} {voice.name}" for number, voice in enumerate(self.score.voices[:10], 1))
            raise ValueError(f"voice is {self.voice}; allowed are 0 for all voices, {names}.")

    @property
    def seconds(self) -> float:
        """Length of the score in seconds."""
        return self.score.seconds

    @cached_property
    def _changes(self) -> tuple[Tensor, list[tuple[int, ...]]]:
        """Times `[S]` at which the notes change, and the notes from then on."""
        if self.part == "chords":
            assert self.score.chords is not None
            voices = [self.score.chords]
        else:
            voices = list(self.score.voices) if not self.voice else [self.score.voices[self.voice - 1]]
        times: list[float] = [0.0]
        notes: list[tuple[int, ...]] = [()]
        for time, pitches in sounding(voices, ranked=self.score.ranked):
            kept = notes[-1] if self.hold and not pitches else pitches
            if kept != notes[-1]:
                times.append(time)
                notes.append(kept)
        return torch.tensor(times, dtype=torch.float64), notes

    def rows(self, times: Tensor, config: ChromaConfig) -> Tensor:
        """Return the pitch classes `[N, 12]` at times `[N]`, each row one-hot where one note counts.

        Raises:
            ValueError: the model's chroma has another number of pitch classes than 12.
        """
        if config.num_chroma != _CLASSES:
            raise ValueError(
                f"the model's chroma has {config.num_chroma} pitch classes and a score 12; take a recording's melody."
            )
        starts, notes = self._changes
        places = (torch.bucketize(times + _ROUNDING, starts, right=True) - 1).clamp_min(0)
        if self.taken != "in turn":
            table = torch.stack([self._row(pitches) for pitches in notes])  # [S, 12]
            return table[places]
        step = 30.0 / self.score.bpm
        turns = ((times + _ROUNDING - starts[places]) / step).long()
        rows = torch.zeros(len(times), _CLASSES)
        for row, (place, turn) in enumerate(zip(places.tolist(), turns.tolist(), strict=True)):
            if pitches := notes[place]:
                rows[row, pitches[turn % len(pitches)] % _CLASSES] = 1.0
        return rows

    def _row(self, pitches: tuple[int, ...]) -> Tensor:
        kept = pitches if self.taken == "all" or not pitches else (pitches[0 if self.taken == "lowest" else -1],)
        row = torch.zeros(_CLASSES)
        row[[pitch % _CLASSES for pitch in kept]] = 1.0
        return row


def chroma_notes(melody: Melody) -> list[Note]:
    """Return a melody's chroma as notes from C4 to B4: frames with the same pitch class are one note.

    A frame counts from halfway after the frame before to halfway before the next one. Where a frame is not one-hot each
    pitch class counts that has at least half of the largest one. Silence of one-hot chroma is C.
    """
    config, chroma = melody.config, melody.chroma
    hop = config.hop_length / config.sample_rate
    heard = (chroma > 0) & (chroma >= 0.5 * chroma.amax(dim=1, keepdim=True))  # [F, 12]
    edges = F.pad(heard.T.int(), (1, 1)).diff(dim=1)  # [12, F + 1]
    notes = []
    for pitch_class in range(heard.shape[1]):
        first = (edges[pitch_class] == 1).nonzero()[:, 0].tolist()
        last = (edges[pitch_class] == -1).nonzero()[:, 0].tolist()
        for start, end in zip(first, last, strict=True):
            begins, ends = max(0.0, (start - 0.5) * hop), min((end - 0.5) * hop, melody.tune.seconds)
            pitch = _OCTAVE_OF_NOTES + pitch_class * _CLASSES // heard.shape[1]
            notes.append(Note(begins, max(ends, begins + hop / 2), pitch))
    return sorted(notes, key=lambda note: (note.start, note.pitch))
