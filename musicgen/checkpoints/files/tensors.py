"""Tensors of a checkpoint by name: where each lies in which file, and how parameters are made of them.

Nothing is read until a parameter is made, and then straight into its memory or through one small
buffer: the file is opened once and not mapped. Which formats there are is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from .opened import OpenedFile

READABLE = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class TensorRecord:
    """A stored tensor: little-endian values of `dtype` from byte `offset` of a file on.

    stride: in values, as in torch; None where the values lie in order.
    """

    file: OpenedFile
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None = None

    @property
    def path(self) -> Path:
        """The file's name, for messages."""
        return self.file.path

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, first: int, last: int) -> TensorRecord:
        """The record of the rows `first` to `last` (not included) alone."""
        step = self.stride[0] if self.stride else math.prod(self.shape[1:])
        offset = self.offset + first * step * self.dtype.itemsize
        return replace(self, offset=offset, shape=(last - first, *self.shape[1:]))

    def read_into(self, out: Tensor, name: str, *, exact: bool = False) -> bool:
        """Fill a contiguous tensor of the same shape, converting to its dtype and device.

        exact: give up at the first number that its dtype cannot hold; returns whether all are there.
        Raises ValueError when the file ends early, or holds no finite floating-point numbers.
        """
        if self.dtype not in READABLE:
            raise ValueError(
                f"{self.path}: tensor {name} is stored as {_short(self.dtype)}; this pack reads "
                f"{', '.join(map(_short, READABLE))}, so fetch the model in one of these."
            )
        if not out.numel():
            return True
        if self.stride is None:
            return self._fill(out.view(-1), name, exact)
        extent = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        scattered = torch.empty(extent, dtype=self.dtype)
        self._fill(scattered, name)
        ordered = scattered.as_strided(self.shape, self.stride)
        out.copy_(ordered)
        return not exact or _equal(ordered, out)

    def read(self, name: str) -> Tensor:
        """The values in the format that they are stored in, unchecked. Raises ValueError if the file ends early."""
        extent = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride or (), strict=False))
        flat = torch.empty(math.prod(self.shape) if self.stride is None else extent, dtype=self.dtype)
        self._fill(flat, name, check=False)
        return flat.view(self.shape) if self.stride is None else flat.as_strided(self.shape, self.stride).contiguous()

    def _fill(self, flat: Tensor, name: str, exact: bool = False, check: bool = True) -> bool:
        step = _BUFFER_BYTES // self.dtype.itemsize
        on_cpu = flat.device.type == "cpu"
        direct = on_cpu and flat.dtype == self.dtype
        buffer = None if direct else torch.empty(min(step, flat.numel()), dtype=self.dtype)
        offset = self.offset
        for part in flat.split(step):
            raw = part if buffer is None else buffer[: part.numel()]
            self.file.read_into(offset, raw.view(torch.uint8).numpy().data)
            offset += raw.nbytes
            made = part if on_cpu else torch.empty_like(part, device="cpu")
            if not direct:
                # From one half precision to the other, torch is three times faster by way of the full one.
                made.copy_(raw.float() if raw.dtype.itemsize == made.dtype.itemsize == 2 else raw)
            if exact and not (direct or _equal(raw, made)):
                return False
            if check:
                self._check_finite(raw, made, name)
            if made is not part:
                part.copy_(made)
        return True

    def _check_finite(self, raw: Tensor, made: Tensor, name: str) -> None:
        if _is_finite(made):
            return
        if _is_finite(raw):
            raise ValueError(
                f"{self.path}: tensor {name} has numbers too large for {_short(made.dtype)}; "
                "load the model in float32 or bfloat16."
            )
        raise ValueError(f"{self.path}: tensor {name} holds numbers that are not finite; fetch the file again.")


def _equal(stored: Tensor, made: Tensor) -> bool:
    wide = torch.promote_types(stored.dtype, torch.float32)
    return torch.equal(stored.to(wide), made.to(wide))


