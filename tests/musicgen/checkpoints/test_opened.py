"""Files that change while they are read, and files that are no weights: each is told in a sentence that is true."""

from __future__ import annotations

import json
import os
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from musicgen import load_model, save_checkpoint
from musicgen.checkpoints.files.opened import OpenedFile
from musicgen.checkpoints.files.tensors import TensorRecord
from tests.conftest import GOLDEN, golden_model
from tests.musicgen.checkpoints.test_audiocraft import same

TEXT = GOLDEN / "checkpoints" / "hf-text"


@pytest.fixture
def when_reading(monkeypatch):
    """Do something once, as the tensor of some number is read."""

    def plan(number, deed):
        count, read_into = 0, TensorRecord.read_into

        def watched(self, *arguments, **named):
            nonlocal count
            count += 1
            if count == number:
                deed()
            return read_into(self, *arguments, **named)

        monkeypatch.setattr(TensorRecord, "read_into", watched)

    return plan


@pytest.fixture
def other(tmp_path):
    """The weights of another model of the same shapes."""
    louder = {key: weight * 1.5 for key, weight in load_file(TEXT / "model.safetensors").items()}
    save_file(louder, tmp_path / "other.safetensors", metadata={"format": "pt"})
    return tmp_path / "other.safetensors"


@pytest.mark.parametrize("number", [1, 25, 100])
def test_a_file_replaced_while_it_is_read_is_never_mixed(number, checkpoint_copy, when_reading, other):
    folder = checkpoint_copy("hf-text")
    when_reading(number, lambda: os.replace(other, folder / "model.safetensors"))
    with pytest.raises(ValueError, match=r"model\.safetensors was replaced or changed while it was being read; wait"):
        load_model(folder)


@pytest.mark.parametrize("name", ["hf-text-sharded", "audiocraft-text"])
def test_one_of_several_files_replaced_while_they_are_read_is_told(name, checkpoint_copy, when_reading, tmp_path):
    folder = checkpoint_copy(name)
    last = sorted(path for path in folder.iterdir() if path.suffix in (".bin", ".safetensors"))[-1]
    shutil.copy(last, tmp_path / "copy")
    when_reading(3, lambda: os.replace(tmp_path / "copy", last))
    with pytest.raises(ValueError, match=f"{last.name} was replaced or changed while it was being read"):
        load_model(folder)


def written_to(path):
    with open(path, "r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(bytes(64))
    os.utime(path, ns=(1, 1))


def cut(path):
    os.truncate(path, 100_000)


def removed(path):
    path.unlink()


@pytest.mark.parametrize("deed", [written_to, cut, removed])
def test_a_file_written_to_while_it_is_read_is_told(deed, checkpoint_copy, when_reading):
    folder = checkpoint_copy("hf-text")
    when_reading(10, lambda: deed(folder / "model.safetensors"))
    with pytest.raises(ValueError, match="was replaced or changed while it was being read"):
        load_model(folder)


def test_each_file_is_opened_once_and_closed_in_the_end(checkpoint_copy, monkeypatch, tmp_path):
    opened, init, wanted = [], OpenedFile.__init__, golden_model("hf-text-sharded")
    save_checkpoint(golden_model("hf-text"), tmp_path / "one.safetensors")

    def watched(self, path):
        init(self, path)
        opened.append((path.name, self.raw))

    monkeypatch.setattr(OpenedFile, "__init__", watched)
    folder = checkpoint_copy("hf-text-sharded")
    assert same(load_model(folder), wanted)
    assert sorted(name for name, _ in opened) == [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    load_model(tmp_path / "one.safetensors")
    assert [name for name, _ in opened][2:] == ["one.safetensors"]
    assert all(raw.closed for _, raw in opened)


def cut_in_the_header(data, length):
    return data[: length // 2]


def cut_in_the_tensors(data, length):
    return data[:-1000]


def empty(data, length):
    return b""


def of_a_later_version(data, length):
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["musicgen.format"] = "99"
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def of_another_program(data, length):
    from safetensors.torch import save

    return save({"weight": torch.zeros(4, 4)})


def a_web_page(data, length):
    return b"<!DOCTYPE html><html><title>Log in</title></html>"


def a_pickle(data, length):
    return b"PK\x03\x04" + bytes(60)


def a_gguf(data, length):
    return b"GGUF\x03\x00\x00\x00" + bytes(60)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut_in_the_header, "is not a whole safetensors file .*damaged or cut short, so fetch it again"),
        (cut_in_the_tensors, "is not a whole safetensors file .*damaged or cut short, so fetch it again"),
        (empty, "is not a whole safetensors file .*damaged or cut short, so fetch it again"),
        (of_a_later_version, "is in version '99' of the single-file layout; this pack reads 1, .*update this pack"),
        (of_another_program, r"is no single-file MusicGen model: it holds no settings \(musicgen\.config\)"),
        (a_web_page, "is a web page, not weights"),
        (a_pickle, "is a PyTorch file or another archive under the name of safetensors"),
        (a_gguf, "is a GGUF file, which this pack does not read"),
    ],
)
def test_a_single_file_that_is_no_model_is_told_by_its_kind(change, words, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_checkpoint(golden_model("hf-text"), path)
    data = path.read_bytes()
    path.write_bytes(change(data, struct.unpack("<Q", data[:8])[0]))
    with pytest.raises(ValueError, match=words) as refused:
        load_model(path)
    assert "no JSON" not in str(refused.value)
