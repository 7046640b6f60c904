"""Tensors of a checkpoint by name, read one at a time from one or several safetensors files.

A :class:`Recipe` says which stored tensors make up one of our parameters and how.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True)
class Recipe:
    """How one parameter is made: `copy` of one tensor, `concat` along the first dimension, or
    `weight_norm` of a magnitude and a direction (Salimans and Kingma 2016)."""

    how: Literal["copy", "concat", "weight_norm"]
    sources: tuple[str, ...]

    def source_shapes(self, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """The shape that each source must have to make a parameter of `shape`."""
        if self.how == "weight_norm":
            magnitude, direction = self.sources
            return {magnitude: (shape[0], *[1] * (len(shape) - 1)), direction: tuple(shape)}
        if self.how == "copy":
            return {self.sources[0]: tuple(shape)}
        return {key: (shape[0] // len(self.sources), *shape[1:]) for key in self.sources}


class StoredTensors:
    """The safetensors of a folder, or one file of them, open for reading. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._handles: dict[str, Any] = {}
        try:
            for path in _files(folder):
                handle = self._stack.enter_context(open_safetensors(path))
                for key in list(handle.keys()):
                    if key in self._handles:
                        raise ValueError(f"{folder}: tensor {key!r} is stored in two files; fetch the model again.")
                    self._handles[key] = handle
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> StoredTensors:
        return self

    def __exit__(self, *error: object) -> None:
        self._handles = {}
        self._stack.close()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all stored tensors, from the files' headers."""
        return {key: tuple(handle.get_slice(key).get_shape()) for key, handle in self._handles.items()}

    def make(self, recipe: Recipe, out: Tensor) -> None:
        """Fill `out` by a recipe, one stored tensor at a time, converting to its dtype and device."""
        if recipe.how == "weight_norm":
            magnitude, direction = (self._handles[key].get_tensor(key).float() for key in recipe.sources)
            out.copy_(torch._weight_norm(direction, magnitude, 0))
            return
        parts = out.chunk(len(recipe.sources)) if recipe.how == "concat" else (out,)
        for key, part in zip(recipe.sources, parts, strict=True):
            part.copy_(self._handles[key].get_tensor(key))


def check_tensors(
    where: Path,
    stored: Mapping[str, tuple[int, ...]],
    wanted: Iterable[tuple[Recipe, Sequence[int]]],
    ignored: Iterable[str],
) -> None:
    """Hold stored names and shapes against recipes and the shapes of what they make.

    Raises ValueError when a stored tensor is unknown or a wanted one is missing or of another
    shape, naming the first five of each.
    """
    expected: dict[str, tuple[int, ...]] = {}
    for recipe, shape in wanted:
        expected |= recipe.source_shapes(shape)
    faults = {
        "missing": sorted(expected.keys() - stored.keys()),
        "unknown": sorted(stored.keys() - expected.keys() - set(ignored)),
        "misshaped": [
            f"{key} {list(stored[key])} instead of {list(shape)}"
            for key, shape in sorted(expected.items())
            if key in stored and stored[key] != shape
        ],
    }
    parts = [f"{len(found)} {fault} tensors, first {', '.join(found[:5])}" for fault, found in faults.items() if found]
    if parts:
        raise ValueError(f"{where} does not fit its config.json: {'; '.join(parts)}. Fetch the whole model again.")


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if single.is_file():
        yield single
        return
    if not index.is_file():
        raise FileNotFoundError(
            f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}; put the model's safetensors files there."
        )
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is not a safetensors index ({error!r}); fetch it again.") from error
    for name in names:
        path = folder / str(name)
        if path.parent != folder or not path.is_file():
            raise FileNotFoundError(f"{index} names {name!r}, which is not in {folder}; fetch the missing file.")
        yield path


def open_safetensors(path: Path) -> Any:
    """Open one file for reading; ValueError when it is not a whole safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}): it is damaged or cut short, so fetch it again."
        ) from error
