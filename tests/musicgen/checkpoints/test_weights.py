"""Weight files of a folder: layouts, links, and numbers that no model has."""

from __future__ import annotations

import json
import os
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from musicgen import load_model
from musicgen.checkpoints.files.weights import read_file, read_weights
from tests.conftest import GOLDEN
from tests.musicgen.checkpoints.test_audiocraft import same

HEAD = "decoder.lm_heads.1.weight"
CODEBOOK = "audio_encoder.quantizer.layers.0.codebook.embed"
ONE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def weights(folder):
    return load_file(folder / "model.safetensors")


def as_bin(folder):
    """One file of PyTorch, in which T5's embedding has both of its names and one storage."""
    tensors = weights(folder)
    tensors["text_encoder.encoder.embed_tokens.weight"] = tensors["text_encoder.shared.weight"]
    torch.save(tensors, folder / ONE)


def as_shards(folder):
    names = sorted(tensors := weights(folder))
    for number, part in enumerate((names[::2], names[1::2])):
        torch.save({name: tensors[name] for name in part}, folder / f"pytorch_model-{number}.bin")
    where = {name: f"pytorch_model-{n % 2}.bin" for n, name in enumerate(names)}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}), encoding="utf-8")


@pytest.mark.parametrize("write", [as_bin, as_shards])
@pytest.mark.parametrize("kind", ["hf-text", "hf-melody"])
def test_files_of_pytorch_in_hugging_face_s_layout_give_the_same_model(kind, write, checkpoint_copy, model):
    folder = checkpoint_copy(kind)
    write(folder)
    (folder / "model.safetensors").unlink()
    assert same(load_model(folder), model(kind))


def test_of_several_forms_of_the_weights_one_is_read_and_always_the_same(checkpoint_copy, model):
    folder = checkpoint_copy("hf-text")
    as_shards(folder)
    as_bin(folder)
    torch.save({"other": torch.ones(1)}, folder / "pytorch_model-0.bin")
    assert same(load_model(folder), model("hf-text"))
    (folder / "model.safetensors").unlink()
    assert same(load_model(folder), model("hf-text"))
    (folder / ONE).unlink()
    with pytest.raises(ValueError, match="does not fit its configuration: [0-9]+ missing tensors"):
        load_model(folder)


def test_an_index_whose_shards_repeat_a_tensor_is_refused(checkpoint_copy):
    folder = checkpoint_copy("hf-text-sharded")
    first, second = sorted(folder.glob("model-*.safetensors"))
    shutil.copy(first, second)
    with pytest.raises(ValueError, match="is stored in two files"):
        load_model(folder)


@pytest.mark.parametrize("name", ["..\\model.safetensors", "/etc/passwd", "..", "", "sub/model.safetensors"])
def test_a_shard_outside_the_folder_is_refused(name, checkpoint_copy):
    folder = checkpoint_copy("hf-text-sharded")
    (folder / "sub").mkdir()
    shutil.copy(next(folder.glob("model-*.safetensors")), folder / "sub" / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="which is not in"):
        load_model(folder)


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("hf-text", "model.safetensors"),
        ("hf-text", "config.json"),
        ("hf-text-sharded", "model-00001-of-00002.safetensors"),
        ("audiocraft-text", "state_dict.bin"),
        ("audiocraft-text", "compression_state_dict.bin"),
    ],
)
def test_a_link_to_a_regular_file_is_followed_wherever_it_lies(kind, file, checkpoint_copy, tmp_path, model):
    folder = checkpoint_copy(kind)
    (tmp_path / "blobs").mkdir()
    (folder / file).rename(tmp_path / "blobs" / "4f9a0c")
    (folder / file).symlink_to(tmp_path / "blobs" / "4f9a0c")
    assert same(load_model(folder), model(kind))
    (tmp_path / "linked").symlink_to(folder)
    assert same(load_model(tmp_path / "linked"), model(kind))


def to_itself(path, elsewhere):
    path.symlink_to(path.name)


def to_nothing(path, elsewhere):
    path.symlink_to(elsewhere / "gone")


def to_a_folder(path, elsewhere):
    path.symlink_to(elsewhere)


def to_a_device(path, elsewhere):
    path.symlink_to("/dev/zero")


def to_a_pipe(path, elsewhere):
    os.mkfifo(elsewhere / "pipe")
    path.symlink_to(elsewhere / "pipe")


def a_pipe(path, elsewhere):
    os.mkfifo(path)


NO_FILES = {
    to_itself: r"is a link in a circle; put the file itself there",
    to_nothing: r"links to \S*gone, which does not exist; put it there",
    to_a_folder: r"links to a folder; put the file itself there",
    to_a_device: r"links to a device; put the file itself there",
    to_a_pipe: r"links to a pipe; put the file itself there",
    a_pipe: r"is a pipe; put the file itself there",
}


@pytest.mark.parametrize("put", NO_FILES, ids=lambda put: put.__name__)
@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("hf-text", "model.safetensors"),
        ("hf-text", "config.json"),
        ("hf-text", "generation_config.json"),
        ("hf-text-sharded", "model-00001-of-00002.safetensors"),
        ("hf-text-sharded", "model.safetensors.index.json"),
        ("audiocraft-text", "state_dict.bin"),
        ("audiocraft-text", "compression_state_dict.bin"),
    ],
)
def test_what_is_no_file_in_the_place_of_one_is_refused_in_a_sentence(put, kind, file, checkpoint_copy, tmp_path):
    folder, elsewhere = checkpoint_copy(kind), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / file).unlink(missing_ok=True)
    put(folder / file, elsewhere)
    with pytest.raises((ValueError, FileNotFoundError), match=f"{file} {NO_FILES[put]}"):
        load_model(folder)


