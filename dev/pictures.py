"""The pack's icon and banner for the registry: `python -m dev.pictures` draws docs/icon.png and docs/banner.png.

Both show the delay pattern: four codebooks, each one step later than the one above it, one cell for each code.
"""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .setup import ROOT

ICON, BANNER = (400, 400), (1260, 540)  # the registry takes icons of up to 400 pixels, and banners of 21:9
BACKGROUND, INK, FAINT = (18, 20, 26), (236, 238, 242), (150, 156, 168)
# The colours of the templates' spectrograms, dark blue to light yellow.
COLOURS = ((26, 92, 158), (31, 168, 140), (178, 209, 64), (252, 232, 153))


def draw_pattern(image: Image.Image, left: int, top: int, cell: int, steps: int) -> None:
    """Draw the delay pattern: rows of cells `cell` pixels apart, row k shifted by k cells."""
    draw, numbers = ImageDraw.Draw(image), random.Random(3)
    for row, colour in enumerate(COLOURS):
        for step in range(steps):
            share = 0.35 + 0.65 * numbers.random()
            shade = tuple(round(dark + (light - dark) * share) for dark, light in zip(BACKGROUND, colour, strict=True))
            x, y = left + (step + row) * cell, top + row * cell
            draw.rounded_rectangle((x, y, x + cell * 0.86, y + cell * 0.86), cell * 0.16, shade)


def draw_icon() -> Image.Image:
    """Draw the icon, at four times its size first, which smooths the edges."""
    large = Image.new("RGBA", (4 * ICON[0], 4 * ICON[1]))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, large.width - 1, large.height - 1), 300, BACKGROUND)
    draw_pattern(large, 146, 362, 220, 3)
    return large.resize(ICON, Image.Resampling.LANCZOS)


def draw_banner() -> Image.Image:
    """Draw the banner: the name above a pattern that runs out to the right."""
    large = Image.new("RGB", (2 * BANNER[0], 2 * BANNER[1]), BACKGROUND)
    draw = ImageDraw.Draw(large)
    draw.text((150, 130), "MusicGen", INK, ImageFont.load_default(210))
    draw.text((160, 400), "text and melody to music, stage by stage, in ComfyUI", FAINT, ImageFont.load_default(72))
    draw_pattern(large, 160, 580, 104, 24)
    return large.resize(BANNER, Image.Resampling.LANCZOS)


def main() -> None:
    """Write both pictures."""
    folder = Path(ROOT / "docs")
    draw_icon().quantize(128).save(folder / "icon.png", optimize=True)
    draw_banner().quantize(128).save(folder / "banner.png", optimize=True)


if __name__ == "__main__":
    main()
