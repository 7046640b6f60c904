"""Which models lie under a folder: model folders and single files, by their names and the kind in a config.json."""

from __future__ import annotations

import os
from pathlib import Path

from .files.settings import read_json
from .layouts.single_file import SUFFIX

MARKERS = ("config.json", "state_dict.bin")
"""A folder that holds one of these, or both, is one model: a layout of Hugging Face or of audiocraft."""


PARTS = ("t5", "mert_model", "encodec")
"""Kinds of models in a config.json that are no music models, but parts of them that lie apart."""


def is_model_folder(path: Path) -> bool:
    """Whether a folder looks like one model, and not like a part of models alone."""
    return any((path / name).is_file() for name in MARKERS) and not _is_part(path)


def _is_part(path: Path) -> bool:
    config, other = (path / name for name in MARKERS)
    try:
        return not other.is_file() and config.is_file() and read_json(config).values.get("model_type") in PARTS
    except (ValueError, OSError):  # loading it reports the fault
        return False


def find_models(root: Path) -> dict[str, Path]:
    """Every model below `root`: its path from there, with forward slashes, and its folder or file.

    The files in a model folder belong to that model, and a folder of a part such as T5 is none. Folders and
    files whose names begin with a dot are passed over, links to folders are followed unless they lead back to
    where they are reached from.
    """
    found: dict[str, Path] = {}
    _search(root, "", (os.path.realpath(root),), found)
    return dict(sorted(found.items(), key=lambda item: (item[0].casefold(), item[0])))


def _search(folder: Path, prefix: str, above: tuple[str, ...], found: dict[str, Path]) -> None:
    for path in _children(folder):
        name = prefix + path.name
        if path.is_dir():
            if is_model_folder(path):
                found[name] = path
            elif not _is_part(path) and (real := os.path.realpath(path)) not in above:
                _search(path, f"{name}/", (*above, real), found)
        elif path.suffix.lower() == SUFFIX and path.is_file():
            found[name] = path


def _children(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:  # not there, or not ours to read
        return []
