"""The thumbnails of the templates: the title, and a picture of the workflow's result."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from musicgen.audio import mel_filter_bank
from musicgen.conditioning.melody import extract_melody
from musicgen.images import chroma_image

SIZE, MARGIN, TITLE_HEIGHT = 480, 16, 72
BACKGROUND, INK, FAINT = (18, 20, 26), (236, 238, 242), (170, 176, 188)
LARGEST = 40_000
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


def piano_roll(sound: torch.Tensor, rate: int, width: int, height: int) -> Image.Image:
    """Draw the melody of a sound: time to the right, pitch classes upwards."""
    chroma = extract_melody(sound[None], rate).chroma
    picture = (chroma_image(chroma).clamp(0, 1) * 255).to(torch.uint8).numpy()
    return Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)


def film_strip(path: Path, width: int, height: int, number: int = 3) -> Image.Image:
    """Draw pictures of a film one below the other, each as wide as the strip, with its holes at both sides."""
    with av.open(str(path)) as container:
        frames = [frame.to_image() for frame in container.decode(container.streams.video[0])]
    strip, hole = Image.new("RGB", (width, height), (6, 7, 10)), 12
    draw = ImageDraw.Draw(strip)
    inner, step = width - 4 * hole, height // number
    for index in range(number):
        frame = frames[(2 * index + 1) * len(frames) // (2 * number)]
        picture = ImageOps.fit(frame, (inner, step - 6), Image.Resampling.LANCZOS)
        strip.paste(picture, (2 * hole, index * step + 3))
    for top in range(4, height - hole, 2 * hole):
        for left in (hole // 2, width - hole - hole // 2):
            draw.rounded_rectangle((left, top, left + hole - 1, top + hole - 1), 3, (70, 74, 84))
    return strip


def stack(pictures: list[tuple[str, Image.Image]], width: int, height: int) -> Image.Image:
    """Put pictures of one width below each other, each with its label, which may be empty."""
    whole = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(whole)
    step = height // len(pictures)
    for index, (label, picture) in enumerate(pictures):
        whole.paste(picture.resize((width, step - 6)), (0, index * step))
        if label:
            place = (8, index * step + 4)
            draw.text(place, label, INK, ImageFont.load_default(24), stroke_width=2, stroke_fill=BACKGROUND)
    return whole


def write_card(picture: Image.Image, title: str, line: str, path: Path) -> None:
    """Write a card of 480 x 480 pixels, at most 40 kB large.

    Args:
        picture: fitted into the card below the title.
        title: as people read it.
        line: a smaller line below the picture, which may be empty.
        path: of the JPEG.
    """
    card = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    draw = ImageDraw.Draw(card)
    size = 38
    while draw.textlength(title, ImageFont.load_default(size)) > SIZE - 2 * MARGIN:
        size -= 1
    draw.text((MARGIN, MARGIN + (38 - size) // 2), title, INK, ImageFont.load_default(size))
    bottom = SIZE - MARGIN - (34 if line else 0)
    room = (SIZE - 2 * MARGIN, bottom - TITLE_HEIGHT)
    fitted = ImageOps.contain(picture, room, Image.Resampling.LANCZOS)
    card.paste(fitted, (MARGIN + (room[0] - fitted.width) // 2, TITLE_HEIGHT + (room[1] - fitted.height) // 2))
    if line:
        draw.text((MARGIN, bottom + 8), line, FAINT, ImageFont.load_default(22))
    for quality in range(80, 20, -5):
        card.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= LARGEST:
            return


ROOM = (SIZE - 2 * MARGIN, SIZE - TITLE_HEIGHT - MARGIN)
"""Width and height of a picture that fills a card without a line."""
