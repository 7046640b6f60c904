"""Plots are legible on a dark and on a light page: labels, lines and bars stand out from the page."""

from __future__ import annotations

import pytest
import torch

from musicgen.plots.canvas import THEMES, Canvas, Look
from musicgen.plots.sound import loudness_plot, melody_plot, waveform_plot

RATE = 16000
BOTH = pytest.mark.parametrize("theme", sorted(THEMES))


def luminance(colour: tuple[int, ...]) -> float:
    """The light that a screen gives for a colour, 0 to 1, by WCAG 2."""
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """1 for equal colours to 21, by WCAG 2, which asks for 4.5 of text and for 3 of graphics."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@BOTH
def test_labels_stand_out(theme):
    look = THEMES[theme]
    assert min(contrast(look.ink, look.page), contrast(look.ink, look.panel)) >= 7


@BOTH
def test_every_colour_of_lines_and_bars_stands_out_from_the_panel(theme):
    canvas = Canvas(Look(theme), "")
    assert min(contrast(canvas.mark(share / 20), canvas.theme.panel) for share in range(21)) >= 3


@BOTH
@pytest.mark.parametrize("kind", ["waveform", "loudness", "melody"])
def test_the_content_of_a_plot_stands_out(theme, kind):
    sound = 0.5 * torch.sin(torch.arange(4 * RATE) * 0.2)[None] * torch.linspace(0.2, 1, 4 * RATE)
    chroma = torch.eye(12).repeat_interleave(4, dim=0)
    plots = {
        "waveform": lambda look: waveform_plot(sound, RATE, look),
        "loudness": lambda look: loudness_plot(sound, RATE, look),
        "melody": lambda look: melody_plot(chroma, 4.0, look),
    }
    look = THEMES[theme]
    pixels = (plots[kind](Look(theme)).reshape(-1, 3) * 255).round().to(torch.int64)
    found, counts = torch.unique(pixels, dim=0, return_counts=True)
    coloured = found.max(dim=1).values - found.min(dim=1).values > 40  # frame and labels are nearly grey
    content = [tuple(row.tolist()) for row in found[coloured & (counts > 200)]]
    assert content and min(contrast(colour, look.panel) for colour in content) >= 3
