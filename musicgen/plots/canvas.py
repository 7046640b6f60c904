"""The frame of every plot: background, title, axes with labels, and one colour map for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..images import colours

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Theme:
    """Colours of the frame, red, green and blue from 0 to 255.

    marks: the part of the colour map that lines and bars take, so that each stands out from the panel.
    """

    page: Colour
    panel: Colour
    ink: Colour
    grid: Colour
    marks: tuple[float, float]


THEMES = {
    "dark": Theme(page=(24, 26, 31), panel=(14, 15, 19), ink=(226, 228, 233), grid=(62, 66, 76), marks=(0.3, 1.0)),
    "light": Theme(
        page=(250, 250, 251), panel=(255, 255, 255), ink=(32, 34, 40), grid=(205, 208, 214), marks=(0.1, 0.48)
    ),
}


@dataclass(frozen=True)
class Look:
    """How a plot looks. title: text above it, in place of the plot's own."""

    theme: str = "dark"
    width: int = 768
    height: int = 384
    title: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for a theme that there is none of, or a size too small for labels."""
        if self.theme not in THEMES:
            raise ValueError(f"theme is {self.theme!r}; allowed are {', '.join(THEMES)}.")
        if self.width < 256 or self.height < 160:
            raise ValueError(f"the picture is {self.width} x {self.height}; allowed is at least 256 x 160 pixels.")


class Canvas:
    """A picture with a title and a panel, to which shares from 0 to 1 (left to right, bottom to top) are drawn."""

    def __init__(self, look: Look, title: str, *, bar: tuple[str, str] | None = None) -> None:
        """title: used where the look has none. bar: labels of the low and the high end of the colour map."""
        from PIL import Image, ImageDraw

        self.theme = THEMES[look.theme]
        size = max(11, round(min(look.width / 34, look.height / 15)))
        self.size, self._font, self._large = size, _font(size), _font(round(size * 1.2))
        self.image = Image.new("RGB", (look.width, look.height), self.theme.page)
        self.draw: Any = ImageDraw.Draw(self.image)
        right = look.width - (4 * size if bar else size)
        self.left, self.top, self.right, self.bottom = round(3.2 * size), 2 * size, right, look.height - 2 * size
        self.draw.rectangle((self.left, self.top, self.right - 1, self.bottom - 1), fill=self.theme.panel)
        self.draw.text((self.left, size), look.title or title, self.theme.ink, self._large, anchor="lm")
        if bar:
            self._bar(*bar)

    @property
    def width(self) -> int:
        """Pixels of the panel from left to right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels of the panel from bottom to top."""
        return self.bottom - self.top

    def fill(self, cells: Tensor) -> None:
        """Fill the panel with colours `[h, w, 3]` in 0..1, the first row at the top, as even cells."""
        from PIL import Image

        picture = Image.fromarray((cells.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        kind = Image.Resampling.NEAREST if cells.shape[1] <= self.width else Image.Resampling.BOX
        picture = picture.resize((self.width, cells.shape[0]), kind).resize(
            (self.width, self.height), Image.Resampling.NEAREST
        )
        self.image.paste(picture, (self.left, self.top))

    def x(self, share: float) -> int:
        """The pixel of a share of the width."""
        return self.left + round(share * (self.width - 1))

    def y(self, share: float) -> int:
        """The pixel of a share of the height."""
        return self.bottom - 1 - round(share * (self.height - 1))

    def x_labels(self, labels: Sequence[tuple[float, str]], *, lines: bool = False) -> None:
        """Write labels under the panel; lines: with a line through the panel at each."""
        for share, text in labels:
            place = self.x(share)
            if lines:
                self.draw.line((place, self.top, place, self.bottom - 1), self.theme.grid)
            anchor = "lm" if share < 0.001 else "rm" if share > 0.999 else "mm"
            self.draw.text((place, self.bottom + self.size), text, self.theme.ink, self._font, anchor=anchor)

    def y_labels(self, labels: Sequence[tuple[float, str]], *, lines: bool = False) -> None:
        """Write labels left of the panel; lines: with a line through the panel at each."""
        for share, text in labels:
            place = self.y(share)
            if lines:
                self.draw.line((self.left, place, self.right - 1, place), self.theme.grid)
            place = min(max(place, self.top + self.size // 2), self.bottom - self.size // 2)
            self.draw.text((self.left - self.size // 3, place), text, self.theme.ink, self._font, anchor="rm")

    def seconds(self, total: float, *, lines: bool = False) -> None:
        """Label the horizontal axis from 0 to `total` seconds."""
        step = next(step for step in _steps() if total / step <= 6)
        count = int(total / step + 1e-9)
        labels = [(index * step / total, f"{index * step:g}{' s' * (index == count)}") for index in range(count + 1)]
        self.x_labels(labels, lines=lines)

    def line(self, shares: Sequence[float], colour: Colour, thickness: int) -> None:
        """Draw a curve of evenly spaced values from the left to the right end."""
        last = max(1, len(shares) - 1)
        points = [(self.x(index / last), self.y(min(1.0, max(0.0, share)))) for index, share in enumerate(shares)]
        self.draw.line(points if len(points) > 1 else points * 2, colour, thickness, joint="curve")

    def text(self, x: float, y: float, text: str, *, colour: Colour | None = None, anchor: str = "mm") -> None:
        """Write into the panel."""
        self.draw.text((self.x(x), self.y(y)), text, colour or self.theme.ink, self._font, anchor=anchor)

    def outlined_text(self, x: float, y: float, text: str) -> None:
        """Write over a picture, from a place to the right."""
        theme = self.theme
        place = (self.x(x), self.y(y))
        self.draw.text(place, text, theme.ink, self._font, anchor="lm", stroke_width=2, stroke_fill=theme.panel)

    def mark(self, share: float) -> Colour:
        """The colour of a line or a bar, from 0 to 1 through the theme's part of the colour map."""
        low, high = self.theme.marks
        return map_colour(low + share * (high - low))

    def tensor(self) -> Tensor:
        """The picture, float32 `[H, W, 3]` in 0..1."""
        return torch.from_numpy(np.asarray(self.image, dtype=np.float32) / 255.0)

    def _bar(self, low: str, high: str) -> None:
        from PIL import Image

        ramp = colours(torch.linspace(1, 0, self.height))[:, None]
        picture = Image.fromarray((ramp * 255).to(torch.uint8).numpy()).resize((self.size // 2, self.height))
        self.image.paste(picture, (self.right + self.size // 3, self.top))
        x = self.right + self.size
        self.draw.text((x, self.top + self.size // 2), high, self.theme.ink, self._font, anchor="lm")
        self.draw.text((x, self.bottom - self.size // 2), low, self.theme.ink, self._font, anchor="lm")


def map_colour(share: float) -> Colour:
    """A colour of the colour map, which runs from 0 to 1."""
    red, green, blue = (int(part * 255) for part in colours(torch.tensor(share)).tolist())
    return red, green, blue


def _steps() -> list[float]:
    return [base * 10.0**power for power in range(-3, 5) for base in (1, 2, 5)]


def _font(size: int) -> Any:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except TypeError:  # before Pillow 10.1, which has one size
        return ImageFont.load_default()
