"""Fixtures shared by all tests: golden data and tiny models."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from musicgen import MusicGen, load_model

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"
PROMPTS = ("a calm piano melody with soft drums", "rock")

# Tiny models gain nothing by threads, and lose a great deal when other work wants the cores; the servers
# that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


@cache
def golden_tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


@cache
def golden_model(name: str) -> MusicGen:
    return load_model(GOLDEN / "checkpoints" / name)


@cache
def golden_json(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def write_mert(folder: Path, width: int = 24, layers: int = 2, *, half: bool = False, **changes: Any) -> Any:
    """A random MERT in the files of its repository, and transformers' own model of the same weights.

    width: of a state; the small ones are small in everything but their strides.
    """
    from transformers import HubertConfig, HubertModel

    real = width == 768
    config = HubertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=12 if real else 4,
        intermediate_size=4 * width,
        conv_dim=[512 if real else 8] * 7,
        num_conv_pos_embedding_groups=16 if real else 4,
        num_conv_pos_embeddings=128 if real else 16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(11)
        hubert = HubertModel(config).eval().requires_grad_(False)
    weights = {name: weight.half() if half else weight for name, weight in hubert.state_dict().items()}
    hubert.load_state_dict(weights)
    for number, letter in enumerate("gv"):  # the names that weight normalisation had when MERT was released
        conv = "encoder.pos_conv_embed.conv"
        weights[f"{conv}.weight_{letter}"] = weights.pop(f"{conv}.parametrizations.weight.original{number}")
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights, folder / "pytorch_model.bin")
    own = {"model_type": "mert_model", "sample_rate": 24000, "feature_extractor_cqt": False, "deepnorm": False}
    table = {**config.to_dict(), **own, "attention_relax": -1.0, **changes}
    (folder / "config.json").write_text(json.dumps(table), encoding="utf-8")
    return hubert


@pytest.fixture(scope="session")
def style_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden style checkpoint with a small random MERT beside it."""
    import shutil

    folder = tmp_path_factory.mktemp("style") / "audiocraft-style"
    shutil.copytree(GOLDEN / "checkpoints" / "audiocraft-style", folder)
    write_mert(folder / "MERT-v1-95M")
    return folder


@pytest.fixture(scope="session")
def style_model(style_folder: Path) -> MusicGen:
    return load_model(style_folder, text_encoder_from=GOLDEN / "checkpoints" / "t5-text")


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
