"""A folder of short tunes, and the dataset that the tiny text model makes of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from musicgen.evaluation.folders import write_sound
from musicgen.finetuning import SongDataset, make_dataset
from tests.conftest import golden_model

RATE = 8000


def tune(pitch: float, seconds: float, level: float = 0.3) -> torch.Tensor:
    """A tone with a pulse, `[1, L]`."""
    time = torch.arange(round(seconds * RATE)) / RATE
    return (level * torch.sin(2 * math.pi * pitch * time) * (1 - (4 * time) % 1))[None]


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four songs of 3 to 6 s, with a caption for each in a text file beside it."""
    folder = tmp_path_factory.mktemp("music") / "songs"
    folder.mkdir()
    for number, seconds in enumerate((3.0, 4.0, 5.0, 6.0)):
        write_sound(folder / f"song_{number}.wav", tune(200.0 * (number + 1), seconds), RATE)
        (folder / f"song_{number}.txt").write_text(f"a piano song {number % 2}", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def dataset(songs: Path) -> SongDataset:
    m = golden_model("hf-text")
    return make_dataset(songs, m.codec, m.config, seconds=2.0, overlap=0.5, held_out=0.25)
