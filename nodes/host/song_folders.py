"""Folders of songs to train on, and the places of their encodings, of interrupted trainings, and of saved LoRAs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath

import folder_paths

from ...musicgen.evaluation.folders.sounds import SUFFIXES
from ...musicgen.writing import Numbered
from .folders import numbered

FOLDER = "musicgen_songs"
"""The name under which extra_model_paths.yaml names further folders."""
BUNDLED = "bundled"
SONGS_MARK = "%songs%"
"""Stands for the name of the songs in the name of a saved LoRA."""

_BUNDLED_DIRECTORY = Path(__file__).resolve().parent.parent.parent / "songs"
_DEPTH, _NAMED, _KEPT = 4, 10, 8


def song_folders() -> dict[str, Path]:
    """Every folder with sounds: those that come with the pack, of the input folder, and of the user's own places."""
    found = {f"{BUNDLED}/{name}": path for name, path in _with_sounds(_BUNDLED_DIRECTORY).items() if name != "."}
    found |= _with_sounds(Path(folder_paths.get_input_directory()))
    for place in map(Path, _configured()):
        found |= {(place.name if name == "." else f"{place.name}/{name}"): p for name, p in _with_sounds(place).items()}
    return found


def resolve_songs(name: str | None) -> Path:
    """A name from a workflow -> the folder."""
    clean, known = str(PurePosixPath(str(name).replace("\\", "/"))), song_folders()
    if clean in known:
        return known[clean]
    first = ", ".join(list(known)[:_NAMED]) or "none"
    raise ValueError(
        f"songs is {name!r}, which is no folder with sounds in a place that ComfyUI may read; allowed are {first}. Put "
        f"a folder of songs into ComfyUI's input folder, or name its place as {FOLDER} in extra_model_paths.yaml, and "
        "press R."
    )


def songs_fingerprint(name: str) -> str:
    """Changes when a file of the folder does."""
    folder = resolve_songs(name)
    files = ((path.relative_to(folder).as_posix(), path.stat()) for path in sorted(folder.rglob("*")) if path.is_file())
    state = repr([(file, stat.st_mtime_ns, stat.st_size) for file, stat in files])
    return hashlib.sha256(f"{name} {state}".encode()).hexdigest()


def encodings_folder() -> Path:
    """Where the codes of songs are kept."""
    return Path(folder_paths.get_user_directory(), "musicgen", "encodings")


def training_file(digest: str) -> Path:
    """The checkpoint of a training; of others the latest few are kept."""
    folder = Path(folder_paths.get_user_directory(), "musicgen", "trainings")
    own = folder / f"{digest}.checkpoint"
    others = sorted(
        (path for path in folder.glob("*.checkpoint") if path != own), key=lambda path: path.stat().st_mtime
    )
    for path in others[: 1 - _KEPT]:
        path.unlink(missing_ok=True)
    return own


def new_lora(prefix: str, songs: str) -> Numbered:
    """The numbered name of a saved LoRA's folder, in the output folder."""
    safe = "".join(sign if sign.isalnum() or sign in " -_." else "_" for sign in songs).strip(". ") or "songs"
    return numbered(prefix.replace(SONGS_MARK, safe), "")


def lora_name(path: Path) -> str:
    """The name under which the LoRA loader lists a saved folder; another sentence where it does not."""
    for place in folder_paths.get_folder_paths("loras"):
        if path.is_relative_to(place):
            return path.relative_to(place).as_posix()
    return "move it into models/loras first"


def _configured() -> list[str]:
    known = folder_paths.folder_names_and_paths
    return list(folder_paths.get_folder_paths(FOLDER)) if FOLDER in known else []


def _with_sounds(root: Path) -> dict[str, Path]:
    """The folders from `root` on that hold sounds themselves, by their path from it; "." is the root."""
    found: dict[str, Path] = {}
    for place, folders, files in os.walk(root, followlinks=True):
        inner = Path(place).relative_to(root)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if len(inner.parts) >= _DEPTH:
            folders.clear()
        if any(PurePosixPath(file).suffix.lower() in SUFFIXES and not file.startswith(".") for file in files):
            found[inner.as_posix()] = Path(place)
    return found
