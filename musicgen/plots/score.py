"""A piano roll of a score, with the notes that lead the music."""

from __future__ import annotations

from torch import Tensor

from ..conditioning.melody import Melody
from ..notation.keys import NAMES
from ..notation.score import Score
from .canvas import Canvas, Look

_BLACK = (1, 3, 6, 8, 10)
_FEWEST_KEYS = 13
_LED = 0.8
_REST = 0.0


def score_plot(score: Score, melody: Melody, look: Look | None = None) -> Tensor:
    """Plot the notes of a score at their pitches over time: float32 `[H, W, 3]`.

    Args:
        score: the notes.
        melody: made from the score; a note is bright while its pitch class is in the melody's frame.
        look: of the plot.
    """
    notes = [note for voice in score.parts for note in voice.notes]
    low, high = min(note.pitch for note in notes), max(note.pitch for note in notes)
    missing = max(0, _FEWEST_KEYS - (high - low + 1))
    low, high = low - missing // 2, high + (missing + 1) // 2
    keys = high - low + 1
    canvas = Canvas(look or Look(), f"{len(notes)} notes; bright: those that lead the music")
    for key in range(keys):
        if (low + key) % 12 in _BLACK:
            _box(canvas, 0.0, 1.0, key / keys, (key + 1) / keys, canvas.theme.page)
    chroma = melody.chroma
    hop = melody.config.hop_length / melody.config.sample_rate
    for note in notes:
        bottom, top = (note.pitch - low) / keys, (note.pitch - low + 1) / keys
        _box(canvas, note.start / score.seconds, note.end / score.seconds, bottom, top, canvas.mark(_REST))
        # Frames whose centres lie in the note, as parts of it.
        first, last = int(note.start / hop - 0.5), int(note.end / hop + 0.5)
        for frame in range(max(0, first), min(last + 1, len(chroma))):
            start, end = max(note.start, (frame - 0.5) * hop), min(note.end, (frame + 0.5) * hop)
            if end > start and chroma[frame, note.pitch * chroma.shape[1] // 12 % chroma.shape[1]] > 0:
                _box(canvas, start / score.seconds, end / score.seconds, bottom, top, canvas.mark(_LED))
    labels = [
        (pitch, f"{NAMES[pitch % 12]}{pitch // 12 - 1}") for pitch in range(low, high + 1) if pitch % 12 in (0, 7)
    ]
    canvas.y_labels([((pitch - low + 0.5) / keys, name) for pitch, name in labels])
    canvas.seconds(score.seconds)
    return canvas.tensor()


def _box(canvas: Canvas, left: float, right: float, bottom: float, top: float, colour: tuple[int, int, int]) -> None:
    """A filled box between shares of the panel, at least a pixel wide."""
    x, y = canvas.x(min(left, 1.0)), canvas.y(bottom)
    end, top_y = canvas.x(min(right, 1.0)) - 1, canvas.y(min(top, 1.0)) + 1
    canvas.draw.rectangle((x, min(top_y, y), max(x, end), y), colour)
