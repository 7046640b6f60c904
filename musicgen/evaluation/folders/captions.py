"""Captions of sounds: a text file of the same name, or one list as JSONL, CSV or TSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_LISTS = ("captions.jsonl", "captions.csv", "captions.tsv")
_CAPTION = ("caption", "description", "text")
_FILE = ("file", "file_name", "filename", "path", "ytid", "id")


def read_captions(folder: Path, sounds: Sequence[Path], listed: Path | None = None) -> dict[Path, str]:
    """Return the captions of a folder's sounds; a sound without one is left out.

    Args:
        folder: the folder, which may hold captions.jsonl, captions.csv or captions.tsv.
        sounds: files in it.
        listed: a list with a `file` and a `caption` for each line, in place of the folder's own.

    Raises:
        FileNotFoundError: the list does not exist.
        ValueError: the list is damaged, or names none of the sounds.
    """
    own = next((folder / name for name in _LISTS if (folder / name).is_file()), None)
    path = own if listed is None else listed
    if path is None:
        return {sound: text for sound in sounds if (text := _beside(sound)) is not None}
    named = {name: caption for name, caption in read_list(path) if name is not None}
    found: dict[Path, str] = {}
    for sound in sounds:
        names = (sound.relative_to(folder).as_posix(), sound.name, sound.stem)
        caption = next((named[name] for name in names if name in named), None)
        if caption is not None:
            found[sound] = caption
    if sounds and not found:
        raise ValueError(
            f"{path} names {len(named)} files, first {_first(named)}, and none of the {len(sounds)} in {folder}, first "
            f"{sounds[0].name!r}; name each by its file name in the column `file`."
        )
    return found


def read_list(path: Path) -> list[tuple[str | None, str]]:
    """Return the file name, or None without one, and the caption of each line of a list.

    A `.txt` has one caption a line. JSONL, CSV and TSV have a `caption`, and may name a `file` (or MusicCaps' `ytid`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, a damaged one, or one without captions.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a list of captions as .txt, .jsonl, .csv or .tsv.")
    kind = path.suffix.lower()
    if kind not in (".txt", ".jsonl", ".csv", ".tsv"):
        raise ValueError(f"{path} ends in {kind!r}; allowed for a list of captions are .txt, .jsonl, .csv and .tsv.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if kind == ".txt":
            lines: list[tuple[str | None, str]] = [(None, line.strip()) for line in text.splitlines() if line.strip()]
        elif kind == ".jsonl":
            lines = _entries((json.loads(line) for line in text.splitlines() if line.strip()), path)
        else:
            reader = csv.DictReader(text.splitlines(keepends=True), delimiter="," if kind == ".csv" else "\t")
            lines = _entries(reader, path)
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no {kind} in UTF-8 ({error}); save the list again.") from error
    if not lines:
        raise ValueError(f"{path} holds no caption; give one a line.")
    return lines


def _entries(rows: Iterable[Any], path: Path) -> list[tuple[str | None, str]]:
    found: list[tuple[str | None, str]] = []
    for number, row in enumerate(rows, start=1):
        caption = _field(row, _CAPTION) if isinstance(row, Mapping) else None
        if caption is None:
            keys = ", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
            raise ValueError(f"{path}: entry {number} has {keys}; allowed is an entry with a `caption` and a `file`.")
        found.append((_field(row, _FILE), caption))
    return found


def _field(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    value = next((row[name] for name in names if row.get(name)), None)
    return None if value is None else str(value).strip()


def _beside(sound: Path) -> str | None:
    path = sound.with_suffix(".txt")
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}); save the caption again.") from error


def _first(named: Mapping[str, str]) -> str:
    return repr(next(iter(named), ""))[:80]
