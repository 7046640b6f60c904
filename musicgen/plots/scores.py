"""A table of scores as a picture: a row for each piece, a coloured cell for each part of its score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..images import colours
from .canvas import Canvas, Look

_ROW_PIXELS, _FRAME_PIXELS = 34, 110


def scores_plot(
    pieces: Sequence[str],
    columns: Sequence[tuple[str, Sequence[float]]],
    remarks: Sequence[str] = (),
    look: Look | None = None,
) -> Tensor:
    """Plot scores from 0 to 1 as a table, the first piece on top: float32 `[H, W, 3]`.

    Args:
        pieces: a name for each row.
        columns: names, and a value for each piece; a value outside 0 to 1 gets the colour of the nearer end.
        remarks: for each piece; a row with a remark shows it in place of its values. Empty for none.
        look: of the plot; None for a height that fits the number of pieces.
    """
    height = max(160, _FRAME_PIXELS + _ROW_PIXELS * len(pieces))
    canvas = Canvas(look or Look(height=height), "scores, the best piece on top", bar=("0", "1"))
    values = torch.tensor([list(column) for _, column in columns]).t()  # [pieces, columns]
    cells = colours(values.float())
    marked = torch.tensor([bool(remark) for remark in remarks or [""] * len(pieces)])
    cells[marked] = torch.tensor(canvas.theme.grid) / 255
    canvas.fill(cells)
    for row in range(1, len(pieces)):
        line = canvas.y(1 - row / len(pieces))
        canvas.draw.line((canvas.left, line, canvas.right - 1, line), canvas.theme.page, 1)
    for row in range(len(pieces)):
        y = 1 - (row + 0.5) / len(pieces)
        if marked[row]:
            canvas.text(0.5, y, remarks[row])
            continue
        for column in range(len(columns)):
            value = float(values[row, column])
            dark = value < 0.45
            x = (column + 0.5) / len(columns)
            canvas.text(x, y, f"{value:.2f}", colour=(255, 255, 255) if dark else (16, 16, 20))
    canvas.y_labels([(1 - (row + 0.5) / len(pieces), name) for row, name in enumerate(pieces)])
    canvas.x_labels([((column + 0.5) / len(columns), name) for column, (name, _) in enumerate(columns)])
    return canvas.tensor()
