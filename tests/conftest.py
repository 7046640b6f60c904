"""Fixtures shared by all tests: golden data and tiny models."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from musicgen import MusicGen, load_model
from tests.tiny import write_style_model

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"
PROMPTS = ("a calm piano melody with soft drums", "rock")

# Tiny models gain nothing by threads, and lose a great deal when other work wants the cores; the servers
# that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test asks a hub but those that bring one of their own.
os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)
# CI runs the decoding once more as it is where the optional compiler is not installed.
if os.environ.get("MUSICGEN_WITHOUT_COMPILER"):
    sys.modules["llvmlite"] = None  # type: ignore[assignment]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where the golden tests compute")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests that need a card where there is none, and refuse an option that would need one."""
    if torch.cuda.is_available():
        return
    if config.getoption("--device") == "cuda":
        raise pytest.UsageError("--device is cuda and torch finds no CUDA device; allowed here is cpu.")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none"))


@cache
def golden_tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


@cache
def golden_model(name: str) -> MusicGen:
    return load_model(GOLDEN / "checkpoints" / name)


@cache
def golden_json(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def style_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_style_model(tmp_path_factory.mktemp("style") / "audiocraft-style")


@pytest.fixture(scope="session")
def style_model(style_folder: Path) -> MusicGen:
    """The golden style model with a small random MERT."""
    return load_model(style_folder)


@pytest.fixture
def tensors() -> Callable[[str], dict[str, torch.Tensor]]:
    return golden_tensors


@pytest.fixture
def model() -> Callable[[str], MusicGen]:
    """A tiny model of the golden set by name: hf-text, hf-melody, hf-stereo, ..."""
    return golden_model


@pytest.fixture
def table() -> Callable[[str], Any]:
    return golden_json


@pytest.fixture
def sweep() -> torch.Tensor:
    """Six seconds of a rising tone, mono `[1, 1, L]` at 32 kHz."""
    return golden_tensors("signals")["sweep6s"].reshape(1, 1, -1)


@pytest.fixture
def checkpoint_copy(tmp_path: Path) -> Callable[[str], Path]:
    """A writable copy of a golden checkpoint folder."""
    import shutil

    def copy(name: str) -> Path:
        return Path(shutil.copytree(GOLDEN / "checkpoints" / name, tmp_path / name))

    return copy


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The ComfyUI that the servers of the host and browser tests run."""
    folder = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".host" / "ComfyUI")
    assert (folder / "main.py").is_file(), f"no ComfyUI in {folder}; `python quickstart.py test` fetches it"
    return folder
