"""Tensors of a checkpoint by name, read one at a time from one or several safetensors files.

A :class:`Recipe` says which stored tensors make up one of our parameters and how.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
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


class StoredTensors:
    """The safetensors of a folder, open for reading. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._handles: dict[str, Any] = {}
        try:
            for path in _files(folder):
                handle = self._stack.enter_context(_open(path))
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

    def keys(self) -> Iterable[str]:
        """Names of all stored tensors."""
        return self._handles.keys()

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a stored tensor, from the file's header."""
        return tuple(self._handles[key].get_slice(key).get_shape())

    def make(self, recipe: Recipe, out: Tensor) -> None:
        """Fill `out` by a recipe, one stored tensor at a time, converting to its dtype and device.

        Raises ValueError when the shapes do not fit.
        """
        if recipe.how == "weight_norm":
            magnitude, direction = (self._handles[key].get_tensor(key).float() for key in recipe.sources)
            _require_shape(recipe, tuple(direction.shape), tuple(out.shape))
            _require_shape(recipe, tuple(magnitude.shape), (out.shape[0], *[1] * (out.dim() - 1)))
            out.copy_(torch._weight_norm(direction, magnitude, 0))
            return
        row = 0
        for key in recipe.sources:
            tensor = self._handles[key].get_tensor(key)
            target = out if recipe.how == "copy" else out[row : row + (tensor.shape[0] if tensor.dim() else 0)]
            _require_shape(Recipe("copy", (key,)), tuple(tensor.shape), tuple(target.shape))
            target.copy_(tensor)
            row += tensor.shape[0] if tensor.dim() else 0
        if recipe.how == "concat" and row != out.shape[0]:
            raise ValueError(f"tensors {list(recipe.sources)} have {row} rows together; {out.shape[0]} were expected.")


def check_names(where: Path, stored: Iterable[str], recipes: Mapping[str, Recipe], ignored: Iterable[str]) -> None:
    """Raise ValueError when stored names are unknown or wanted ones missing, naming the first five."""
    stored = set(stored)
    wanted = {key for recipe in recipes.values() for key in recipe.sources}
    missing = sorted(wanted - stored)
    unknown = sorted(stored - wanted - set(ignored))
    if missing or unknown:
        parts = [
            f"{len(keys)} {word} tensors, first {', '.join(keys[:5])}"
            for word, keys in (("missing", missing), ("unknown", unknown))
            if keys
        ]
        raise ValueError(f"{where} does not fit its config.json: {'; '.join(parts)}. Fetch the whole model again.")


def _require_shape(recipe: Recipe, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise ValueError(
            f"tensor {recipe.sources[-1]} has shape {list(found)}, where config.json asks for {list(expected)}."
        )


def _files(folder: Path) -> Iterator[Path]:
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


def _open(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}): it is damaged or cut short, so fetch it again."
        ) from error
