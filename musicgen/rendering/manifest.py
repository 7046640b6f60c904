"""The manifest of an output folder: one line of JSON for each event of a piece, only ever appended.

The last line of a piece counts. A line that a crash cut off is dropped when the file is opened next. One program at a
time writes to a folder.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..writing import try_lock

NAME = "manifest.jsonl"
_SYNC_SECONDS = 1.0
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Entry:
    """The part of a line that a resumed run needs; file and bytes are those of a finished piece."""

    status: str
    digest: str
    file: str
    bytes: int
    columns: str


def read_manifest(folder: str | Path) -> Iterable[dict[str, Any]]:
    """Yield every line of a folder's manifest, in order; none where there is no manifest.

    Raises:
        ValueError: a line is damaged.
    """
    path = Path(folder) / NAME
    if not path.exists():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return  # cut off by a crash
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"line {number} of {path} is damaged; remove this line, and its piece is made again."
                ) from error


class Manifest:
    """An output folder's manifest, open for appending and locked. A context manager."""

    def __init__(self, folder: str | Path) -> None:
        """Open or make the manifest.

        Raises:
            OSError: the folder cannot be written to.
            RuntimeError: another program has the folder's manifest open.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / NAME
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        if try_lock(self._descriptor) is False:
            os.close(self._descriptor)
            raise RuntimeError(
                f"another program renders into {self.folder}; wait until it has ended, or choose another folder."
            )
        self._drop_torn_line()
        self._synced = time.monotonic()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def entries(self) -> dict[str, Entry]:
        """Return the last entry of each piece by its id."""
        found = {}
        for line in read_manifest(self.folder):
            found[line["id"]] = Entry(
                line["status"],
                line.get("digest", ""),
                line.get("file", ""),
                line.get("bytes", 0),
                _canonical(line.get("columns", {})),
            )
        return found

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append lines as one write, and bring them to the disk at least every second.

        Raises:
            OSError: the disk is full, or gone; the lines are made again by the next run.
        """
        data = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        while data:
            data = data[os.write(self._descriptor, data) :]
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            os.fsync(self._descriptor)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Bring everything to the disk and let other programs in."""
        try:
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)

    def _drop_torn_line(self) -> None:
        """Cut the file after its last whole line."""
        end = size = os.fstat(self._descriptor).st_size
        while end > 0:
            begin = max(0, end - _BLOCK)
            os.lseek(self._descriptor, begin, os.SEEK_SET)
            found = os.read(self._descriptor, end - begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        if end < size:
            os.ftruncate(self._descriptor, end)


def same_columns(entry: Entry, columns: Mapping[str, Any]) -> bool:
    """Return whether an entry carries exactly these columns of the catalogue."""
    return entry.columns == _canonical(columns)


def _canonical(columns: Mapping[str, Any]) -> str:
    return json.dumps(columns, sort_keys=True, ensure_ascii=False) if columns else ""
