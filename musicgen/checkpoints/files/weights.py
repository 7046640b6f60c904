"""The weight files of a folder: which of several layouts counts, shards and their index, safetensors' header."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from . import pickled
from .opened import OpenedFile
from .regular import is_there
from .settings import read_json
from .tensors import StoredTensors, TensorRecord
from .wrapped import plain_names, weights_of

# In this order: a folder that holds several of them is read from the first.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_MAX_HEADER_BYTES = 1 << 24
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


_PAGE = "is a web page, not weights: an error was saved in their place; fetch the file itself."
_OTHERS = {
    b"version ": "is a Git LFS pointer, not the weights; fetch the file itself.",
    b"PK\x03\x04": "is a PyTorch file or another archive under the name of safetensors; name it .bin.",
    b"GGUF": "is a GGUF file, which this pack does not read; fetch the model in safetensors.",
    **dict.fromkeys((b"<!DOCTYP", b"<!doctyp", b"<html", b"<HTML", b"<?xml"), _PAGE),
}
"""First bytes of files that are no safetensors, and a sentence for each."""


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights in the Hugging Face layout."""
    return any((folder / name).is_file() for name in WEIGHT_FILES)


def read_weights(folder: Path, anchors: Sequence[str] = ()) -> StoredTensors:
    """The tensors of a folder in the Hugging Face layout: safetensors before `.bin`, one file before shards.

    anchors: see :func:`plain_names`, by which wrappers of trainers are left out of the names.

    Raises FileNotFoundError where a file is missing, ValueError on one that is damaged, is no regular file,
    or repeats a tensor.
    """
    there = [name for name in WEIGHT_FILES if is_there(folder / name)]
    name = next((name for name in there if (folder / name).is_file()), there[0] if there else None)
    if name is None:
        raise FileNotFoundError(f"{folder} holds neither {', nor '.join(WEIGHT_FILES)}; put the model's weights there.")
    paths = _shards(folder / name) if name.endswith(".json") else [folder / name]
    records: dict[str, TensorRecord] = {}
    for path in paths:
        for key, record in read_file(path).items():
            if key in records:
                raise ValueError(f"{folder}: tensor {key!r:.200} is stored in two files; fetch the model again.")
            records[key] = record
    return StoredTensors(folder, plain_names(folder, records, anchors))


def read_file(path: Path) -> dict[str, TensorRecord]:
    """The tensors of one file by name: safetensors, or a dictionary that PyTorch saved, in a trainer's or alone."""
    if path.suffix.lower() == ".safetensors":
        return SafetensorsFile(path).records()
    contents = pickled.load(path)
    return tensors_of((weights_of(contents) if isinstance(contents, dict) else None) or contents, path)


def tensors_of(contents: Any, path: Path) -> dict[str, TensorRecord]:
    """The tensors of a dictionary out of a PyTorch file. Raises ValueError on anything but tensors."""
    if not isinstance(contents, dict):
        raise ValueError(f"{path} holds no dictionary of tensors; choose the model's own weights.")
    contents = {key: value for key, value in contents.items() if not str(key).endswith("_extra_state")}
    strange = [key for key, value in contents.items() if not isinstance(value, TensorRecord)]
    if shards := [key for key in strange if _is_sharded(contents[key])]:
        raise ValueError(
            f"{path}: {shards[0]!r:.80} is one device's share of a tensor; gather the full weights of all devices "
            "into one state dict in the trainer, and save that."
        )
    if strange:
        kind = type(contents[strange[0]]).__name__
        raise ValueError(f"{path}: {strange[0]!r:.80} is a {kind}, not a tensor; choose the model's own weights.")
    return {str(key): value for key, value in contents.items()}


def _is_sharded(value: Any) -> bool:
    return isinstance(value, pickled.StandIn) and value.name.rsplit(".", 1)[-1] in ("ShardedTensor", "DTensor")


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map", {})
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{index} is not an index of weights; fetch it again.")
    present = {path.name: path for path in index.parent.iterdir()}
    wanted = sorted(set(names.values()))
    missing = [name for name in wanted if name not in present]
    if missing:
        raise FileNotFoundError(
            f"{index} names {missing[0]!r:.200}, which is not in {index.parent}; fetch the missing file."
        )
    return [present[name] for name in wanted]


class SafetensorsFile:
    """A safetensors file whose header is read: its metadata, and where its tensors lie.

    Raises FileNotFoundError and ValueError that name its fault.
    """

    def __init__(self, path: Path) -> None:
        self.file = OpenedFile(path)
        self._header, self._start = _read_header(self.file)
        metadata = self._header.pop("__metadata__", None)
        self.metadata: dict[str, str] = metadata if isinstance(metadata, dict) else {}

    def records(self) -> dict[str, TensorRecord]:
        """The tensors by name. Raises ValueError where they do not fit the file."""
        try:
            return dict(_records(self.file, self._header.items(), self._start))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _damaged(self.file.path, error) from error


def _read_header(file: OpenedFile) -> tuple[dict[str, Any], int]:
    """A safetensors file's header, and where its tensors begin."""
    start = file.read(0, 8)
    for first, sentence in _OTHERS.items():
        if start.startswith(first):
            raise ValueError(f"{file.path} {sentence}")
    try:
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(file.size - 8, _MAX_HEADER_BYTES):
            raise ValueError(f"its header claims {length} bytes of {file.size}")
        header = json.loads(file.read(8, length).decode("utf-8"))
        if not isinstance(header, dict):
            raise TypeError("its header is no table")
        return header, 8 + length
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(file.path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = f"{type(error).__name__}: {error}"[:200]
    return ValueError(
        f"{path} is not a whole safetensors file ({reason}): it is damaged or cut short, so fetch it again."
    )


def _records(file: OpenedFile, entries: Iterable[tuple[str, Any]], start: int) -> list[tuple[str, TensorRecord]]:
    """The tensors of a header, which must lie one after the other and fill the file."""
    found = []
    for name, entry in entries:
        (begin, end), shape, dtype = entry["data_offsets"], entry["shape"], _DTYPES[entry["dtype"]]
        if not all(type(n) is int and n >= 0 for n in (begin, end, *shape)):
            raise ValueError(f"tensor {name!r:.80} is described by strange numbers")
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"tensor {name!r:.80} has {end - begin} bytes, which do not fit its shape {shape!r:.80}")
        found.append((begin, end, name, TensorRecord(file, start + begin, dtype, tuple(shape))))
    at = 0
    for begin, end, name, _ in sorted(found, key=lambda entry: entry[:2]):
        if begin != at:
            raise ValueError(f"tensor {name!r:.80} begins at byte {begin} where the one before it ends at {at}")
        at = end
    if start + at != file.size:
        raise ValueError(f"it should have {start + at} bytes and has {file.size}")
    return [(name, record) for _, _, name, record in found]
