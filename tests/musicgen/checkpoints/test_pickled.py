"""PyTorch's files: what is in them comes out, and nothing of them is ever run."""

from __future__ import annotations

import functools
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from musicgen import load_model
from musicgen.checkpoints.files import pickled
from musicgen.checkpoints.files.tensors import Recipe, StoredTensors, TensorRecord
from musicgen.checkpoints.files.weights import read_file
from musicgen.checkpoints.layouts.audiocraft_file import read_solver_file
from tests.conftest import GOLDEN


def read(record: TensorRecord, dtype=None) -> torch.Tensor:
    out = torch.empty(record.shape, dtype=dtype or record.dtype)
    record.read_into(out, "tensor")
    return out


def zip_of(path: Path, program: bytes, storages: dict[str, bytes] | None = None, **options) -> Path:
    """A file as torch.save writes it, with a pickle of our own."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", program)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def tensor_program(
    shape: tuple, stride: tuple, count: int, first: int = 0, storage: str = "FloatStorage", key: str = "0"
) -> bytes:
    """A pickle of {"x": tensor} whose numbers can be chosen freely."""
    numbers = tuple(pickle.dumps(n, 2)[2:-1] for n in (shape, stride, count, first))
    shape_, stride_, count_, first_ = (n.replace(b"q\x00", b"").replace(b"q\x01", b"") for n in numbers)
    return (
        b"\x80\x02}X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
        + f"ctorch\n{storage}\n".encode()
        + b"X\x01\x00\x00\x00"
        + key.encode()
        + b"X\x03\x00\x00\x00cpu"
        + count_
        + b"tQ"
        + first_
        + shape_
        + stride_
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )


def test_data_and_tensors_come_out_as_they_were_saved(tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "plain": base,
        "rows": base[1:3],
        "turned": base.t(),
        "permuted": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "double": base.double(),
        "number": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base + 1),
    }
    data = {"list": [1, 2.5, None, True, "x"], "tuple": ((1,), (1, 2, 3, 4)), "deep": {"a": {1: -(2**40)}}}
    torch.save({"weights": OrderedDict(tensors), **data, "size": base.shape}, tmp_path / "x.bin")
    contents = pickled.load(tmp_path / "x.bin")
    assert {key: contents[key] for key in data} == data and tuple(contents["size"]) == (4, 6)
    assert list(contents["weights"]) == list(tensors)
    for name, record in contents["weights"].items():
        assert (record.dtype, record.shape) == (tensors[name].dtype, tuple(tensors[name].shape))
        assert torch.equal(read(record), tensors[name].detach())
        assert torch.equal(read(record, torch.float32), tensors[name].detach().float())


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_version_of_pickle_is_read(protocol, tmp_path):
    data = {"a": [1, 300, 70000, 2**80, -1, 1.5], "b": ("x", ("y",), "z" * 300, b"bytes"), "c": {1: None, 2: False}}
    data["again"] = data["a"]
    program = pickle.dumps(data, protocol)
    if protocol < 3:  # the way in which these write bytes is a call
        program = pickle.dumps(data | {"b": ("x", ("y",), "z" * 300, "bytes")}, protocol)
        data["b"] = (*data["b"][:3], "bytes")
    assert pickled.load(zip_of(tmp_path / "x.bin", program)) == data


def test_a_tensor_is_read_by_rows_in_any_order_of_its_memory(tmp_path):
    whole = torch.arange(36.0).reshape(6, 6)
    torch.save({"plain": whole, "turned": whole.t().contiguous().t()}, tmp_path / "x.bin")
    stored = StoredTensors(tmp_path, read_file(tmp_path / "x.bin"))
    for name in ("plain", "turned"):
        out = torch.empty(4, 6)
        stored.make(Recipe("copy", (name,), (1, 3, 3)), out)
        assert torch.equal(out, whole[2:])


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Only to be callable, as what __reduce__ gives must be."""


class Stateful:
    """Pickles as an object whose state is set by a call."""

    def __init__(self, inner):
        self.inner = inner

    def __setstate__(self, state):
        raise AssertionError("a method of the pickled class was run")


def hostile(marker: Path) -> dict[str, object]:
    write = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, f"touch {marker}"),
        "eval": Call(eval, write),
        "exec": Call(exec, write),
        "a list of calls": [1, [Call(os.system, f"touch {marker}")]],
        "a key": {"key": {"nested": (Call(eval, write), Stateful(Call(eval, write)))}},
        "functools.partial": Call(functools.partial(eval, write)),
        "a partial that is called": Call(map, eval, [write]),
        "a chain of getattr": Call(Call(getattr, Call(__import__, "os"), "system"), f"touch {marker}"),
        "a subclass of dict": Call(type, "Evil", (dict,), {"__setitem__": Call(eval, write)}),
        "__setstate__": Stateful({"_content": Call(eval, write)}),
    }


