"""Pictures of codes, chroma and sound: float32 RGB tensors `[H, W, 3]` in 0..1. No files, no fonts."""

from __future__ import annotations

import torch
from torch import Tensor

_BACKGROUND = (0.07, 0.08, 0.10)
_GRID = (0.16, 0.17, 0.20)
# A few colours of rising lightness; entries between them are blended.
_SCALE = ((0.15, 0.08, 0.35), (0.10, 0.36, 0.62), (0.12, 0.66, 0.55), (0.70, 0.82, 0.25), (0.99, 0.91, 0.60))


def colours(values: Tensor) -> Tensor:
    """Map values `[...]` in 0..1 to colours `[..., 3]`."""
    scale = torch.tensor(_SCALE)
    place = values.clamp(0, 1) * (len(_SCALE) - 1)
    low = place.floor().long().clamp_max(len(_SCALE) - 2)
    part = (place - low).unsqueeze(-1)
    return scale[low] * (1 - part) + scale[low + 1] * part


def _stretch(picture: Tensor, height: int, width: int) -> Tensor:
    """Resize `[h, w, ...]` to `[height, width, ...]` by nearest neighbour."""
    rows = torch.arange(height) * picture.shape[0] // height
    columns = torch.arange(width) * picture.shape[1] // width
    return picture[rows][:, columns].contiguous()


def codes_image(codes: Tensor, card: int, *, width: int = 512, height: int = 216) -> Tensor:
    """Draw codes `[K, T]` as coloured cells, codebook 0 on top; unknown codes (-1) stay dark.

    The entries of a codebook have no order: a colour identifies a code and has no other meaning.

    Args:
        codes: int `[K, T]`.
        card: entries in one codebook.
        width: of the picture, in pixels.
        height: largest height in pixels, rounded down to a multiple of K but not below K.

    Returns:
        float32 `[H, width, 3]`.

    Raises:
        ValueError: the codes have another shape, or `card` is below 2.
    """
    if codes.dim() != 2 or card < 2:
        raise ValueError(f"codes have shape {list(codes.shape)} of {card} entries; allowed is [K, T] of at least 2.")
    codes = _stretch(codes, codes.shape[0], width)
    cells = colours(codes.float() / (card - 1))
    cells = torch.where((codes >= 0).unsqueeze(-1), cells, torch.tensor(_BACKGROUND))
    row_height = max(1, height // codes.shape[0])
    picture = _stretch(cells, codes.shape[0] * row_height, width)  # [H, width, 3]
    picture[::row_height] = torch.tensor(_GRID)
    return picture


def chroma_image(chroma: Tensor, *, width: int = 768, row_height: int = 24) -> Tensor:
    """Draw chroma `[F, 12]` as a piano roll of one octave `[12 x row_height, width, 3]`.

    C is at the bottom, and the rows of black keys are darker.
    """
    if chroma.dim() != 2:
        raise ValueError(f"chroma has shape {list(chroma.shape)}; allowed is [frames, pitch classes].")
    rows = chroma.t().flip(0).float()
    cells = colours(rows * 0.8 + 0.2)
    background = torch.tensor(_BACKGROUND).expand(rows.shape[0], 1, 3).clone()
    black = [rows.shape[0] - 1 - key for key in (1, 3, 6, 8, 10) if key < rows.shape[0]]
    background[black] = background[black] * 0.5
    picture = _stretch(torch.where((rows > 0).unsqueeze(-1), cells, background), rows.shape[0] * row_height, width)
    picture[::row_height] = torch.tensor(_GRID)
    return picture


def spectrogram_image(levels: Tensor, *, width: int = 384, height: int = 160, range_db: float = 70.0) -> Tensor:
    """Draw levels in dB `[bands, F]` as a picture `[height, width, 3]`, low bands at the bottom.

    Args:
        levels: dB, `[bands, F]`.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        range_db: levels this far below the loudest one, or further, get the darkest colour.
    """
    if levels.dim() != 2:
        raise ValueError(f"levels have shape {list(levels.shape)}; allowed is [bands, frames].")
    shown = 1.0 + (levels.flip(0) - levels.max()) / range_db
    return _stretch(colours(shown), height, width)