def _is_finite(numbers: Tensor) -> bool:
    # A sum is finite only if every number is, and takes a twentieth of the time of looking at each.
    return math.isfinite(numbers.sum().item()) or bool(torch.isfinite(numbers).all())


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Recipe:
    """How one parameter is made: `copy` of one tensor, `concat` along the first dimension, or
    `weight_norm` of a magnitude and a direction (Salimans and Kingma 2016).

    share: of a copy, the part (first, last, of) of the source's rows: (1, 3, 3) is the last two thirds.
    """

    how: Literal["copy", "concat", "weight_norm"]
    sources: tuple[str, ...]
    share: tuple[int, int, int] = (0, 1, 1)

    def source_shapes(self, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """The shape that each source must have to make a parameter of `shape`."""
        if self.how == "weight_norm":
            magnitude, direction = self.sources
            return {magnitude: (shape[0], *[1] * (len(shape) - 1)), direction: tuple(shape)}
        if self.how == "copy":
            first, last, of = self.share
            rows = tuple(n * of // (last - first) for n in shape[:1])
            return {self.sources[0]: (*rows, *shape[1:])}
        return {key: (shape[0] // len(self.sources), *shape[1:]) for key in self.sources}


class StoredTensors:
    """The tensors of one or several files by name.

    where: their name in messages.
    """

    def __init__(self, where: Path, records: Mapping[str, TensorRecord]) -> None:
        self.where = where
        self.records = dict(records)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all stored tensors."""
        return {key: record.shape for key, record in self.records.items()}

    def check(self, wanted: Iterable[tuple[Recipe, Sequence[int]]], ignored: Iterable[str]) -> None:
        """Hold the stored tensors against all that is to be made of them, before memory is taken.

        wanted: recipes and the shapes of their parameters. Raises ValueError as :func:`check_tensors`
        does, and when tensors share so many bytes that they would take more memory than their files.
        """
        wanted = list(wanted)
        check_tensors(self.where, self.shapes(), wanted, ignored)
        names = {name for recipe, _ in wanted for name in recipe.sources}
        needed = sum(self.records[name].nbytes for name in names)
        # One tensor is legitimately there twice: T5's embedding, which has two names.
        largest = max((self.records[name].nbytes for name in names), default=0)
        size = sum(file.size for file in {self.records[name].file for name in names})
        if needed - largest > size:
            raise ValueError(
                f"{self.where}: {needed} bytes of tensors are named, but its files have {size} bytes; "
                "it is damaged, so fetch it again."
            )

    def require_unchanged(self) -> None:
        """Raise ValueError where one of the files was replaced or written to since it was opened."""
        for file in {record.file for record in self.records.values()}:
            file.require_unchanged()

    def make(self, recipe: Recipe, out: Tensor, *, exact: bool = False) -> bool:
        """Fill `out` by a recipe, one stored tensor at a time, converting to its dtype and device.

        exact: as :meth:`TensorRecord.read_into` has it, for all but weight norms.
        """
        if recipe.how == "weight_norm":
            magnitude, direction = (self._whole(name) for name in recipe.sources)
            made = torch._weight_norm(direction, magnitude, 0)
            if not _is_finite(made):
                raise ValueError(f"{self.where}: {recipe.sources[1]} has no direction; fetch the file again.")
            out.copy_(made)
            return True
        if recipe.how == "copy":
            record, (first, last, of) = self.records[recipe.sources[0]], recipe.share
            if of > 1:
                record = record.rows(record.shape[0] * first // of, record.shape[0] * last // of)
            return record.read_into(out, recipe.sources[0], exact=exact)
        parts = zip(recipe.sources, out.chunk(len(recipe.sources)), strict=True)
        return all(self.records[name].read_into(part, name, exact=exact) for name, part in parts)

    def _whole(self, name: str) -> Tensor:
        tensor = torch.empty(self.records[name].shape, dtype=torch.float32)
        self.records[name].read_into(tensor, name)
        return tensor


def _legible(name: str) -> str:
    return name if name.isprintable() and len(name) <= 200 else f"{name!r:.200}"


def check_tensors(
    where: Path,
    stored: Mapping[str, tuple[int, ...]],
    wanted: Iterable[tuple[Recipe, Sequence[int]]],
    ignored: Iterable[str],
) -> None:
    """Hold stored names and shapes against recipes and the shapes of the parameters that they make.

    Raises ValueError when a stored tensor is unknown or a wanted one is missing or of another
    shape, naming the first five of each.
    """
    expected: dict[str, tuple[int, ...]] = {}
    for recipe, shape in wanted:
        expected |= recipe.source_shapes(shape)
    faults = {
        "missing": sorted(expected.keys() - stored.keys()),
        "unknown": [_legible(key) for key in sorted(stored.keys() - expected.keys() - set(ignored))],
        "misshaped": [
            f"{key} {list(stored[key])} instead of {list(shape)}"
            for key, shape in sorted(expected.items())
            if key in stored and stored[key] != shape
        ],
    }
    parts = [f"{len(found)} {fault} tensors, first {', '.join(found[:5])}" for fault, found in faults.items() if found]
    if parts:
        raise ValueError(f"{where} does not fit its configuration: {'; '.join(parts)}. Fetch the whole model again.")