NAMES = list(hostile(Path("x")))


def runs(obj: object, marker: Path, tmp_path: Path) -> bool:
    """Whether a plain pickle would have run it: else the test would prove nothing."""
    torch.save(obj, tmp_path / "plain.bin")
    try:
        loaded = torch.load(tmp_path / "plain.bin", weights_only=False)
        list(loaded) if isinstance(loaded, map) else None
    except (AssertionError, TypeError):
        pass
    ran = marker.exists()
    marker.unlink(missing_ok=True)
    return ran


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_what_a_pickle_wants_to_run_is_not_run(name, protocol, tmp_path):
    marker = tmp_path / "it_ran"
    evil = hostile(marker)[name]
    assert runs(evil, marker, tmp_path)
    torch.save({"x": torch.ones(3), "evil": evil}, tmp_path / "x.bin", pickle_protocol=protocol)
    contents = pickled.load(tmp_path / "x.bin")
    assert torch.equal(read(contents["x"]), torch.ones(3))
    with pytest.raises(ValueError, match="'evil' is a .*, not a tensor"):
        read_file(tmp_path / "x.bin")
    assert not marker.exists()


@pytest.mark.parametrize("code", ["(S'touch {}'\nios\nsystem\n.", "(cos\nsystem\nS'touch {}'\no."])
def test_calls_in_the_oldest_notation_are_not_run(code, tmp_path):
    marker = tmp_path / "it_ran"
    program = code.format(marker).encode()
    assert pickle.loads(program) == 0 and marker.exists()
    marker.unlink()
    assert isinstance(pickled.load(zip_of(tmp_path / "x.bin", program)), pickled.StandIn)
    assert not marker.exists()


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_want_to_run_something_load_as_plain_data_or_not_at_all(name, tmp_path, checkpoint_copy):
    marker = tmp_path / "it_ran"
    folder = checkpoint_copy("audiocraft-text")
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    torch.save(package | {"xp.cfg": {"a": hostile(marker)[name]}}, folder / "state_dict.bin")
    values = read_solver_file(folder / "state_dict.bin").settings
    assert set(values) == {"a"}
    with pytest.raises(ValueError, match="lacks the field 'transformer_lm'"):
        load_model(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    ["a: !!python/object/apply:os.system ['touch {}']", "a: !!python/name:os.system", "? !!python/tuple [a]\n: 1"],
)
def test_yaml_that_wants_to_run_something_is_refused(text, tmp_path):
    marker = tmp_path / "it_ran"
    torch.save({"best_state": {}, "xp.cfg": text.format(marker)}, tmp_path / "state_dict.bin")
    with pytest.raises(ValueError, match=r"xp\.cfg cannot be read"):
        read_solver_file(tmp_path / "state_dict.bin")
    assert not marker.exists()


def test_settings_that_omegaconf_pickled_are_those_that_it_wrote_as_text():
    """`omegaconf.bin` holds a real DictConfig of the settings of audiocraft-melody."""
    text = read_solver_file(GOLDEN / "checkpoints" / "audiocraft-melody" / "state_dict.bin").settings
    assert read_solver_file(GOLDEN / "omegaconf.bin").settings == text
    assert text["conditioners"]["self_wav"]["chroma_stem"]["sample_rate"] == 32000


MEGA = 1 << 20
NESTED = b"I1\n" + b"2\x86" * 60  # a pair of two pairs of two pairs ...
BOMBS = {
    "a memo of four thousand million places": b"\x80\x02}r\xf0\xff\xff\xff.",
    "bytes that are not there": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "a number without end": b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"\x01.",
    "a key whose hash takes forever": b"\x80\x02}" + NESTED + b"Ns.",
    "a name that takes forever to write": b"\x80\x04" + NESTED + b"\x8c\x01a\x93.",
    "a storage that takes forever to write": b"\x80\x04"
    + b"(\x8c\x07storage"
    + NESTED
    + b"\x8c\x010\x8c\x03cpuK\x01tQ.",
    "a size that takes forever to write": tensor_program((), (), 4).replace(b"))\x89", NESTED + b"))\x89"),
    "no end of lists": b"\x80\x02" + b"]" * (4 * MEGA - 100) + b".",
    "lists within lists": b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".",
    "more than its archive may have": b"\x80\x02" + b"0" * (5 * MEGA),
    "nothing on the stack": b"\x80\x02a.",
    "no mark": b"\x80\x02t.",
    "no end": b"\x80\x02}",
    "nothing": b"",
    "a step of another program": b"\x80\x02\x82\x01.",
    "a place that was never filled": b"\x80\x02h\x05.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_pickle_that_wants_too_much_is_refused_or_harmless(name, tmp_path):
    import tracemalloc

    path = zip_of(tmp_path / "x.bin", BOMBS[name], {"0": bytes(16)})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"x\.bin (is not a whole PyTorch file|holds no dictionary)"):
            if read_file(path) == {}:
                raise ValueError("x.bin holds no dictionary of tensors")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150 * MEGA


