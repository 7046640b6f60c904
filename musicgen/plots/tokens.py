"""Plots of codes, and of the pattern in which they are sampled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..generation.patterns import Pattern
from ..images import colours
from .canvas import Canvas, Look

_MOST_COLUMNS = 26


def codes_plot(codes: Tensor, card: int, frame_rate: int, look: Look | None = None) -> Tensor:
    """Plot codes `[K, T]` over time, codebook 1 on top: float32 `[H, W, 3]`. Unknown codes (-1) stay dark."""
    if codes.dim() != 2 or card < 2:
        raise ValueError(f"codes have shape {list(codes.shape)} of {card} entries; allowed is [K, T] of at least 2.")
    canvas = Canvas(look or Look(), "codes of each codebook", bar=("0", str(card - 1)))
    count, frames = codes.shape
    index = torch.arange(min(frames, canvas.width)) * frames // min(frames, canvas.width)  # no code is blended
    cells = colours(codes[:, index].float() / (card - 1))
    panel = torch.tensor(canvas.theme.panel) / 255
    canvas.fill(torch.where((codes[:, index] >= 0)[..., None], cells, panel))
    for row in range(1, count):
        y = canvas.y(row / count)
        canvas.draw.line((canvas.left, y, canvas.right - 1, y), canvas.theme.page, 1)
    canvas.y_labels([(1 - (row + 0.5) / count, str(row + 1)) for row in range(count)])
    canvas.seconds(frames / frame_rate)
    return canvas.tensor()


def pattern_plot(name: str, build: Callable[[int], Pattern], look: Look | None = None) -> Tensor:
    """Plot which frame of which codebook each step samples: float32 `[H, W, 3]`.

    Args:
        name: of the pattern, for the title.
        build: a number of frames -> the pattern. As many frames are shown as fit, at most 8.
        look: of the plot.
    """
    canvas = Canvas(look or Look(), f"{name}: the frame that each step samples")
    columns = min(_MOST_COLUMNS, canvas.width // round(1.5 * canvas.size))
    tables = (build(frames).frames for frames in range(8, 0, -1))
    table = next((table for table in tables if table.shape[1] - 1 <= columns), None)
    table = (build(1).frames if table is None else table)[:, 1:]  # nothing is sampled in column 0
    count, steps = table.shape
    frames = int(table.max()) + 1
    cells = colours(0.25 + 0.75 * table.float() / max(1, frames - 1))
    canvas.fill(torch.where((table >= 0)[..., None], cells, torch.tensor(canvas.theme.panel) / 255))
    for step in range(steps + 1):
        x = canvas.x(step / steps)
        canvas.draw.line((x, canvas.top, x, canvas.bottom - 1), canvas.theme.grid)
    for row in range(count + 1):
        y = canvas.y(row / count)
        canvas.draw.line((canvas.left, y, canvas.right - 1, y), canvas.theme.grid)
    for row in range(count):
        for step in range(steps):
            if (frame := int(table[row, step])) >= 0:
                place = (step + 0.5) / steps, 1 - (row + 0.5) / count
                dark = 0.25 + 0.75 * frame / max(1, frames - 1) < 0.45
                canvas.text(*place, str(frame + 1), colour=(255, 255, 255) if dark else (16, 16, 20))
    canvas.y_labels([(1 - (row + 0.5) / count, str(row + 1)) for row in range(count)])
    every = max(1, round(steps / 13))
    canvas.x_labels([((step + 0.5) / steps, str(step + 1)) for step in range(0, steps, every)])
    return canvas.tensor()
