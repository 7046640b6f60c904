"""A recipe file: which pieces to make, from which captions, and which measures make the columns of the table.

JSON, or TOML where Python is 3.11 or newer. A value in braces, such as `{model}`, is asked of the user.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...generation.params import GenerationParams
from ...generation.patterns import PATTERN_NAMES
from ..folders.captions import read_list
from ..measures import parse_measure

RECIPES = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.json"))}
"""The recipes in the box by name."""
_HOLE = re.compile(r"\{(\w+)\}")
_FIELDS = {
    "title",
    "needs",
    "measures",
    "captions",
    "reference",
    "count",
    "seeds",
    "seconds",
    "params",
    "rows",
    "melodies",
}
_ROW_FIELDS = {"name", "model", "pattern", "params", "dtype"}


@dataclass(frozen=True)
class Row:
    """One row of the table: a model and how to sample from it. folder: sounds that are there already, in its place."""

    name: str
    params: GenerationParams
    model: Path | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Recipe:
    """All that makes a table.

    Attributes:
        name: of the recipe.
        title: a line above the table.
        measures: the columns.
        captions: file name and text of each piece.
        reference: a folder or an `.npz` file; None for measures without one.
        melodies: a folder with a recording for each caption's file, for melody models.
        seeds: each caption is sampled with each seed.
        rows: of the table.
    """

    name: str
    title: str
    measures: tuple[str, ...]
    captions: tuple[tuple[str, str], ...]
    reference: Path | None
    melodies: Path | None
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]


def read_recipe(name: str | Path, values: Mapping[str, str]) -> Recipe:
    """Return a recipe with its holes filled.

    Args:
        name: of a recipe in the box, or the path of a `.json` or `.toml` file.
        values: for the holes.

    Raises:
        FileNotFoundError: there is no such recipe, or its list of captions is missing.
        ValueError: a hole has no value, or a field is unknown or out of range; the sentence names it.
    """
    path = RECIPES.get(str(name), Path(name))
    table = _table(path)
    _require(path, table, _FIELDS, ("measures", "captions", "rows", "seconds"))
    needs = table.get("needs", {})
    holes = sorted(set(_HOLE.findall(json.dumps(table))))
    missing = [hole for hole in holes if hole not in values]
    if missing:
        told = "; ".join(f"{hole}: {needs.get(hole, 'no description')}" for hole in missing)
        raise ValueError(f"recipe {path.stem} needs {told}. Give each as --set {missing[0]}=VALUE.")
    if unknown := sorted(values.keys() - set(holes)):
        raise ValueError(f"recipe {path.stem} asks for {', '.join(holes) or 'nothing'}, not for {unknown[0]}.")
    filled = _filled({key: value for key, value in table.items() if key != "needs"}, values)
    for measure in filled["measures"]:
        parse_measure(measure)
    base = GenerationParams(duration=float(filled["seconds"]), **_params(path, filled.get("params", {})))
    rows = tuple(_row(path, row, base) for row in filled["rows"])
    if len({row.name for row in rows}) != len(rows) or not rows:
        raise ValueError(f"recipe {path.stem} has {len(rows)} rows; each needs a name of its own.")
    return Recipe(
        name=path.stem,
        title=str(filled.get("title", path.stem)),
        measures=tuple(filled["measures"]),
        captions=_captions(filled["captions"], int(filled.get("count", 0))),
        reference=Path(filled["reference"]) if filled.get("reference") else None,
        melodies=Path(filled["melodies"]) if filled.get("melodies") else None,
        seeds=tuple(int(seed) for seed in filled.get("seeds", [0])),
        rows=rows,
    )


def _table(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"recipe {path} does not exist; allowed are {', '.join(RECIPES)}, or a file.")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".toml":
            if sys.version_info < (3, 11):
                raise ValueError("TOML needs Python 3.11, so write the recipe as JSON")
            table: Any = importlib.import_module("tomllib").loads(text)
        else:
            table = json.loads(text)
    except ValueError as error:
        raise ValueError(f"recipe {path} cannot be read ({error}); mend the file.") from error
    if not isinstance(table, dict):
        raise ValueError(f"recipe {path} is a {type(table).__name__}; allowed is a table of fields.")
    return table


def _require(path: Path, table: Mapping[str, Any], allowed: set[str], needed: tuple[str, ...]) -> None:
    unknown, missing = sorted(table.keys() - allowed), [name for name in needed if name not in table]
    if unknown or missing:
        fault = f"the unknown field {unknown[0]}" if unknown else f"no field {missing[0]}"
        raise ValueError(f"recipe {path.name} has {fault}; allowed are {', '.join(sorted(allowed))}.")


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _HOLE.sub(lambda hole: values[hole[1]], value)
    if isinstance(value, list):
        return [_filled(each, values) for each in value]
    if isinstance(value, dict):
        return {key: _filled(each, values) for key, each in value.items()}
    return value


def _params(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    allowed = {each.name for each in fields(GenerationParams)} - {"duration", "seed"}
    if unknown := sorted(given.keys() - allowed):
        raise ValueError(
            f"recipe {path.name} has the parameter {unknown[0]}; allowed are {', '.join(sorted(allowed))}."
        )
    return dict(given)


def _row(path: Path, row: Mapping[str, Any], base: GenerationParams) -> Row:
    _require(path, row, _ROW_FIELDS | {"folder"}, ("name",))
    if ("model" in row) == ("folder" in row):
        raise ValueError(f"row {row['name']} of recipe {path.name} needs a model, or a folder of sounds, and not both.")
    pattern = row.get("pattern", base.pattern)
    if pattern is not None and pattern not in PATTERN_NAMES:
        raise ValueError(f"row {row['name']} has the pattern {pattern!r}; allowed are {', '.join(PATTERN_NAMES)}.")
    params = replace(base, pattern=pattern, **_params(path, row.get("params", {})))
    model, folder = (Path(row[key]) if key in row else None for key in ("model", "folder"))
    return Row(str(row["name"]), params, model, folder)


def _captions(given: Any, count: int) -> tuple[tuple[str, str], ...]:
    """Names and texts of the pieces: a list of texts, a file, or a folder of `.txt` files."""
    if isinstance(given, str) and Path(given).is_dir():
        beside = sorted(Path(given).glob("*.txt"))
        found = [(path.stem, path.read_text(encoding="utf-8-sig").strip()) for path in beside]
        if not found:
            raise ValueError(f"{given} holds no .txt file; put a caption beside each sound, or give a list.")
    elif isinstance(given, str):
        entries = read_list(Path(given))
        found = [(Path(name).stem if name else f"{number:05}", text) for number, (name, text) in enumerate(entries)]
    else:
        found = [(f"{number:05}", str(text)) for number, text in enumerate(given)]
    return tuple(found[:count] if count else found)
