"""Songs on disk: rendered once, read many times. Parts are whole files or not there, so rendering resumes."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musicgen.conditioning.melody import chroma_of
from musicgen.config import ChromaConfig
from musicgen.training.resume import ProgressLog, write_atomically

from .bank import SAMPLE_RATE
from .genres import FRAME_RATE
from .songs import make_songs, split_seeds

NANO_CHROMA = ChromaConfig(sample_rate=SAMPLE_RATE, n_fft=4096, hop_length=1031, num_chroma=12, chroma_length=155)
"""Ten seconds of melody, a frame each 64 ms: twice as fine as the released models', which hear 30 seconds. The hop
is eight of a language model's waves: see :mod:`nano.melody_heads`."""
CHROMA_STEP = NANO_CHROMA.hop_length * FRAME_RATE / SAMPLE_RATE
"""Frames of codes per frame of chroma."""
PART = 250


class SongStore:
    """Rendered songs of one length, in parts of 250, read through memory maps.

    `store[i, a:b]` are samples of song i; `labels[i]` is its plan, and `chroma[i]` int `[F]` the loudest
    pitch class of its melody as it was given per chroma frame.
    """

    def __init__(self, folder: Path, count: int) -> None:
        num_parts = -(-count // PART)
        self.audio = [np.load(_audio_path(folder, part), mmap_mode="r") for part in range(num_parts)]
        self.shape = (count, self.audio[0].shape[1])
        self.labels: list[dict[str, Any]] = []
        chroma = []
        for part in range(num_parts):
            about = json.loads(_label_path(folder, part).read_text(encoding="utf-8"))
            self.labels += about["labels"]
            chroma += about["chroma"]
        self.labels = self.labels[:count]
        self.chroma = np.array(chroma[:count], dtype=np.uint8)

    def first(self, count: int) -> SongStore:
        """The same songs, but only the first of them."""
        part = copy(self)
        part.shape = (min(count, self.shape[0]), self.shape[1])
        return part

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        row, columns = key if isinstance(key, tuple) else (key, slice(None))
        if isinstance(row, slice):
            return np.stack([self[index, columns] for index in range(*row.indices(len(self)))])
        return self.audio[row // PART][row % PART, columns]


def _audio_path(folder: Path, part: int) -> Path:
    return folder / f"audio-{part:04d}.npy"


def _label_path(folder: Path, part: int) -> Path:
    return folder / f"labels-{part:04d}.json"


def render_songs(folder: Path, split: str, count: int, seconds: float, workers: int = 0) -> SongStore:
    """Render the first `count` songs of a part of the corpus into `folder`, those that are not there yet."""
    num_parts = -(-count // PART)
    progress = ProgressLog(f"songs ({split})", count)
    for part in range(num_parts):
        if not _label_path(folder, part).is_file():
            _render_part(folder, split, part, min(PART, count - part * PART), seconds, workers)
        progress.update(min(count, (part + 1) * PART))
    return SongStore(folder, count)


def _render_part(folder: Path, split: str, part: int, count: int, seconds: float, workers: int) -> None:
    audio, labels, chroma = [], [], []
    for song in make_songs(split_seeds(split, count, part * PART), seconds, workers=workers):
        audio.append(song.audio.astype(np.float16))
        labels.append({"seed": song.seed, **vars(song.labels)})
        chroma.append(chroma_of(torch.from_numpy(song.melody), NANO_CHROMA).argmax(dim=1).tolist())
    write_atomically(_audio_path(folder, part), lambda file: np.save(file, np.stack(audio)))
    about = json.dumps({"labels": labels, "chroma": chroma}).encode()
    write_atomically(_label_path(folder, part), lambda file: file.write(about))