TENSORS = {
    "beyond its storage": (tensor_program((5,), (1,), 4), "reaches beyond its storage"),
    "from beyond its storage": (tensor_program((2,), (1,), 4, first=3), "reaches beyond its storage"),
    "a storage beyond the file": (tensor_program((1 << 30,), (1,), 1 << 30), "should have 4294967296 bytes"),
    "a storage that is not there": (tensor_program((4,), (1,), 4, key="7"), "KeyError"),
    "one number a thousand million times": (tensor_program((1 << 30,), (0,), 4), "gaps or repeats"),
    "numbers with gaps": (tensor_program((2,), (2,), 4), "gaps or repeats"),
    "a negative size": (tensor_program((-1,), (1,), 4), "has the sizes and strides -1, 1"),
    "sizes without strides": (tensor_program((2, 2), (1,), 4), "has the sizes and strides 2, 2, 1"),
    "fewer than no numbers": (tensor_program((1,), (1,), -4), "-4 numbers"),
    "of complex numbers": (tensor_program((4,), (1,), 4, storage="ComplexFloatStorage"), "is a StandIn, not a tensor"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_that_its_file_does_not_hold_is_refused_before_memory_is_taken(name, tmp_path):
    program, words = TENSORS[name]
    with pytest.raises(ValueError, match=words):
        read_file(zip_of(tmp_path / "x.bin", program, {"0": bytes(16)}))


def test_the_tensor_of_the_tests_above_loads_where_it_is_right(tmp_path):
    path = zip_of(tmp_path / "x.bin", tensor_program((2, 2), (2, 1), 4), {"0": struct.pack("<4f", 1, 2, 3, 4)})
    assert torch.equal(read(read_file(path)["x"]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def test_many_names_for_the_same_bytes_are_no_way_to_a_large_model(checkpoint_copy):
    folder = checkpoint_copy("audiocraft-text")
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    shared = torch.zeros(200 * 48)
    for name, tensor in package["best_state"].items():
        package["best_state"][name] = shared[: tensor.numel()].view(tensor.shape)
    torch.save(package, folder / "state_dict.bin")
    with pytest.raises(ValueError, match="bytes of tensors are named, but its files have"):
        load_model(folder)


def test_files_of_another_kind_are_named_as_such(tmp_path):
    path = tmp_path / "x.bin"
    torch.save({"x": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="format from before version 1.6"):
        read_file(path)
    path.write_bytes(b"version https://git-lfs\noid sha256:0\n")
    with pytest.raises(ValueError, match="is a Git LFS pointer"):
        read_file(path)
    zip_of(path, tensor_program((4,), (1,), 4), {"0": bytes(16)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="compressed"):
        read_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_program((4,), (1,), 4))
        archive.writestr("archive/data/0", bytes(16), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="is compressed; save it again"):
        read_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_program((4,), (1,), 4))
        archive.writestr("archive/byteorder", b"big")
    with pytest.raises(ValueError, match="big-endian"):
        read_file(path)
    torch.save([torch.ones(3)], path)
    with pytest.raises(ValueError, match="holds no dictionary of tensors"):
        read_file(path)


def test_an_archive_whose_directory_alone_is_huge_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        for number in range(80):
            name = f"archive/{number}" + "x" * 60000
            archive.writestr(name, b"")
            archive.getinfo(name).comment = b"c" * 65000
    with pytest.raises(ValueError, match="a part of it claims"):
        read_file(tmp_path / "x.bin")


@pytest.mark.parametrize("kept", [0, 1, 30, 1000, 100_000, -1])
def test_a_file_cut_short_is_called_so(kept, checkpoint_copy):
    folder = checkpoint_copy("audiocraft-text")
    path = folder / "state_dict.bin"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"state_dict\.bin is not a whole PyTorch file.*fetch it again"):
        load_model(folder)
