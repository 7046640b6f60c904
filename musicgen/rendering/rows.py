"""The rows of a catalogue file, JSONL or CSV, with their columns read and every fault listed. Models are not asked.

A catalogue has one row for each piece, or for several pieces that differ in their seed. Columns that rendering does
not know are kept for the manifest.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..audio import shown
from ..generation.params import GenerationParams
from ..generation.patterns import PATTERN_NAMES
from .pieces import LEVELS
from .sounds import FORMATS

DTYPES = ("auto", "fp32", "bf16", "fp16", "int8")
NUMBERS = ("cfg_coef", "temperature", "top_k", "top_p", "window", "extend_stride", "cfg_coef_beta")
"""Columns that are numbers of GenerationParams."""
_MOST_SEEDS = 100_000
_LAST_SEED = 2**64 - 1
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}")


@dataclass(frozen=True)
class Fault:
    """A bad value of a row."""

    line: int
    column: str
    value: Any
    allowed: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.column} is {shown(self.value)}; allowed is {self.allowed}."


@dataclass(frozen=True)
class Row:
    """The good values of one row by column, those that rendering does not know apart.

    bad: whether there were others, so that no piece may be made of it.
    """

    line: int
    values: Mapping[str, Any]
    columns: Mapping[str, Any] = field(default_factory=dict)
    bad: bool = False

    def pieces(self, name: str) -> list[tuple[str, int]]:
        """Return the name and the seed of each piece of this row, whose own name is given."""
        seed, count = self.values.get("seed", 0), self.values.get("seeds", 1)
        return [(name if count == 1 else f"{name}-{seed + number}", seed + number) for number in range(count)]


class _RefusedError(ValueError):
    """A value that a column does not take; the message says which values it takes."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _RefusedError("a text")
    return value


