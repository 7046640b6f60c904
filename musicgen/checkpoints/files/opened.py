"""A file of weights, opened once: header and tensors come from the same file, whatever becomes of its name."""

from __future__ import annotations

import io
import os
import weakref
from pathlib import Path

from .regular import existing, regular_file


class OpenedFile:
    """A regular file, open for reading until it is no longer needed.

    Raises FileNotFoundError and ValueError as :func:`regular_file` does, and ValueError where it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = regular_file(path)
        try:
            self.raw = io.FileIO(path)
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from error
        weakref.finalize(self, self.raw.close)
        self._identity = _identity(os.fstat(self.raw.fileno()))

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self._identity[2]

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` on, fewer where the file ends."""
        self.raw.seek(offset)
        return self.raw.read(count)

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill a buffer with the bytes from `offset` on. Raises ValueError where the file ends before."""
        try:
            self.raw.seek(offset)
            while view:
                count = self.raw.readinto(view)
                if not count:
                    self.require_unchanged()
                    raise ValueError(
                        f"{self.path} ends before its tensors do: it is damaged or cut short, so fetch it again."
                    )
                view = view[count:]
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read ({error}); fetch it again.") from error

    def require_unchanged(self) -> None:
        """Raise ValueError where another file has taken the name since, or this one was written to."""
        try:
            now = _identity(existing(self.path))
        except (FileNotFoundError, ValueError):
            now = (0, 0, 0, 0)
        if now != self._identity:
            raise ValueError(
                f"{self.path} was replaced or changed while it was being read; wait until it is written, and load the "
                "model again."
            )


def _identity(stat: os.stat_result) -> tuple[int, int, int, int]:
    """Which file it is, how long, and when it was last written."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
