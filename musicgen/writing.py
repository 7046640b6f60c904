"""Files that are there as a whole or not at all, under a name that no other writer has taken.

A file is written beside its place under a name of its own, locked as long as its writer lives, brought to the disk,
and only then takes its name. Files whose writer was killed are removed by the next one in the same folder.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from .units import size_text

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows, which has no locks that end with their process
    fcntl = None

logger = logging.getLogger("musicgen")

_PREFIX, _SUFFIX = ".musicgen-", ".part"
_FORGOTTEN = 24 * 3600.0
"""Seconds without a new byte after which a file is left behind, where its writer cannot be asked."""
_FULL, _FORBIDDEN = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)
_LONGEST_NAME, _SHOWN = 255, 60
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


class UnwritableError(OSError):
    """A file that cannot be written; the text is a sentence that says why, and what would help."""

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True)
class Numbered:
    """A name with a number, such as `mine_00001_.safetensors`, of which the first free one is taken.

    Args:
        folder: where the file belongs.
        before: the name up to the number, which has at least five digits.
        after: the name from the number on.
        first: the lowest number to try.
    """

    folder: Path
    before: str
    after: str
    first: int = 1

    def path(self, number: int) -> Path:
        """Return the path with a number.

        >>> Numbered(Path("output"), "mine_", "_.safetensors").path(7).name
        'mine_00007_.safetensors'
        """
        return self.folder / f"{self.before}{number:05}{self.after}"


def write_file(target: Path | Numbered, write: Callable[[BinaryIO], object], size: int | None = None) -> Path:
    """Write a file as a whole or not at all, and return its path.

    Args:
        target: a path, whose file is replaced, or a numbered name, whose first free number is taken: no two writers
            get the same one, on however many machines they are.
        write: called with the open file; an exception that it raises cancels, and leaves nothing behind.
        size: bytes that it will write, for the message where the disk is full; None if that is not known.

    Raises:
        UnwritableError: the file cannot be written; an OSError whose text is a sentence.
    """
    path = target.path(target.first) if isinstance(target, Numbered) else target
    try:
        _check_name(path)
        return _write(target, path.parent, write)
    except UnwritableError:
        raise
    except OSError as error:
        raise UnwritableError(error.errno, _why(error, path, size)) from error


def _write(target: Path | Numbered, folder: Path, write: Callable[[BinaryIO], object]) -> Path:
    remove_leftovers(folder)
    temporary, file = _create(folder)
    try:
        with file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows renames no open file
            path = _take(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(folder)
    return path


def _check_name(path: Path) -> None:
    """Refuse a name that the disk does not hold, before anything is written."""
    try:
        limit = os.pathconf(path.parent, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        limit = _LONGEST_NAME
    size = len(os.fsencode(path.name))
    if size > limit:
        raise UnwritableError(
            errno.ENAMETOOLONG,
            f"the file's name {path.name[:_SHOWN]!r}... has {size} bytes; allowed are {limit}, so choose a "
            "shorter name.",
        )


def _why(error: OSError, path: Path, size: int | None) -> str:
    """The sentence for an error of the system."""
    folder, needs = path.parent, "" if size is None else f" and {size_text(size)} are needed"
    if error.errno in _FULL:
        try:
            free = f"{size_text(shutil.disk_usage(folder).free)} are free"
        except OSError:
            free = "no room is left"
        return (
            f"{path} could not be written: on the disk of {folder} {free}{needs}; make room or choose another folder."
        )
    if error.errno == errno.EFBIG:
        needs = "" if size is None else f" of {size_text(size)}"
        return f"{path} could not be written: the disk or a limit allows no file{needs}; choose another folder."
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"{path} could not be written: the folder {folder} does not exist; make it or choose another one."
    if error.errno in _FORBIDDEN:
        return f"{path} could not be written: there is no right to write into {folder}; choose another folder."
    return f"{path} could not be written ({error.strerror or error}); choose another folder."


def remove_leftovers(folder: Path) -> None:
    """Remove the files of writers that are gone, and say so in the log.

    A writer holds a lock on its file. Where locks do not reach, on another machine or on Windows, a file counts as
    left behind once no byte was written for a day.
    """
    sizes = [size for path in folder.glob(f"{_PREFIX}*{_SUFFIX}") if (size := _removed(path)) is not None]
    if sizes:
        logger.warning(
            "Removed unfinished files in %s (%d, %.3g MB): the programs that wrote them ended before they were whole.",
            folder, len(sizes), sum(sizes) / 1e6,
        )  # fmt: skip


def has_name(descriptor: int, path: Path) -> bool:
    """Return whether an open file still has a name; another process may have removed or replaced it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file until it is closed: whether that worked, or None where the system or the disk has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _create(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file under a name of its own, locked."""
    while True:
        path = folder / f"{_PREFIX}{_machine()}-{secrets.token_hex(8)}{_SUFFIX}"
        file = open(path, "xb")  # noqa: SIM115 (the caller closes it)
        # Another writer may have looked at the file before it was locked, and taken it for left behind.
        if try_lock(file.fileno()) is not False and has_name(file.fileno(), path):
            return path, file
        file.close()
        path.unlink(missing_ok=True)


def _removed(path: Path) -> int | None:
    """Remove a file if its writer is gone; its size, or None where it stays."""
    try:
        with open(path, "r+b") as file:
            state = os.fstat(file.fileno())
            locked = try_lock(file.fileno())
            forgotten = time.time() - state.st_mtime > _FORGOTTEN
            if locked is False or not (forgotten or (locked and path.name.startswith(f"{_PREFIX}{_machine()}-"))):
                return None
            if fcntl is None:
                file.close()
            path.unlink()
            return state.st_size
    except OSError:  # another writer was faster, or it belongs to another user
        return None


def _take(temporary: Path, target: Path | Numbered) -> Path:
    """Let a whole file take its name."""
    if not isinstance(target, Numbered):
        os.replace(temporary, target)
        return target
    for number in count(target.first):
        path = target.path(number)
        try:
            try:
                os.link(temporary, path)
                temporary.unlink()
            except FileExistsError:
                raise
            except OSError:  # a disk without links: claim the name with an empty file
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                try:
                    os.replace(temporary, path)
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
            return path
        except FileExistsError:
            continue
    raise AssertionError("unreachable")


def _sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk, where the system can."""
    if fcntl is None:
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