def _id(value: Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise _RefusedError("1 to 120 letters, digits, '.', '_' and '-', beginning with no '.' or '-'")
    return text


def _number(value: Any) -> float:
    """The number in a cell, NaN if there is none."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise _RefusedError(f"a whole number from {low} to {high}")
        return number

    return read


def _one_of(names: tuple[str, ...]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in names:
            raise _RefusedError(f"one of {', '.join(names)}")
        return str(value)

    return read


def _param(name: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number = _number(value)
        try:
            GenerationParams(**{"duration": 1.0, name: number})  # type: ignore[arg-type]
        except ValueError as error:
            allowed = str(error).partition("allowed is ")[2].rstrip(".")
            raise _RefusedError(allowed if allowed.startswith("a ") else f"a number {allowed}") from None
        return number

    return read


def _level(value: Any) -> str | float:
    if isinstance(value, str) and value in LEVELS:
        return value
    number = _number(value)
    if not -60.0 <= number <= 0.0:
        raise _RefusedError(f"{', '.join(LEVELS)}, or a loudness from -60 to 0 LUFS")
    return number


def _loras(value: Any) -> tuple[tuple[str, float], ...]:
    """A text `one.safetensors:0.8; two`, or a list of paths and of pairs of a path and a strength."""
    items = [part.strip() for part in value.split(";") if part.strip()] if isinstance(value, str) else value
    found = []
    for item in items if isinstance(items, list) else [None]:
        path, strength = item, 1.0
        if isinstance(item, list | tuple) and len(item) == 2:
            path, strength = item
        elif isinstance(item, str) and re.fullmatch(r".+:\s*[-+]?[0-9.]+", item):
            path, _, text = item.rpartition(":")
            strength = float(text) if text.strip(" +-.").replace(".", "", 1).isdigit() else None  # type: ignore[assignment]
        if not isinstance(path, str) or isinstance(strength, bool) or not isinstance(strength, int | float):
            raise _RefusedError("paths with a strength, such as jazz.safetensors:0.8, with ';' between them")
        found.append((path.strip(), float(strength)))
    return tuple(found)


COLUMNS: dict[str, Callable[[Any], Any]] = {
    "id": _id,
    "description": _text,
    "duration": _param("duration"),
    "seed": _whole(0, _LAST_SEED),
    "seeds": _whole(1, _MOST_SEEDS),
    "negative": _text,
    "melody": _text,
    "prompt": _text,
    "style": _text,
    "pattern": _one_of(tuple(PATTERN_NAMES)),
    "model": _text,
    "dtype": _one_of(DTYPES),
    "loras": _loras,
    "level": _level,
    "format": _one_of(FORMATS),
    **{name: _param(name) for name in NUMBERS},
    "top_k": _whole(0, 2**31 - 1),
}
"""Every column that rendering knows, and the function that reads its value."""


def read_rows(
    path: str | Path, defaults: Mapping[str, Any] | None = None, required: Sequence[str] = ("model", "duration")
) -> tuple[list[Row], list[Fault]]:
    """Read a catalogue file, JSONL (`.jsonl`, `.ndjson`, `.json`) or CSV (`.csv`), and list every fault in it.

    Args:
        path: the file, in UTF-8.
        defaults: values for columns that a row leaves out or empty.
        required: columns that every row needs.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of no known kind, or not in UTF-8; or a default is not allowed.
    """
    path = Path(path)
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _jsonl, ".csv": _csv}
    if path.suffix.lower() not in readers:
        raise ValueError(f"the catalogue is {path.name!r}; allowed are files that end in {', '.join(readers)}.")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the path of a catalogue, a JSONL or a CSV file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8 (byte {error.start}); save it as UTF-8.") from error
    given = {}
    for name, value in (defaults or {}).items():
        try:
            given[name] = COLUMNS[name](value)
        except _RefusedError as error:
            raise ValueError(f"{name} is {shown(value)}; allowed is {error}.") from None
    rows, faults = [], []
    for line, cells in readers[path.suffix.lower()](text):
        if isinstance(cells, Fault):
            faults.append(cells)
            continue
        row, wrong = _row(line, cells, given, required)
        faults += wrong
        rows.append(row)
    return rows, faults


def _jsonl(text: str) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    for line, part in enumerate(text.split("\n"), start=1):
        if not part.strip():
            continue
        try:
            cells = json.loads(part)
        except ValueError:
            cells = None
        yield line, cells if isinstance(cells, dict) else Fault(line, "row", part.strip(), "one JSON object on a line")


def _csv(text: str) -> Iterator[tuple[int, dict[str, Any] | Fault]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    names = [name.strip() for name in next(reader, [])]
    for double in {name for name in names if names.count(name) > 1}:
        yield 1, Fault(1, "header", double, "one column of each name")
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield first, Fault(first, "row", str(error), "a line of CSV")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            yield first, Fault(first, "row", ",".join(cells), f"{len(names)} cells, as many as the header has")
            continue
        yield first, dict(zip(names, cells, strict=True))


def _row(
    line: int, cells: Mapping[str, Any], defaults: Mapping[str, Any], required: Sequence[str]
) -> tuple[Row, list[Fault]]:
    values, columns, faults = dict(defaults), {}, []
    for name, value in cells.items():
        if name not in COLUMNS:
            columns[name] = value
        elif value is not None and value != "":
            try:
                values[name] = COLUMNS[name](value)
            except _RefusedError as error:
                faults.append(Fault(line, name, value, str(error)))
    for name in required:
        if name not in values and not any(fault.column == name for fault in faults):
            faults.append(Fault(line, name, None, "a value in this column, or one for all rows as a default"))
    return Row(line, values, columns, bad=bool(faults)), faults


def read_pieces(path: Path, duration: float) -> list[tuple[str, str, float, int, str, str]]:
    """Return the pieces of a catalogue that a graph renders: description, negative, duration, seed, name, columns.

    A name is the catalogue's and the piece's id, with a slash between them; the columns are those that rendering does
    not know, as JSON.

    Args:
        path: the catalogue.
        duration: seconds of the pieces whose row has no duration.

    Raises:
        ValueError: rows are bad; the message lists every fault. Or the catalogue has no rows.
    """
    rows, faults = read_rows(path, {"duration": duration}, required=())
    if faults:
        raise ValueError(f"{path.name} has {len(faults)} faults: {' '.join(map(str, faults))}")
    if not rows:
        raise ValueError(f"{path.name} has no rows; allowed is at least one row, such as one with a description.")
    return [
        (
            row.values.get("description", ""),
            row.values.get("negative", ""),
            row.values["duration"],
            seed,
            f"{path.stem}/{name}",
            json.dumps(dict(row.columns), ensure_ascii=False),
        )
        for row in rows
        for name, seed in row.pieces(row.values.get("id") or f"row-{row.line}")
    ]
