"""A picture of two sets of embeddings in the plane of their largest spread."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WIDTH, HEIGHT = 512, 512
_MOST = 2000
_BACKGROUND = (0.07, 0.08, 0.10)
_REFERENCE = (0.42, 0.45, 0.52)
# Colours of the items, told apart also by people who see no red or no green (Okabe and Ito 2008).
_ITEMS = (
    (0.90, 0.62, 0.0),
    (0.34, 0.71, 0.91),
    (0.0, 0.62, 0.45),
    (0.94, 0.89, 0.26),
    (0.84, 0.37, 0.0),
    (0.8, 0.47, 0.65),
)


def plane_of(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean `[D]` and the two directions `[D, 2]` in which embeddings `[N, D]` spread most."""
    middle = embeddings.mean(dim=0)
    centred = embeddings - middle
    _, _, directions = torch.linalg.svd(centred.double(), full_matrices=False)
    axes = torch.zeros(embeddings.shape[1], 2, dtype=torch.float64)
    found = directions[:2].t()
    # A direction's sign is arbitrary; its largest part points up.
    signs = found.gather(0, found.abs().argmax(dim=0, keepdim=True)).sign()
    axes[:, : found.shape[1]] = found * signs
    return middle, axes.to(embeddings.dtype)


def embedding_map(candidates: Sequence[Tensor], reference: Sequence[Tensor] = ()) -> Tensor:
    """Draw the embeddings of candidates in colours, one for each item, over those of the reference in grey.

    A small dot is one embedding, a large one the mean of a sound. The plane is that of all means and embeddings
    together. Nothing to draw gives an empty picture.

    Args:
        candidates: rows `[n, D]` of each item.
        reference: rows `[n, D]` of each recording.

    Returns:
        float32 `[512, 512, 3]`.
    """
    picture = torch.tensor(_BACKGROUND).repeat(HEIGHT, WIDTH, 1)
    rows = [each.float() for each in (*reference, *candidates) if len(each)]
    if sum(map(len, rows)) < 2:
        return picture
    rows = [each[torch.linspace(0, len(each) - 1, min(len(each), _MOST)).long()] for each in rows]
    middle, axes = plane_of(torch.cat(rows))
    flat = [(each - middle) @ axes for each in rows]
    every = torch.cat(flat)
    # A few embeddings far off would squeeze all others together; they are drawn at the edge.
    low, high = torch.quantile(every, torch.tensor([0.02, 0.98]), dim=0)
    low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
    span = (high - low).clamp_min(1e-6)
    for number, places in enumerate(flat):
        item = number - (len(flat) - len(candidates))
        colour = _REFERENCE if item < 0 else _ITEMS[item % len(_ITEMS)]
        _dots(picture, (places - low) / span, colour, 1)
    for number, places in enumerate(flat):
        item = number - (len(flat) - len(candidates))
        colour = _REFERENCE if item < 0 else _ITEMS[item % len(_ITEMS)]
        # The larger discs of the reference stay visible below an item at the same place.
        _dots(picture, ((places - low) / span).mean(dim=0, keepdim=True), colour, 9 if item < 0 else 6)
    return picture


def _dots(picture: Tensor, places: Tensor, colour: tuple[float, float, float], radius: int) -> None:
    """Draw discs at places `[n, 2]` of 0 to 1, the second number upwards."""
    margin = 12
    columns = (margin + places[:, 0].clamp(0, 1) * (WIDTH - 2 * margin)).round().long()
    lines = (HEIGHT - margin - places[:, 1].clamp(0, 1) * (HEIGHT - 2 * margin)).round().long()
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            if down * down + right * right <= radius * radius:
                y, x = (lines + down).clamp(0, HEIGHT - 1), (columns + right).clamp(0, WIDTH - 1)
                picture[y, x] = torch.tensor(colour)
