"""A LoRA in the place of a model is called one."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from musicgen import load_model
from tests.conftest import GOLDEN
from tests.lora_files import draw_factors, kohya, save
from tests.musicgen.checkpoints.test_audiocraft import same

LORA, MODEL = GOLDEN / "loras" / "melody", GOLDEN / "checkpoints" / "hf-melody"


@pytest.fixture
def pushed(tmp_path):
    """What a trainer pushes: the adapter, and the base model's settings and tokenizer."""
    folder = shutil.copytree(LORA, tmp_path / "punk")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(MODEL / name, folder)
    return folder


def as_it_is(folder):
    return folder


def as_bin(folder):
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    return folder


def without_the_model_s_settings(folder):
    (folder / "config.json").unlink()
    return folder


def in_an_inner_folder(folder):
    (folder / "checkpoint-500").mkdir()
    for file in [*folder.glob("adapter_*")]:
        file.rename(folder / "checkpoint-500" / file.name)
    return folder


def its_file_alone(folder):
    return folder / "adapter_model.safetensors"


def a_file_of_kohya(folder):
    return save(folder / "mine.safetensors", kohya(draw_factors(MODEL)))


def a_file_of_pytorch(folder):
    return as_bin(folder) / "adapter_model.bin"


@pytest.mark.parametrize(
    "change",
    [
        as_it_is,
        as_bin,
        without_the_model_s_settings,
        in_an_inner_folder,
        its_file_alone,
        a_file_of_kohya,
        a_file_of_pytorch,
    ],
)
def test_a_lora_in_the_place_of_a_model_is_called_one(change, pushed):
    with pytest.raises(
        ValueError, match=r"holds a LoRA \(an adapter\) and not a model's weights; move it to models/loras"
    ):
        load_model(change(pushed))


def test_a_lora_beside_a_model_s_weights_is_no_concern_of_the_loader(checkpoint_copy, model):
    folder = checkpoint_copy("hf-melody")
    shutil.copytree(LORA, folder, dirs_exist_ok=True)
    assert same(load_model(folder), model("hf-melody"))
