"""The sounds, pictures and the film that the workflows name, made where they are missing.

Only the sounds are made with the standard library alone; pictures need Pillow and numpy, the film PyAV,
which the environment of any ComfyUI has.
"""

from __future__ import annotations

import math
import os
import struct
import wave
from pathlib import Path
from typing import Any

# Notes in Hz, seconds for each.
TUNES = {
    "melody.wav": ((440, 523.25, 659.26, 523.25, 587.33, 659.26, 783.99, 659.26, 587.33, 523.25, 440, 440), 0.4),
    "recording.wav": ((220, 329.63, 220, 329.63), 0.5),
}
# A row for each piece, for MusicGen Catalogue.
CATALOGUE = """id,description,duration,seed
menu,"slow jazz with a piano melody, 80 bpm",10,1
boss,"fast techno with deep bass and drums, 140 bpm",10,2
"""
# Hours of the day; `example.png` is also the name of the one picture that comes with ComfyUI.
PICTURES = {"example.png": 17.5, "picture_1.png": 7.0, "picture_2.png": 13.0, "picture_3.png": 21.5}
SIZE = (640, 360)
FILM, FILM_SECONDS, FILM_RATE, FILM_SIZE = "film.mp4", 5, 12, (320, 180)
# Hour, colour of the sky above, at the horizon, of the hills.
Color = tuple[int, int, int]
SKIES: tuple[tuple[float, Color, Color, Color], ...] = (
    (5.0, (24, 28, 66), (214, 120, 92), (18, 24, 44)),
    (8.0, (92, 148, 214), (250, 212, 160), (52, 84, 78)),
    (13.0, (54, 132, 220), (196, 226, 246), (58, 122, 74)),
    (17.5, (78, 92, 168), (255, 170, 88), (62, 64, 70)),
    (20.0, (28, 26, 74), (176, 70, 92), (22, 20, 44)),
    (22.0, (8, 10, 34), (34, 40, 82), (8, 10, 22)),
)


def make_media(folder: Path) -> None:
    """Write everything that the workflows name into an input folder, unless it is there."""
    record_tunes(folder)
    if not (folder / "catalogue.csv").exists():
        (folder / "catalogue.csv").write_text(CATALOGUE, encoding="utf-8")
    for name, hour in PICTURES.items():
        if not (folder / name).exists():
            landscape(hour, *SIZE).save(folder / name)
    shoot_film(folder / FILM)


def record_tunes(folder: Path, rate: int = 32000) -> None:
    """Write the sounds that the workflows name into an input folder, unless they are there."""
    for name, (notes, seconds) in TUNES.items():
        if (folder / name).exists():
            continue
        times = [i / rate for i in range(round(seconds * rate))]
        samples = [0.4 * math.sin(2 * math.pi * note * t) * min(1, 20 * (seconds - t)) for note in notes for t in times]
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(b"".join(struct.pack("<h", round(32767 * sample)) for sample in samples))


def landscape(hour: float, width: int, height: int) -> Any:
    """Draw hills under the sky of an hour from 5 to 22, with sun or moon, as a Pillow image."""
    import numpy as np
    from PIL import Image

    hours = [sky[0] for sky in SKIES]
    above, below, ground = (
        np.array([np.interp(hour, hours, [color[i] for color in colors]) for i in range(3)])
        for colors in zip(*(sky[1:] for sky in SKIES), strict=True)
    )
    x, y = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    share = np.clip(y / 0.7, 0, 1)[..., None]
    picture = above * (1 - share) + below * share
    angle = math.pi * ((hour - 5) / 15 if hour < 20 else (hour - 17) / 8)
    sun = (0.5 - 0.42 * math.cos(angle), 0.7 - 0.55 * math.sin(angle))
    distance = np.hypot((x - sun[0]) * width / height, y - sun[1])
    disc = np.clip((0.075 - distance) * 60, 0, 1)[..., None]
    glow = (0.5 * np.exp(-((distance / 0.2) ** 2)))[..., None]
    picture = picture + (np.array((255, 246, 214)) - picture) * np.maximum(disc, glow)
    for level, waves, shade in ((0.62, 2.1, 1.5), (0.74, 3.7, 1.0), (0.86, 1.3, 0.65)):
        top = level + 0.06 * np.sin(2 * math.pi * waves * x + 9 * level) + 0.02 * np.sin(23 * x + 4 * waves)
        picture = np.where((y > top)[..., None], np.clip(ground * shade, 0, 255), picture)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def shoot_film(path: Path) -> None:
    """Write a film of one day in a few seconds, unless it is there."""
    if path.exists():
        return
    import av

    part = path.with_suffix(".part.mp4")
    frames = FILM_SECONDS * FILM_RATE
    with av.open(str(part), "w") as container:
        stream = container.add_stream("libx264", rate=FILM_RATE)
        stream.width, stream.height = FILM_SIZE
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_image(landscape(5 + 17 * index / (frames - 1), *FILM_SIZE))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    os.replace(part, path)
