"""The cache of rows that a listener returned for a file, by the file's content and the listener's fingerprint.

Rows are kept in half precision where their numbers fit, and also used so, that a figure does not depend on whether
they were kept. They are written some hundred files at a time, each time as one whole safetensors file.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from ...environment import imported
from ...writing import write_file

_FILES, _BYTES, _SECONDS = 256, 64 << 20, 60.0
_LARGEST = 65000.0


def stored_form(rows: Tensor) -> Tensor:
    """Return rows in the number format that they are kept in."""
    if not rows.is_floating_point():
        return rows.contiguous()
    fits = not rows.numel() or float(rows.abs().max()) < _LARGEST
    return rows.to(torch.float16 if fits else torch.float32).contiguous()


class RowCache:
    """The rows of one listener in a folder of its own; a context manager that writes the last ones when it ends."""

    def __init__(self, folder: Path | None, name: str, fingerprint: str) -> None:
        """Open the cache.

        Args:
            folder: of all caches; None keeps nothing.
            name: of the listener.
            fingerprint: of the listener's weights and settings; other ones have another folder.
        """
        self._folder = None if folder is None else folder / f"{name}-{fingerprint}"
        self._new: dict[str, Tensor] = {}
        self._bytes, self._written = 0, time.monotonic()
        self._places: dict[str, Path] = {}
        self._open: tuple[Path, dict[str, Tensor]] | None = None
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self._folder.glob("*.safetensors")):
                self._places |= dict.fromkeys(_names(path), path)

    def __contains__(self, content: str) -> bool:
        return content in self._new or content in self._places

    def get(self, content: str) -> Tensor | None:
        """Return the rows of a file of this content, or None."""
        if content in self._new:
            return self._new[content]
        path = self._places.get(content)
        if path is None:
            return None
        if self._open is None or self._open[0] != path:
            (load_file,) = imported("safetensors.torch", "load_file")
            self._open = path, load_file(path)
        return self._open[1].get(content)

    def put(self, content: str, rows: Tensor) -> Tensor:
        """Keep the rows of a file, and return them as they are kept."""
        kept = stored_form(rows)
        if self._folder is not None:
            self._new[content] = kept
            self._bytes += kept.nbytes
            full = len(self._new) >= _FILES or self._bytes >= _BYTES
            if full or time.monotonic() - self._written > _SECONDS:
                self.write()
        return kept

    def write(self) -> None:
        """Write the new rows as one file."""
        if self._new and self._folder is not None:
            (save,) = imported("safetensors.torch", "save")
            data = save(self._new)
            path = self._folder / f"{secrets.token_hex(8)}.safetensors"
            write_file(path, lambda file: file.write(data))
            self._places |= dict.fromkeys(self._new, path)
        self._new, self._bytes, self._written = {}, 0, time.monotonic()

    def __enter__(self) -> RowCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.write()


def _names(path: Path) -> list[str]:
    """The contents whose rows a file holds."""
    (safe_open,) = imported("safetensors", "safe_open")
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except Exception as error:  # safetensors raises an exception class of its own
        raise ValueError(
            f"{path} in the cache is damaged ({error}); delete it, and its rows are made again."
        ) from error
