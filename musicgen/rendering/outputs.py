"""Where finished pieces go: each into a file of its own, or each batch into one shard. Files are whole or not there."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..writing import write_file
from . import shards
from .pieces import Piece
from .renderer import Failure, Sound
from .sounds import encode_sound

FILES = "files"
OUTPUTS = (FILES, *shards.KINDS)
AUDIO = "audio"
_WRITERS = 8


@dataclass(frozen=True)
class Output:
    """Writes pieces below a folder, and describes each as a line of the manifest.

    Args:
        folder: the output folder.
        kind: one of OUTPUTS.
        tokens: with files, also write each piece's codes as a `.npy` file beside its sound.
    """

    folder: Path
    kind: str = FILES
    tokens: bool = False

    def write(self, results: Sequence[Sound | Failure]) -> list[dict[str, Any]]:
        """Write the pieces of one batch and return their lines for the manifest, those of failed ones too.

        Raises:
            OSError: the disk is full, or gone.
        """
        lines = [failed_line(result) for result in results if isinstance(result, Failure)]
        sounds = [result for result in results if isinstance(result, Sound)]
        coded = [encode_sound(sound.audio, sound.sample_rate, sound.piece.format) for sound in sounds]
        if self.kind != FILES and sounds:
            name = f"{shards.FOLDER}/{_shard_name(sounds)}.{shards.SUFFIXES[self.kind]}"
            samples = [shards.sample(sound, data) for sound, data in zip(sounds, coded, strict=True)]
            self._write(name, shards.encode(samples, self.kind))
            names = [name] * len(sounds)
        else:
            names = [file_name(sound.piece) for sound in sounds]
            files = dict(zip(names, coded, strict=True))
            if self.tokens:
                npy = (f"{name.rpartition('.')[0]}.npy" for name in names)
                files |= {name: shards.npy(sound.codes) for name, sound in zip(npy, sounds, strict=True)}
            # A disk brings several files to rest in the time of one.
            with ThreadPoolExecutor(_WRITERS) as executor:
                list(executor.map(self._write, files.keys(), files.values()))
        return lines + [_finished(sound, name, data) for sound, name, data in zip(sounds, names, coded, strict=True)]

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, lambda file: file.write(data))


def file_name(piece: Piece) -> str:
    """Return a piece's file, from the output folder. Few share a sub-folder, since a large folder is slow."""
    return f"{AUDIO}/{hashlib.sha256(piece.id.encode()).hexdigest()[:2]}/{piece.id}.{piece.format}"


def worker_name() -> str:
    """Return the name of this process: its machine and its number there."""
    return f"{platform.node()}:{os.getpid()}"


def _shard_name(sounds: Sequence[Sound]) -> str:
    return f"{sounds[0].piece.id}_{len(sounds)}_{secrets.token_hex(4)}"


def _head(piece: Piece, status: str) -> dict[str, Any]:
    line = {"id": piece.id, "status": status, "line": piece.line, "digest": piece.digest()}
    return line | ({"columns": dict(piece.columns)} if piece.columns else {})


def _finished(sound: Sound, name: str, data: bytes) -> dict[str, Any]:
    return {
        **_head(sound.piece, "done"),
        "file": name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "seconds": round(sound.audio.shape[1] / sound.sample_rate, 6),
        "sample_rate": sound.sample_rate,
        "took": round(sound.took, 4),
        "worker": worker_name(),
        "recipe": sound.piece.recipe(),
    }


def failed_line(failure: Failure) -> dict[str, Any]:
    """Return the manifest's line of a piece that was given up."""
    return {**_head(failure.piece, "failed"), "error": failure.error, "worker": worker_name()}
