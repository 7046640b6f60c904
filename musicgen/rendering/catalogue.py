"""A catalogue: its rows become pieces, each one checked against its model before anything runs.

Only the numbers of a model are read here, no weights.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..audio import resampled_length
from ..checkpoints.loading import open_checkpoint
from ..config import ModelConfig
from ..generation.params import GenerationParams
from ..generation.windows import plan_windows
from ..lora.apply import read_lora
from .pieces import UNCLIPPED, Piece
from .rows import NUMBERS, Fault, Row, read_rows
from .sounds import read_sound

_BLOCK = 1 << 20
_MODEL_FILES = {".safetensors", ".bin", ".json", ".model", ".pt", ".th"}
_LONGEST = 24 * 3600.0


@dataclass(frozen=True)
class Catalogue:
    """The pieces of a catalogue, and the faults of its bad rows, from which no piece is made."""

    path: Path
    pieces: tuple[Piece, ...]
    faults: tuple[Fault, ...]

    @property
    def seconds(self) -> float:
        """Length of all pieces together."""
        return sum(piece.seconds for piece in self.pieces)

    def require_good(self) -> Catalogue:
        """Return this catalogue if it has no faults.

        Raises:
            ValueError: there are bad rows; the message lists every fault.
        """
        if self.faults:
            lines = "\n".join(map(str, self.faults))
            raise ValueError(f"{self.path} has {len(self.faults)} faults:\n{lines}")
        return self


def read_catalogue(path: str | Path, defaults: Mapping[str, Any] | None = None) -> Catalogue:
    """Read and check a catalogue.

    Paths in it are looked for in the catalogue's folder first, then in the working folder.

    Args:
        path: a JSONL or CSV file.
        defaults: values for columns that a row leaves out, such as `{"model": "models/musicgen-nano"}`.

    Returns:
        The pieces of all good rows, and the faults of the others.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file as a whole cannot be read, or a default is not allowed.
    """
    rows, faults = read_rows(path, defaults)
    checker = _Checker(Path(path).resolve().parent)
    pieces: list[Piece] = []
    taken: dict[str, int] = {}
    for row in rows:
        made, wrong = checker.pieces(row)
        for piece in made:
            other = taken.setdefault(piece.id.casefold(), piece.line)
            if other != piece.line:
                allowed = f"an id of its own; line {other} has it, so give one of them another id or another seed"
                wrong.append(Fault(row.line, "id", piece.id, allowed))
                break
        faults += wrong
        pieces += [] if wrong else made
    return Catalogue(Path(path), tuple(pieces), tuple(sorted(faults, key=lambda fault: fault.line)))


class _UnknownError(ValueError):
    """A value is missing that another check needs."""


class _RefusedError(ValueError):
    """A value that does not fit; `column` has it."""

    def __init__(self, column: str, value: Any, allowed: str) -> None:
        super().__init__(allowed)
        self.column, self.value, self.allowed = column, value, allowed


@dataclass(frozen=True)
class _Model:
    path: str
    config: ModelConfig
    digest: str


@dataclass(frozen=True)
class _Recording:
    path: str
    digest: str
    samples: int
    rate: int


class _Checker:
    """Compares rows with files and models, each of which is opened once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[Any, ...], Any] = {}

    def pieces(self, row: Row) -> tuple[list[Piece], list[Fault]]:
        """Return the pieces of a row, or its faults."""
        faults: list[Fault] = []
        found: dict[str, Any] = {}
        steps: dict[str, Callable[[], Any]] = {
            "model": lambda: self._model(row.values.get("model")),
            "loras": lambda: self._loras(row, found["model"]),
            "melody": lambda: self._recording(row, "melody", found["model"]),
            "style": lambda: self._recording(row, "style", found["model"]),
            "prompt": lambda: self._recording(row, "prompt", found["model"]),
            "params": lambda: self._params(row, found["model"], found["prompt"]),
        }
        for name, step in steps.items():
            try:
                found[name] = step()
            except _RefusedError as error:
                faults.append(Fault(row.line, error.column, error.value, error.allowed))
            except _UnknownError:
                break  # a fault that is listed already leaves the rest open
            if name not in found and name in ("model", "prompt"):
                break
        return ([], faults) if faults or row.bad else (list(self._made(row, found)), [])

    def _made(self, row: Row, found: Mapping[str, Any]) -> Iterator[Piece]:
        values, params = row.values, found["params"]
        recordings = {name: found[name] for name in ("melody", "style", "prompt") if found[name] is not None}
        sources: dict[str, Any] = {"model": found["model"].digest}
        sources |= {name: recording.digest for name, recording in recordings.items()}
        if found["loras"]:
            sources["loras"] = [[digest, strength] for _, strength, digest in found["loras"]]
        if "prompt" in recordings:
            sources["prompt_frames"] = _frames(recordings["prompt"], found["model"].config)
        name = values.get("id") or _id_of(row, sources)
        for piece, seed in row.pieces(name):
            yield Piece(
                id=piece,
                line=row.line,
                model=found["model"].path,
                dtype=values.get("dtype", "auto"),
                description=values.get("description", ""),
                negative=values.get("negative", ""),
                loras=tuple((path, strength) for path, strength, _ in found["loras"]),
                params=GenerationParams(**{**vars(params), "seed": seed}),
                level=values.get("level", UNCLIPPED),
                format=values.get("format", "flac"),
                sources=sources,
                columns=row.columns,
                **{name: recording.path for name, recording in recordings.items()},
            )

    def _once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return the result of a function, or raise its refusal, from the first call with this key."""
        if key not in self._known:
            try:
                self._known[key] = make()
            except _RefusedError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, _RefusedError):
            raise found
        return found

    def _path(self, column: str, name: str) -> Path:
        for folder in (self._folder, Path()):
            if (folder / name).exists():
                return (folder / name).resolve()
        raise _RefusedError(column, name, f"a path that exists, from {self._folder} or the working folder")

    def _model(self, name: str | None) -> _Model:
        if name is None:
            raise _UnknownError

        def read() -> _Model:
            path = self._path("model", name)
            try:
                config = open_checkpoint(path).config
            except (ValueError, OSError) as error:
                raise _RefusedError("model", name, f"a model that can be read ({str(error).rstrip('.')})") from error
            return _Model(str(path), config, _model_digest(path))

        return self._once(("model", name), read)

    def _loras(self, row: Row, model: _Model) -> list[tuple[str, float, str]]:
        def read(name: str) -> tuple[str, str]:
            path = self._path("loras", name)
            try:
                read_lora(path, model.config)
            except (ValueError, OSError) as error:
                raise _RefusedError("loras", name, f"a LoRA for this model ({str(error).rstrip('.')})") from error
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            return str(path), "-".join(_file_digest(file) for file in files if file.is_file())

        found = []
        for name, strength in row.values.get("loras", ()):
            path, digest = self._once(("lora", model.path, name), lambda name=name: read(name))  # type: ignore[misc]
            found.append((path, strength, digest))
        return found

    def _recording(self, row: Row, column: str, model: _Model) -> _Recording | None:
        name = row.values.get(column)
        if name is None:
            return None
        needed = {"melody": model.config.chroma, "style": model.config.style}
        if column in needed and needed[column] is None:
            raise _RefusedError(
                column, name, f"none: model {model.config.name!r} takes no {column}, so take a {column} model"
            )

        def read() -> _Recording:
            path = self._path(column, name)
            try:
                audio, rate = read_sound(path)
            except (ValueError, OSError) as error:
                raise _RefusedError(column, name, f"an audio file ({str(error).rstrip('.')})") from error
            return _Recording(str(path), _file_digest(path), audio.shape[1], rate)

        return self._once((column, name), read)

    def _params(self, row: Row, model: _Model, prompt: _Recording | None) -> GenerationParams:
        values = row.values
        if "duration" not in values:
            raise _UnknownError
        numbers = {name: values[name] for name in NUMBERS if name in values}
        seed, count = values.get("seed", 0), values.get("seeds", 1)
        if seed + count > 2**64:
            raise _RefusedError("seeds", count, f"a number of seeds from {seed} up to {2**64 - 1}")
        frames = 0 if prompt is None else _frames(prompt, model.config)

        def read() -> GenerationParams:
            params = GenerationParams(values["duration"], pattern=values.get("pattern"), **numbers)
            rate = model.config.frame_rate
            if params.duration > _LONGEST:
                raise _RefusedError("duration", params.duration, f"at most a day, {_LONGEST:g} seconds")
            try:
                plan_windows(
                    params, rate, frames, model_window=model.config.window, model_stride=model.config.extend_stride
                )
            except ValueError as error:
                column = str(error).partition(" is ")[0]
                column = column if column in ("duration", "extend_stride") else "prompt" if frames else "duration"
                allowed = re.sub(r"^.*?allowed (is )?", "", str(error)).rstrip(".")
                raise _RefusedError(column, values.get(column), allowed) from error
            return params

        key = ("params", model.path, frames, values["duration"], values.get("pattern"), *numbers.items())
        return self._once(key, read)


def _frames(recording: _Recording, config: ModelConfig) -> int:
    """Frames of codes that a recording becomes."""
    samples = resampled_length(recording.samples, recording.rate, config.sample_rate)
    return -(-samples // config.codec.hop_length)


def _id_of(row: Row, sources: Mapping[str, Any]) -> str:
    """A name made from the row's values, for a row without an id."""
    values = {name: value for name, value in row.values.items() if name not in ("model", "seeds")}
    text = json.dumps([values, sources], sort_keys=True, ensure_ascii=False)
    return f"row-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _file_digest(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()[:32]


def _model_digest(path: Path) -> str:
    """A digest of a model's name, its settings and the sizes of its files; weights are too large to be read for it."""
    inside = path.rglob("*") if path.is_dir() else [path]
    files = sorted(file for file in inside if file.suffix in _MODEL_FILES and file.is_file())
    state = [(file.relative_to(path.parent).as_posix(), file.stat().st_size) for file in files]
    settings = [_file_digest(file) for file in files if file.name == "config.json"]
    return f"{path.name}:{hashlib.sha256(repr((state, settings)).encode()).hexdigest()[:16]}"
