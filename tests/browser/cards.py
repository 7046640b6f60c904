"""The thumbnails of the templates: the title, and the mel spectrogram of the sound that the workflow makes."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from musicgen.audio import mel_filter_bank

SIZE, MARGIN, TITLE_HEIGHT = 480, 16, 72
BACKGROUND, INK = (18, 20, 26), (236, 238, 242)
FLOOR_DB = -70.0
# Dark blue to light yellow: lightness rises with the level.
SCALE = np.array([(38, 20, 89), (26, 92, 158), (31, 168, 140), (178, 209, 64), (252, 232, 153)], dtype=float)


def read_sound(path: Path) -> tuple[torch.Tensor, int]:
    """Read an audio file as mono float32 `[L]` and its sample rate."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp")
        frames = [out.to_ndarray() for frame in container.decode(stream) for out in resampler.resample(frame)]
        return torch.from_numpy(np.concatenate(frames, axis=1)).mean(dim=0), stream.rate


def spectrogram(sound: torch.Tensor, rate: int, width: int, height: int) -> Image.Image:
    """Draw a mel spectrogram: time to the right, pitch upwards, level as lightness."""
    window = torch.hann_window(1024)
    power = torch.stft(sound, 1024, 256, window=window, return_complex=True).abs().pow(2)  # [bins, frames]
    level = 10 * torch.log10((mel_filter_bank(rate, 1024, 64) @ power).clamp_min(1e-10))  # [64, frames]
    share = ((level - level.max() - FLOOR_DB) / -FLOOR_DB).clamp(0, 1).flip(0).numpy() * (len(SCALE) - 1)
    low = np.minimum(share.astype(int), len(SCALE) - 2)
    part = (share - low)[..., None]
    colours = SCALE[low] * (1 - part) + SCALE[low + 1] * part
    return Image.fromarray(colours.astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)


def write_card(sounds: list[tuple[str, Path]], title: str, path: Path) -> None:
    """Write a card of 480 x 480 pixels.

    Args:
        sounds: a label, empty for a single sound, and the file of each.
        title: as people read it.
        path: of the JPEG.
    """
    card = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    draw = ImageDraw.Draw(card)
    draw.text((MARGIN, MARGIN), title, INK, ImageFont.load_default(38))
    height = (SIZE - TITLE_HEIGHT - MARGIN) // len(sounds)
    for index, (label, file) in enumerate(sounds):
        top = TITLE_HEIGHT + index * height
        card.paste(spectrogram(*read_sound(file), SIZE - 2 * MARGIN, height - 8), (MARGIN, top))
        if label:
            draw.text(
                (MARGIN + 8, top + 4), label, INK, ImageFont.load_default(24), stroke_width=2, stroke_fill=BACKGROUND
            )
    card.save(path, quality=65, optimize=True)
