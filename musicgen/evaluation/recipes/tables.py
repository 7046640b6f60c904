"""From a recipe to its table: sample the pieces that are not there yet, and measure each row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ...audio import convert_channels
from ...conditioning.melody import extract_melody
from ...config import RELEASED_CHROMA
from ...model import MusicGen, load_model
from ...writing import write_file
from ..comparison import Options, evaluate
from ..folders.sounds import list_sounds, read_sound, write_sound
from ..measures import Ears
from ..report import Report
from .recipe import Recipe, Row

BATCH = 8
_ABOUT = "about.json"


@dataclass(frozen=True)
class Table:
    """The reports of a recipe's rows by name."""

    recipe: Recipe
    rows: dict[str, Report]

    def text(self) -> str:
        """Return the title and a Markdown table: a row of the recipe in each line, a figure in each column."""
        names = list(dict.fromkeys(figure.name for report in self.rows.values() for figure in report.figures))
        lines = [self.recipe.title, "", "| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for row, report in self.rows.items():
            figures = {figure.name: str(figure) for figure in report.figures}
            lines.append(f"| {row} | " + " | ".join(figures.get(name, "") for name in names) + " |")
        for row, report in self.rows.items():
            lines += [f"{row}: {sentence}" for sentence in (*report.notes, *report.bad)]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain numbers, for JSON."""
        rows = {name: report.as_dict() for name, report in self.rows.items()}
        return {"recipe": self.recipe.name, "title": self.recipe.title, "rows": rows}


def make_table(recipe: Recipe, folder: Path, ears: Ears, options: Options) -> Table:
    """Make the pieces of every row and measure them.

    Args:
        recipe: the recipe.
        folder: for the pieces, one folder a row; pieces of an earlier run of the same recipe stay.
        ears: the models to listen with. A row's own model is used where a measure needs a MusicGen model.
        options: of measuring; the recipe's measures replace theirs.

    Raises:
        FileNotFoundError: a model, weights or recordings are missing.
        ValueError: the pieces cannot be made or measured; one sentence says why.
    """
    rows: dict[str, Report] = {}
    loaded: dict[Path, MusicGen] = {}
    for row in recipe.rows:
        model = None
        if row.model is not None:
            if row.model not in loaded:
                loaded = {row.model: load_model(row.model, device=ears.device)}
            model = loaded[row.model]
        sounds = row.folder or folder / _name(row.name)
        if model is not None:
            make_pieces(recipe, row, model, sounds, options)
        own = ears if model is None or ears.model is not None else ears.with_model(model)
        rows[row.name] = _measured(recipe, sounds, own, replace(options, pattern=row.params.pattern))
    return Table(recipe, rows)


def _measured(recipe: Recipe, sounds: Path, ears: Ears, options: Options) -> Report:
    """Measure a row: chroma against the melodies where there are any, all else against the reference."""
    apart = [name for name in recipe.measures if name == "chroma" and recipe.melodies is not None]
    rest = [name for name in recipe.measures if name not in apart]
    reports = []
    if rest:
        reports.append(evaluate(recipe.reference, sounds, ears, replace(options, measures=rest)))
    if apart:
        reports.append(evaluate(recipe.melodies, sounds, ears, replace(options, measures=apart)))
    first = reports[0]
    figures = [figure for report in reports for figure in report.figures]
    files = {name: {key: v for each in reports for key, v in each.files[name].items()} for name in first.files}
    bad = list(dict.fromkeys(line for each in reports for line in each.bad))
    return Report(figures, files, bad, first.notes, first.counts)


def make_pieces(recipe: Recipe, row: Row, model: MusicGen, folder: Path, options: Options) -> None:
    """Sample the pieces of a row that are not there yet, each with its caption beside it.

    Raises:
        ValueError: the folder holds pieces of another recipe.
    """
    about = json.dumps({"row": row.name, "model": str(row.model), "params": asdict(row.params)}, sort_keys=True)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _ABOUT
    if path.is_file() and path.read_text(encoding="utf-8") != about:
        raise ValueError(f"{folder} holds pieces that were made otherwise; delete it, or choose another --out.")
    write_file(path, lambda file: file.write(about.encode()))
    many = len(recipe.seeds) > 1
    pieces = [
        ((folder / f"seed-{seed}" if many else folder) / f"{name}.wav", name, text, 1000 * seed + number)
        for seed in recipe.seeds
        for number, (name, text) in enumerate(recipe.captions)
    ]
    left = [piece for piece in pieces if not (piece[0].is_file() and piece[0].with_suffix(".txt").is_file())]
    melodies = _melodies(recipe, model)
    done = len(pieces) - len(left)
    for group in _groups(left):
        heard = None if melodies is None else [melodies(name) for _, name, _, _ in group]
        params = replace(row.params, seed=group[0][3])
        rate = RELEASED_CHROMA.sample_rate
        codes = model.generate([text for _, _, text, _ in group], params, melody=heard, melody_sample_rate=rate)
        for (target, _, text, _), item in zip(group, codes, strict=True):
            target.parent.mkdir(exist_ok=True)
            write_file(target.with_suffix(".txt"), partial(_write, text=text))
            write_sound(target, model.decode(item[None])[0], model.sample_rate)
            done += 1
            if options.on_file is not None:
                options.on_file(f"pieces of {row.name}", done, len(pieces))


def _groups(pieces: Sequence[tuple[Path, str, str, int]]) -> list[list[tuple[Path, str, str, int]]]:
    """Pieces whose seeds follow one another, a batch at a time."""
    groups: list[list[tuple[Path, str, str, int]]] = []
    for piece in pieces:
        if groups and len(groups[-1]) < BATCH and piece[3] == groups[-1][-1][3] + 1:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _melodies(recipe: Recipe, model: MusicGen) -> Any:
    """A function from a caption's name to its melody's waveform `[L]`; None where no melody is asked for."""
    if recipe.melodies is None or model.config.chroma is None:
        return None
    recordings = {path.stem: path for path in list_sounds(recipe.melodies)}
    lacking = [name for name, _ in recipe.captions if name not in recordings]
    if lacking:
        raise ValueError(
            f"{recipe.melodies} holds no recording for {len(lacking)} captions, first {lacking[0]}; name each after "
            "its caption's file."
        )

    def melody(name: str) -> Any:
        audio, rate = read_sound(recordings[name])
        return extract_melody(convert_channels(audio[None], 1)[0], rate).waveform

    return melody


def _write(file: BinaryIO, text: str) -> None:
    file.write(text.encode())


def _name(row: str) -> str:
    """A row's name as a folder's."""
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in row)
