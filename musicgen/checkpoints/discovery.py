"""Which models lie under a folder: model folders and single files, by their names. Nothing is opened."""

from __future__ import annotations

import os
from pathlib import Path

from .single_file import SUFFIX

MARKERS = ("config.json", "state_dict.bin")
"""A folder that holds one of these, or both, is one model: a layout of Hugging Face or of audiocraft."""


def is_model_folder(path: Path) -> bool:
    """Whether a folder looks like one model."""
    return any((path / name).is_file() for name in MARKERS)


def find_models(root: Path) -> dict[str, Path]:
    """Every model below `root`: its path from there, with forward slashes, and its folder or file.

    What lies in a model folder belongs to that model. Folders and files whose names begin with a dot are
    passed over, links to folders are followed unless they lead back to where they are reached from.
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
            elif (real := os.path.realpath(path)) not in above:
                _search(path, f"{name}/", (*above, real), found)
        elif path.suffix.lower() == SUFFIX and path.is_file():
            found[name] = path


def _children(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:  # not there, or not ours to read
        return []
