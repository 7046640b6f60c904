"""Tokens on disk."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch


@pytest.fixture
def folder(comfy, tmp_path, monkeypatch):
    """Empty input and output folders; the place of saved tokens."""
    (tmp_path / "input").mkdir()
    monkeypatch.setattr(comfy.folder_paths, "input_directory", str(tmp_path / "input"))
    monkeypatch.setattr(comfy.folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path / "output" / "tokens"


@pytest.fixture
def save(run, folder):
    """Save tokens; the file."""

    def save_tokens(tokens, prefix="tokens/mine"):
        before = set(folder.glob("*"))
        run("SaveTokens", tokens=tokens, filename_prefix=prefix)
        (path,) = set(folder.glob("*")) - before
        return path

    return save_tokens


@pytest.mark.parametrize("name", ["text", "stereo"])
def test_saved_tokens_come_back_exactly_with_their_recipe(run, save, encode, sample, name):
    tokens = sample(encode("slow jazz", name), name, batch_size=2, seed=7, duration=0.51)
    path = save(tokens)
    assert path.name == "mine_00001_.safetensors" and path.stat().st_size < 4000
    back, recipe = run("LoadTokens", file="tokens/mine_00001_.safetensors [output]")
    assert torch.equal(back.pop("codes"), tokens["codes"])
    assert back == {key: value for key, value in tokens.items() if key != "codes"}
    told = json.loads(recipe)
    assert told["positive"][0]["text"] == "slow jazz" and told["seed"] == 7 and told["model"] == f"tiny/{name}"


def test_files_are_listed_as_they_arrive_in_input_and_output(save, host, encode, sample, folder, node_list):
    path = save(sample(encode("jazz")))
    copy = folder.parents[1] / "input" / "deep" / "copy.safetensors"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    (copy.parent / "other.safetensors").write_bytes(b"x" * 100)
    names = ["deep/copy.safetensors", "tokens/mine_00001_.safetensors [output]"]
    assert list(host.folders.token_files()) == names
    loader = next(node for node in node_list if node.GET_SCHEMA().node_id == "MusicGenLoadTokens")
    assert loader.GET_SCHEMA().inputs[0].options == names
    assert loader.validate_inputs(file="deep\\copy.safetensors") is True
    assert "does not exist; allowed are deep/copy.safetensors" in loader.validate_inputs(file="nobody")
    assert "does not exist" in loader.validate_inputs(file="../output/tokens/mine_00001_.safetensors")


def test_a_file_of_another_codec_is_refused_by_both_names(run, load, save, encode, sample):
    save(sample(encode("jazz")))
    with pytest.raises(ValueError, match=r"codec of tiny/text, which is not the codec of tiny/melody"):
        run("LoadTokens", file="tokens/mine_00001_.safetensors [output]", codec=load("melody").codec)


def _rewrite(path: Path, change) -> None:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    about = json.loads(header["__metadata__"]["musicgen_tokens"])
    change(about)
    header["__metadata__"]["musicgen_tokens"] = json.dumps(about)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda about: about.update(version=2), "version 2 of the token format"),
        (lambda about: about.pop("codec"), "says nothing about codec"),
        (lambda about: about.update(card=3), "its codebooks have 0 to 2"),
    ],
)
def test_a_file_that_does_not_fit_itself_is_refused(run, save, encode, sample, change, words):
    _rewrite(save(sample(encode("jazz"))), change)
    with pytest.raises(ValueError, match=words):
        run("LoadTokens", file="tokens/mine_00001_.safetensors [output]")


def test_a_file_cut_short_and_a_file_of_something_else_are_refused(run, save, encode, sample, folder):
    path = save(sample(encode("jazz")))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="damaged or cut short"):
        run("LoadTokens", file="tokens/mine_00001_.safetensors [output]")
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no tokens"):
        run("LoadTokens", file="tokens/mine_00001_.safetensors [output]")


def test_loaded_tokens_decode_and_go_on(run, load, save, encode, sample):
    tokens = sample(encode("jazz"))
    save(tokens)
    back, _ = run("LoadTokens", file="tokens/mine_00001_.safetensors [output]")
    codec = load("text").codec
    sounds = [run("EnCodecDecode", codec=codec, tokens=t)["waveform"] for t in (tokens, back)]
    assert torch.equal(*sounds)
    assert torch.equal(sample(encode("folk"), prompt=back, duration=1.0)["codes"][:, :, :25], tokens["codes"])
