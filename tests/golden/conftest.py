"""The models of the golden tests, on the device that `--device` names."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from musicgen import MusicGen, load_model
from tests.conftest import GOLDEN


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    """Where the golden tests compute."""
    return torch.device(pytestconfig.getoption("--device"))


@cache
def model_on(path: Path, device: torch.device) -> MusicGen:
    """The model of a folder, with all its weights on the device."""
    return load_model(path, device=device)


@pytest.fixture
def model(device: torch.device) -> Callable[[str], MusicGen]:
    """A tiny model of the golden set by name: hf-text, hf-melody, hf-stereo, ..."""
    return lambda name: model_on(GOLDEN / "checkpoints" / name, device)


@pytest.fixture
def style_model(style_folder: Path, device: torch.device) -> MusicGen:
    """The golden style model with a small random MERT."""
    return model_on(style_folder, device)
