"""A LoRA in a graph of the real server: what it changes, when it is read again, what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from dev.comfy_server import ComfyError, describe_failure
from tests.lora_files import RANK, draw_factors, kohya, merge, save

from .conftest import ROOT, decode
from .test_bad_input import assert_sentence

BUNDLED = ROOT / "models" / "musicgen-nano"


@pytest.fixture(scope="module")
def loras(host):
    """The server's `models/loras` with one LoRA of the bundled text model."""
    folder = host.base / "models" / "loras"
    save(folder / "mine.safetensors", kohya(draw_factors(BUNDLED), RANK))
    yield folder
    (folder / "mine.safetensors").unlink()  # the folder stays: ComfyUI cannot list one that vanishes


def graph(host, strength: float | None = 1.0, lora: str = "mine.safetensors", **changes) -> dict:
    """Text to music with greedy codes, and with the LoRA unless strength is None."""
    prompt = host.workflow("text_to_music", seed=3, temperature=0.0, **changes)
    if strength is not None:
        inputs = {"model": ["1", 0], "lora": lora, "strength": strength}
        prompt["30"] = {"class_type": "MusicGenLoraLoader", "inputs": inputs}
        prompt["3"]["inputs"]["model"] = ["30", 0]
    return prompt


def test_a_lora_plays_what_the_model_with_merged_weights_plays(host, loras):
    merged = shutil.copytree(BUNDLED, host.models / "merged")
    merge(merged, draw_factors(BUNDLED), 1.0)
    # In fp32: auto keeps the model's weights in fp16, and the host rounds what it patches to that.
    plain, tuned = (host.play(graph(host, strength, dtype="fp32"))[0] for strength in (None, 1.0))
    assert np.array_equal(tuned, host.play(graph(host, None, model="merged", dtype="fp32"))[0])
    assert not np.array_equal(tuned, plain)
    shutil.rmtree(merged)


def test_a_strength_of_zero_plays_as_without_a_lora_and_each_strength_plays_its_own(host, loras):
    plain, zero, half, one = (host.play(graph(host, strength))[0] for strength in (None, 0.0, 0.5, 1.0))
    assert np.array_equal(zero, plain)
    assert not np.array_equal(half, plain) and not np.array_equal(half, one)


def test_samplers_with_and_without_a_lora_share_one_graph(host, loras):
    alone = [host.play(graph(host, strength))[0] for strength in (1.0, None)]
    prompt = graph(host)
    for key in ("3", "4", "5"):  # the same chain once more, without the LoRA
        inputs = {
            name: ["4" + v[0], v[1]] if v in (["3", 0], ["4", 0]) else v for name, v in prompt[key]["inputs"].items()
        }
        prompt["4" + key] = {**prompt[key], "inputs": inputs}
    prompt["43"]["inputs"]["model"] = ["1", 0]
    prompt["45"]["inputs"]["filename_prefix"] += "_plain"
    entry = host.server.run(prompt, timeout=300)
    assert describe_failure(entry) is None
    for key, wanted in zip(("5", "45"), alone, strict=True):
        (item,) = entry["outputs"][key]["audio"]
        assert np.array_equal(decode(host.server.view(item))[0], wanted)


def test_a_lora_file_that_changed_is_read_again(host, loras):
    file = loras / "changing.safetensors"
    save(file, kohya(draw_factors(BUNDLED, seed=1)))
    first = host.play(graph(host, lora="changing.safetensors"))[0]
    assert np.array_equal(host.play(graph(host, lora="changing.safetensors"))[0], first)
    save(file, kohya(draw_factors(BUNDLED, seed=2)))
    assert not np.array_equal(host.play(graph(host, lora="changing.safetensors"))[0], first)
    file.unlink()


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"lora_unet_down_blocks_0.lora_down.weight": torch.ones(1, 4)}, ["no low-rank factors", "down_blocks_0"]),
        (
            {"lm_heads.0.lora_A.weight": torch.ones(2, 1536), "lm_heads.0.lora_B.weight": torch.ones(64, 2)},
            ["1536 wide", "lm_heads.0.lora_A.weight"],
        ),
        ({"lm_heads.0.hada_w1_a": torch.ones(2, 2)}, ["LoHa"]),
    ],
)
def test_a_file_that_is_no_lora_of_the_model_is_refused_in_one_sentence(host, loras, tensors, words):
    save(loras / "wrong.safetensors", tensors)
    assert_sentence(host.fail(graph(host, lora="wrong.safetensors")), "wrong.safetensors", *words)
    (loras / "wrong.safetensors").unlink()


def test_a_damaged_file_is_refused(host, loras):
    (loras / "cut.safetensors").write_bytes((loras / "mine.safetensors").read_bytes()[:3000])
    assert_sentence(host.fail(graph(host, lora="cut.safetensors")), "cut.safetensors", "again")
    (loras / "cut.safetensors").unlink()


@pytest.mark.parametrize("name", ["nobody.safetensors", "../musicgen/x", "/etc/passwd"])
def test_an_unknown_lora_is_refused_with_the_known_ones(host, loras, name):
    with pytest.raises(ComfyError, match=r"MusicGenLoraLoader.*does not exist; allowed are mine.safetensors"):
        host.server.queue(graph(host, lora=name))
