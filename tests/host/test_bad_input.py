"""What a user can get wrong ends in one clear sentence, and the server plays on afterwards."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from dev.comfy_server import ComfyError

BUNDLED = Path(__file__).resolve().parents[2] / "models"


@pytest.fixture
def broken(host):
    """Copies of a bundled model under models/musicgen, for a test to break."""
    made = []

    def copy(name: str, source: str = "musicgen-nano") -> Path:
        made.append(host.models / name)
        return shutil.copytree(BUNDLED / source, made[-1])

    yield copy
    for folder in made:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def plays_on(host):
    """After every test of this file the same server still makes music."""
    yield
    samples, _ = host.play(host.workflow("text_to_music"))
    assert samples.shape == (1, 16000)


def assert_sentence(error: tuple[str, str], *words: str) -> None:
    kind, message = error
    assert kind in ("ValueError", "FileNotFoundError")
    assert "\n" not in message and 20 < len(message) < 700 and message.endswith(".")
    assert [word for word in words if word not in message] == [], message


def swapped(prompt: dict, class_type: str, replacement: dict) -> dict:
    """The prompt with every node of a class replaced."""
    return {key: replacement if node["class_type"] == class_type else node for key, node in prompt.items()}


def test_a_text_model_refuses_a_melody(host):
    error = host.fail(host.workflow("melody_to_music", model="bundled/musicgen-nano"))
    assert_sentence(error, "bundled/musicgen-nano", "melody")


@pytest.mark.parametrize("name", ["melody_to_music", "continue_music"])
def test_audio_without_samples_is_refused(host, name):
    silence = {"class_type": "EmptyAudio", "inputs": {"duration": 0.0, "sample_rate": 32000, "channels": 1}}
    assert_sentence(host.fail(swapped(host.workflow(name), "LoadAudio", silence)), "empty")


@pytest.mark.parametrize("name", ["melody_to_music", "continue_music"])
def test_surround_sound_is_mixed_down_and_the_node_says_so(host, name):
    audio = host.record(f"{name}.wav", 0.1 * np.ones((6, 9600)))
    lines = []
    host.play(
        host.workflow(name, audio=audio), lambda kind, data: lines.append(data["text"]) if kind == "text" else None
    )
    assert any("5.1 sound was mixed to stereo by ITU-R BS.775." in line for line in lines)


@pytest.mark.parametrize("name", ["melody_to_music", "continue_music"])
def test_audio_that_is_not_a_number_is_refused(host, name):
    samples = np.full(3200, np.nan, "<f4").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 3, 1, 32000, 128000, 4,
                       32, b"data", len(samples))  # fmt: skip
    (host.base / "input" / "nan.wav").write_bytes(head + samples)
    assert_sentence(host.fail(host.workflow(name, audio="nan.wav")), "NaN")


def test_tokens_of_another_codec_are_refused_with_both_models_names(host, broken):
    from safetensors.numpy import load_file, save_file

    file = broken("other_codec") / "model.safetensors"
    tensors = load_file(file)
    name = next(key for key in tensors if key.endswith("codebook.embed"))
    save_file({**tensors, name: tensors[name] + 1.0}, file, metadata={"format": "pt"})
    prompt = host.workflow("text_to_music")
    prompt["9"] = {"class_type": "MusicGenLoader", "inputs": {"model": "other_codec", "dtype": "auto"}}
    prompt["4"]["inputs"]["codec"] = ["9", 2]
    assert_sentence(host.fail(prompt), "other_codec", "bundled/musicgen-nano")


def test_a_prompt_of_seventy_minutes_is_refused_before_it_costs_memory(host):
    audio = host.record("seventy_minutes.wav", np.zeros(70 * 60 * 1000), rate=1000)
    assert_sentence(host.fail(host.workflow("continue_music", audio=audio, duration=60.0)), "4200", "3600")


def test_a_melody_of_six_minutes_is_refused(host):
    audio = host.record("six_minutes.wav", np.zeros(6 * 60 * 1000), rate=1000)
    assert_sentence(host.fail(host.workflow("melody_to_music", audio=audio)), "360", "300")


def test_a_prompt_longer_than_the_window_is_continued_from_its_last_part(host):
    audio = host.record("long.wav", host.tune([220.0] * 62))
    lines = []
    sound, rate = host.play(
        host.workflow("continue_music", audio=audio, duration=33.0),
        lambda kind, data: lines.append(data["text"]) if kind == "text" else None,
    )
    assert sound.shape[-1] == 33 * rate
    assert any("goes on from" in line or "last" in line for line in lines), lines


def test_a_prompt_longer_than_the_piece_is_refused(host):
    audio = host.record("longer.wav", host.tune([220.0] * 6))
    assert_sentence(host.fail(host.workflow("continue_music", audio=audio, duration=1.0)), "3", "1")


@pytest.mark.parametrize("keep", [0, 5, 3000, -1000])
def test_weights_cut_short_are_refused(host, broken, keep):
    file = broken("cut") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert_sentence(host.fail(host.workflow("text_to_music", model="cut")), "model.safetensors", "fetch it again")


def test_weights_that_are_noise_are_refused(host, broken):
    (broken("noise") / "model.safetensors").write_bytes(np.random.default_rng(0).bytes(100_000))
    assert_sentence(host.fail(host.workflow("text_to_music", model="noise")), "model.safetensors", "fetch it again")


def test_weights_of_another_model_are_refused_by_the_names_that_do_not_fit(host, broken):
    folder = broken("other")
    shutil.copyfile(BUNDLED / "musicgen-nano-melody" / "model.safetensors", folder / "model.safetensors")
    assert_sentence(host.fail(host.workflow("text_to_music", model="other")), "does not fit its configuration")


def test_a_folder_without_weights_is_refused(host, broken):
    (broken("bare") / "model.safetensors").unlink()
    assert_sentence(host.fail(host.workflow("text_to_music", model="bare")), "model.safetensors")


@pytest.mark.parametrize("path", [("decoder", "hidden_size"), ("audio_encoder",), ("text_encoder",), ("model_type",)])
def test_a_config_that_lacks_a_field_is_refused_by_the_field_s_name(host, broken, path):
    file = broken("lacking") / "config.json"
    config = json.loads(file.read_text())
    part = config
    for name in path[:-1]:
        part = part[name]
    del part[path[-1]]
    file.write_text(json.dumps(config))
    assert_sentence(host.fail(host.workflow("text_to_music", model="lacking")), "config.json", path[-1])


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_config_that_is_no_json_object_is_refused(host, broken, text):
    (broken("unreadable") / "config.json").write_text(text)
    assert_sentence(host.fail(host.workflow("text_to_music", model="unreadable")), "config.json")


@pytest.mark.parametrize("name", ["../../input", "/etc", "bundled/../../models", "..\\..\\input", ""])
def test_a_model_outside_the_models_folder_is_refused(host, name):
    with pytest.raises(ComfyError, match=r"models folder|does not exist"):
        host.server.queue(host.workflow("text_to_music", model=name))


def test_an_unknown_model_is_refused_with_the_known_ones(host):
    with pytest.raises(ComfyError, match=r"MusicGenLoader.*'nobody'.*bundled/musicgen-nano"):
        host.server.queue(host.workflow("text_to_music", model="nobody"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("duration", 0.0), ("duration", 1e9), ("batch_size", 0), ("temperature", -1.0), ("top_p", 1.5), ("pattern", "x")],
)
def test_a_number_out_of_its_range_is_refused_by_its_name(host, name, value):
    with pytest.raises(ComfyError, match=f"MusicGenSampleTokens.*{name}"):
        host.server.queue(host.workflow("text_to_music", **{name: value}))