@pytest.mark.parametrize("name", ["gone", "gone.safetensors", "gone.bin", "there/gone.safetensors/deeper"])
def test_a_model_that_is_not_there_is_said_to_be_gone(name, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist; put it there"):
        load_model(tmp_path / name)


def change(folder, edit):
    tensors = weights(folder)
    edit(tensors)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "model.safetensors")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name", [HEAD, "text_encoder.shared.weight", "audio_encoder.quantizer.layers.0.codebook.embed"]
)
def test_numbers_that_are_not_finite_are_refused(name, number, checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    change(folder, lambda tensors: tensors[name].view(-1)[-1].fill_(number))
    with pytest.raises(ValueError, match=f"tensor {name} holds numbers that are not finite; fetch the file again"):
        load_model(folder)


def test_a_direction_without_length_is_refused(checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    name = "audio_encoder.decoder.layers.0.conv.parametrizations.weight.original1"
    change(folder, lambda tensors: tensors[name].zero_())
    with pytest.raises(ValueError, match="original1 has no direction"):
        load_model(folder)


def test_finite_numbers_whose_sum_is_not_are_taken(checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    change(folder, lambda tensors: tensors[HEAD].fill_(3e38))
    assert float(load_model(folder).lm.head.weight.max()) > 1e38
    with pytest.raises(ValueError, match=f"tensor {HEAD} has numbers too large for float16; load the model in float32"):
        load_model(folder, dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_numbers_of_another_type_are_refused(dtype, checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    change(folder, lambda tensors: tensors.update({HEAD: torch.ones(64, 48).to(dtype)}))
    with pytest.raises(ValueError, match=f"{HEAD} is stored as {str(dtype).removeprefix('torch.')}; this pack reads"):
        load_model(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_any_usual_width_are_read(dtype, checkpoint_copy, model):
    folder = checkpoint_copy("hf-text")
    change(folder, lambda tensors: tensors.update({HEAD: tensors[HEAD].to(dtype)}))
    expected = model("hf-text").lm.head.weight[64:128].to(dtype).float()
    assert torch.equal(load_model(folder).lm.head.weight[64:128], expected)


def safetensors_of(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"x": entry(0, 8, [2])}, None),
        ({"x": entry(0, 4, [1]), "y": entry(4, 8, [])}, None),
        ({"__metadata__": {"a": "b"}, "x": entry(0, 8, [2])}, None),
        ({"x": entry(0, 8, [3])}, "do not fit its shape"),
        ({"x": entry(0, 4, [1])}, "should have .* bytes"),
        ({"x": entry(0, 12, [3])}, "should have .* bytes"),
        ({"x": entry(0, 8, [2]), "y": entry(0, 8, [2])}, "begins at byte 0 where the one before it ends at 8"),
        ({"x": entry(4, 8, [1])}, "begins at byte 4"),
        ({"x": entry(8, 0, [2])}, "do not fit"),
        ({"x": entry(-8, 0, [2])}, "strange numbers"),
        ({"x": entry(0, 8, [-1, -2])}, "strange numbers"),
        ({"x": entry(0, 8, [True, 2])}, "strange numbers"),
        ({"x": entry(0, 8, [1 << 62, 1 << 62])}, "do not fit"),
        ({"x": entry(0, 8, [2], "Q4")}, "KeyError"),
        ({"x": entry(0, 8, [2], [])}, "TypeError"),
        ({"x": {"shape": [2]}}, "KeyError"),
        ({"x": 3}, "TypeError"),
        ([1], "TypeError"),
        (b"[" * 100_000, "RecursionError"),
        (b'{"\xff": 1}', "UnicodeDecodeError"),
        (b"{", "JSONDecodeError"),
    ],
)
def test_a_header_must_describe_the_file_to_the_byte(header, words, tmp_path):
    path = safetensors_of(tmp_path / "model.safetensors", header, bytes(8))
    if words is None:
        assert set(read_file(path)) == set(header) - {"__metadata__"}
        assert set(load_file(path)) == set(header) - {"__metadata__"}
        return
    with pytest.raises(ValueError, match=f"is not a whole safetensors file.*{words}"):
        read_file(path)


@pytest.mark.parametrize("length", [1 << 62, 17 << 20, 3])
def test_a_header_s_length_is_checked_before_it_is_read(length, tmp_path):
    path = safetensors_of(tmp_path / "model.safetensors", {"x": entry(0, 8, [2])}, bytes(8), length)
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        read_file(path)


def test_a_pointer_of_git_lfs_is_called_so(checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    (folder / "model.safetensors").write_text("version https://git-lfs\noid sha256:0\n", encoding="utf-8")
    with pytest.raises(ValueError, match="Git LFS pointer"):
        load_model(folder)


def test_the_tensors_of_every_golden_file_are_those_that_its_own_library_reads():
    for path in sorted((GOLDEN / "checkpoints").rglob("*.safetensors")):
        expected = load_file(path)
        found = read_file(path)
        assert found.keys() == expected.keys()
        for name, record in found.items():
            out = torch.empty(record.shape, dtype=record.dtype)
            if record.dtype.is_floating_point:
                record.read_into(out, name)
                assert torch.equal(out, expected[name])


def test_a_file_that_shrinks_after_it_was_looked_at_is_called_changed(checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    stored = read_weights(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    last = max(stored.records, key=lambda name: stored.records[name].offset)
    with pytest.raises(ValueError, match="was replaced or changed while it was being read"):
        stored.records[last].read_into(torch.empty(stored.records[last].shape), last)
