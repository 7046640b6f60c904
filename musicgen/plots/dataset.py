"""A picture of a dataset: a row for each song, its pieces coloured by their level, and its caption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from .canvas import Canvas, Look, map_colour

_QUIET, _LOUD = -48.0, -6.0
"""Levels in dB of the two ends of the colour map."""
_ROWS, _LONGEST = 24, 60

if TYPE_CHECKING:
    from ..finetuning.dataset import SongDataset


def dataset_plot(dataset: SongDataset, look: Look | None = None) -> Tensor:
    """Draw the first songs of a dataset, `[H, W, 3]` in 0..1; a star marks those that are held out."""
    rows = min(_ROWS, len(dataset.songs))
    look = look or Look(height=max(320, 64 + 26 * rows))
    minutes = sum(dataset.lengths) / 60.0
    title = f"{dataset.name}: {len(dataset.songs)} songs, {minutes:.1f} min, {len(dataset.pieces)} pieces (* held out)"
    canvas = Canvas(look, title, bar=(f"{_QUIET:.0f} dB", f"{_LOUD:.0f}"))
    longest = max(dataset.lengths[:rows])
    marks = []
    for row in range(rows):
        middle = 1.0 - (row + 0.5) / rows
        half = 0.36 / rows
        for piece in (each for each in dataset.pieces if each.song == row):
            start, end = piece.start / longest, piece.start + piece.codes.shape[1] / dataset.frame_rate
            share = (piece.level - _QUIET) / (_LOUD - _QUIET)
            box = (canvas.x(start), canvas.y(middle + half), canvas.x(min(1.0, end / longest)), canvas.y(middle - half))
            canvas.draw.rectangle(box, map_colour(min(1.0, max(0.0, share))), canvas.theme.panel)
        marks.append((middle, f"{row + 1}{'*' if row in dataset.held_out else ''}"))
        caption = dataset.songs[row].caption
        caption = caption if len(caption) <= _LONGEST else f"{caption[: _LONGEST - 3]}..."
        canvas.outlined_text(0.01, middle, f"{dataset.songs[row].name}: {caption}")
    canvas.y_labels(marks)
    canvas.seconds(longest)
    return canvas.tensor()
