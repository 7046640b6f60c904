"""Folders and names: models, LoRAs, downloads and saved files, as ComfyUI's `folder_paths` knows them.

A workflow holds a model's name. This file turns the name into a path, and lists the names that a combo offers.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import comfy.cli_args
import comfy.utils
import folder_paths
import yaml

from ...musicgen import codes_file
from ...musicgen.checkpoints.discovery import find_models, is_model_folder
from ...musicgen.hub.download import DownloadProgress, fetch
from ...musicgen.hub.releases import RELEASES, Release, find_release, named_release
from ...musicgen.lora.family import may_fit
from ...musicgen.notation.midi_reader import SUFFIXES as MIDI_SUFFIXES
from ...musicgen.writing import Numbered
from .progress import check_interrupt, show

FOLDER = "musicgen"
LORA_FOLDER = "loras"
TOKEN_FOLDER = "tokens"
CATALOGUE_SUFFIXES = (".csv", ".jsonl", ".ndjson")
BUNDLED = "bundled"
DEFAULT_MODEL = "bundled/musicgen-nano"

_BUNDLED_DIRECTORY = Path(__file__).resolve().parent.parent.parent / "models"
_CONFIG = "config.json"
_NAMED, _SHOWN = 10, 80
_PEFT_FILE, _PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_EXTENSIONS = {".safetensors", ".bin", ".json"}


def register_model_folder() -> None:
    """Add `models/musicgen`, and `output/musicgen` where models are saved, as core does for its checkpoints.
    Paths that the user configured before stay, and stay in front."""
    for parent in (folder_paths.models_dir, folder_paths.get_output_directory()):
        folder_paths.add_model_folder_path(FOLDER, os.path.join(parent, FOLDER))
    paths, extensions = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, set(extensions) | _EXTENSIONS)


def models() -> dict[str, Path]:
    """Every model's name as the loader shows it, and its folder or file; the bundled ones first."""
    found = {f"{BUNDLED}/{path.parent.name}": path.parent for path in sorted(_BUNDLED_DIRECTORY.glob(f"*/{_CONFIG}"))}
    for root in folder_paths.get_folder_paths(FOLDER):
        for name, path in find_models(Path(root)).items():
            found.setdefault(name, path)
    return found


def choices() -> list[str]:
    """The choices of the loader: every model, then every release that is not there yet."""
    known = models()
    return [*known, *(release.label for release in RELEASES if release.name not in known)]


def resolve_model(name: str | None) -> tuple[str, Path]:
    """A name from a workflow -> the name as it is shown, and the model's folder or file.

    Backslashes from Windows, another case, and the repository of a release that is here are understood. For a
    download that was not made yet it is the folder that the model will have.
    """
    if not isinstance(name, str):
        raise ValueError(f"model is {name}; allowed is the name of a model, such as {DEFAULT_MODEL!r}.")
    known = models()
    if release := find_release(name):
        return release.name, known.get(release.name, _download_folder() / release.name)
    release = named_release(name)
    clean = PurePosixPath(name.replace("\\", "/"))
    alike = [model for model in known if model.casefold() == str(clean).casefold()]
    for candidate in (name, str(clean), *(alike if len(alike) == 1 else ()), release and release.name):
        if candidate in known:
            return candidate, known[candidate]
    if release is not None:
        raise ValueError(f"model is {name!r}, which is not here yet; choose {release.label!r} to download it.")
    if clean.is_absolute() or ".." in clean.parts or ":" in name:
        raise ValueError(
            f"model is {name!r}, a path outside the models folder; put the model's folder into models/musicgen "
            "(or name its place in extra_model_paths.yaml) and choose it by its name."
        )
    raise ValueError(
        f"model is {name!r}, which does not exist; allowed are {', '.join(alike or known) or 'none'}. "
        "Put a folder with a config.json, or a single file, into models/musicgen to add one."
    )


def search_folders() -> list[Path]:
    """The folders to search for the parts that a model needs and does not hold: T5, EnCodec, MERT."""
    kinds = (FOLDER, "text_encoders", "audio_encoders")
    return [Path(path) for kind in kinds for path in folder_paths.get_folder_paths(kind)]


def audio_encoder_folders() -> list[str]:
    """The folders of models that listen: CLAP, MERT, VGGish."""
    return list(folder_paths.get_folder_paths("audio_encoders"))


def model_fingerprint(name: str) -> str:
    """Changes when a file of the model does, or the content of a folder that is searched for its parts.
    ComfyUI writes it into saved files, so it holds no paths."""
    path = resolve_model(name)[1]
    inside = path.rglob("*") if path.is_dir() else [path]
    beside = [] if path.is_dir() else [inner.name for inner in path.parent.iterdir() if inner.is_dir()]
    others = sorted(name for name in beside if not is_model_folder(path.parent / name))
    apart = [folder.stat().st_mtime_ns for folder in search_folders() if folder.is_dir() and folder.name != FOLDER]
    return _file_fingerprint(path, sorted(inside), [*others, *apart])


def _file_fingerprint(path: Path, files: list[Path], apart: list[Any]) -> str:
    stats = ((str(file), file.stat()) for file in files if file.is_file())
    state = repr((str(path), [(file, stat.st_mtime_ns, stat.st_size) for file, stat in stats], apart))
    return hashlib.sha256(state.encode()).hexdigest()


def loras() -> dict[str, Path]:
    """Every LoRA's name as the LoRA loader shows it, and its file; a folder that PEFT saved is one entry."""
    found: dict[str, Path] = {}
    for file in folder_paths.get_filename_list(LORA_FOLDER):
        name, path = PurePosixPath(file.replace("\\", "/")), folder_paths.get_full_path(LORA_FOLDER, file)
        if name.suffix == ".safetensors" and path is not None:
            from_peft = name.name == _PEFT_FILE and len(name.parts) > 1 and Path(path).with_name(_PEFT_CONFIG).is_file()
            found[str(name.parent if from_peft else name)] = Path(path).parent if from_peft else Path(path)
    return found


def fitting_loras() -> list[str]:
    """The names of the LoRAs that may be for MusicGen, as far as their headers tell, in order."""
    return sorted(name for name, path in loras().items() if path.exists() and _may_fit(path, path.stat().st_mtime_ns))


@lru_cache(maxsize=4096)
def _may_fit(path: Path, _changed: int) -> bool:
    return may_fit(path / _PEFT_FILE if path.is_dir() else path)


def resolve_lora(name: str | None) -> tuple[str, Path]:
    """A name from a workflow -> the name with forward slashes, and the LoRA's file or folder."""
    if not isinstance(name, str):
        raise ValueError(f"lora is {name}; allowed is the name of a file or folder in models/loras.")
    clean, known = str(PurePosixPath(name.replace("\\", "/"))), loras()
    if clean not in known:
        first = ", ".join(list(known)[:_NAMED]) or "none"
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        raise ValueError(
            f"lora is {name!r}, which does not exist; allowed are {first}{more}. Put a .safetensors file, or a folder "
            "that PEFT saved, into models/loras to add one."
        )
    return clean, known[clean]


def lora_fingerprint(name: str) -> str:
    """Changes when a file of the LoRA does."""
    path = resolve_lora(name)[1]
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return _file_fingerprint(path, files, [])


def model_name(path: Path) -> str:
    """The name under which the loader shows a folder or file."""
    names = [name for name, found in models().items() if found == path]
    return names[0] if names else "move it into models/musicgen first"


def _download_folder() -> Path:
    """The folder for downloads: the user's default one where extra_model_paths names it, else `models/musicgen`."""
    if any(_is_default(Path(path)) for path in _extra_paths_files()):
        return Path(folder_paths.get_folder_paths(FOLDER)[0])
    return Path(folder_paths.models_dir, FOLDER)


def _extra_paths_files() -> list[str]:
    """The files that ComfyUI reads more model folders from, in its order."""
    own = os.path.join(os.path.dirname(os.path.realpath(folder_paths.__file__)), "extra_model_paths.yaml")
    named = comfy.cli_args.args.extra_model_paths_config or []
    return [own, *(path for paths in named for path in paths)]


def _is_default(file: Path) -> bool:
    """Whether a file names a folder for this pack's models as a default one. ComfyUI puts such a folder first, but
    keeps no note of it: it puts a folder of the user's that is no default first as well, where the pack comes later."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return False
    places = yaml.safe_load(text) or {}
    return any(place and place.get("is_default") and place.get(FOLDER) for place in places.values())


def fetch_release(release: Release, node_id: str | None) -> Path:
    """Download a release into `models/musicgen`, with a bar and a line on the node, until the user presses Cancel."""
    bar, shown = comfy.utils.ProgressBar(1), ""

    def on_progress(progress: DownloadProgress) -> None:
        nonlocal shown
        check_interrupt()
        text = f"{release.name}: {progress.file}"
        if progress.total:
            bar.update_absolute(progress.done, progress.total)
            text = f"{release.name}: {progress.done / 1e9:.2f} of {progress.total / 1e9:.2f} GB, {progress.file}"
        if progress.file and text != shown:
            show(node_id, text)
            shown = text

    places = {kind: list(map(Path, folder_paths.get_folder_paths(kind))) for kind, _ in release.companions}
    return fetch(release, _download_folder(), places, on_progress)


def token_files() -> dict[str, Path]:
    """Every file of tokens in the input folder and in output/tokens: its name as core annotates it, and its path."""
    found: dict[str, Path] = {}
    inputs, outputs = Path(folder_paths.get_input_directory()), Path(folder_paths.get_output_directory())
    for root, folder, mark in ((inputs, inputs, ""), (outputs, outputs / TOKEN_FOLDER, " [output]")):
        for path in sorted(folder.rglob(f"*{codes_file.SUFFIX}")) if folder.is_dir() else []:
            if _is_token_file(path, path.stat().st_mtime_ns):
                found[path.relative_to(root).as_posix() + mark] = path
    return found


@lru_cache(maxsize=4096)
def _is_token_file(path: Path, _changed: int) -> bool:
    return codes_file.read_about(path) is not None


def resolve_tokens(name: str | None) -> tuple[str, Path]:
    """A name from a workflow -> the name with forward slashes, and the file, in the input or the output folder."""
    clean = str(name).replace("\\", "/")
    known, path = token_files(), None
    if clean in known:
        return clean, known[clean]
    with suppress(ValueError):  # newer hosts refuse a path outside of their folders themselves
        path = Path(folder_paths.get_annotated_filepath(clean))
    root = folder_paths.annotated_filepath(clean)[1] or folder_paths.get_input_directory()
    if path is None or not _is_within(root, path) or not path.is_file():
        first = ", ".join(list(known)[:_NAMED]) or "none"
        raise ValueError(
            f"file is {name!r}, which does not exist; allowed are {first}. Put a file from MusicGen Save Tokens into "
            "ComfyUI's input folder to add one."
        )
    return clean, path


def tokens_fingerprint(name: str) -> str:
    """Changes when the file of tokens does."""
    path = resolve_tokens(name)[1]
    return _file_fingerprint(path, [path], [])


def catalogues() -> dict[str, Path]:
    """Every catalogue in the input folder: its name with forward slashes, and its file."""
    return _input_files(CATALOGUE_SUFFIXES)


def midi_files() -> dict[str, Path]:
    """Every MIDI file in the input folder: its name with forward slashes, and its file."""
    return _input_files(MIDI_SUFFIXES)


def resolve_catalogue(name: str | None) -> Path:
    """A name from a workflow -> the file in the input folder."""
    return _resolve_input("catalogue", name, catalogues(), "a JSONL or CSV file with one row for each piece")


def resolve_midi(name: str | None) -> Path:
    """A name from a workflow -> the file in the input folder."""
    return _resolve_input("file", name, midi_files(), "a MIDI file (.mid)")


def catalogue_fingerprint(name: str) -> str:
    """Changes when the catalogue does."""
    path = resolve_catalogue(name)
    return _file_fingerprint(path, [path], [])


def midi_fingerprint(name: str) -> str:
    """Changes when the MIDI file does."""
    path = resolve_midi(name)
    return _file_fingerprint(path, [path], [])


def _input_files(suffixes: tuple[str, ...]) -> dict[str, Path]:
    root = Path(folder_paths.get_input_directory())
    found = (path for path in sorted(root.rglob("*")) if path.suffix.lower() in suffixes and path.is_file())
    return {path.relative_to(root).as_posix(): path for path in found}


def _resolve_input(widget: str, name: str | None, known: dict[str, Path], wanted: str) -> Path:
    clean = str(name).replace("\\", "/")
    if clean not in known:
        first = ", ".join(list(known)[:_NAMED]) or "none"
        raise ValueError(
            f"{widget} is {name!r}, which does not exist; allowed are {first}. Put {wanted} into ComfyUI's input "
            "folder to add one."
        )
    return known[clean]


def new_midi(prefix: str) -> Numbered:
    """The numbered name for a saved MIDI file."""
    return numbered(prefix, MIDI_SUFFIXES[0])


def saved_file(path: Path) -> dict[str, str]:
    """A file of the output folder as ComfyUI's history and its /view know it."""
    folder = path.parent.relative_to(folder_paths.get_output_directory()).as_posix()
    return {"filename": path.name, "subfolder": "" if folder == "." else folder, "type": "output"}


def new_tokens(prefix: str) -> Numbered:
    """The numbered name for saved tokens."""
    return numbered(prefix, codes_file.SUFFIX)


def new_checkpoint(prefix: str) -> Numbered:
    """The numbered name for a saved model: a prefix, with core's placeholders and sub-folders, in the output folder."""
    return numbered(prefix, ".safetensors")


def _is_within(root: str, path: Path) -> bool:
    """Whether a path is a folder or inside it; the oldest hosts have no such question."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def numbered(prefix: str, suffix: str) -> Numbered:
    """A numbered name in the output folder: a prefix, with core's placeholders and sub-folders, and a suffix."""
    prefix = prefix.replace("\\", "/")
    if not prefix.rpartition("/")[2] or prefix.rpartition("/")[2].startswith("."):
        raise ValueError(f"filename_prefix is {prefix!r}; allowed are names that begin neither with nothing nor a dot.")
    root = folder_paths.get_output_directory()
    if not _is_within(root, Path(root, os.path.dirname(prefix))):
        raise ValueError(f"filename_prefix is {prefix!r}; allowed are places inside of ComfyUI's output folder.")
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, root)
    except OSError as error:
        raise ValueError(
            f"filename_prefix is {prefix[:_SHOWN]!r}, whose folder cannot be made in {root} "
            f"({error.strerror or error}); choose another name, or free the place."
        ) from error
    return Numbered(Path(folder), f"{name}_", f"_{suffix}", counter)
