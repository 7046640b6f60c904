"""Regular files: links to them are followed, and everything else is refused before it is opened."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def is_there(path: Path) -> bool:
    """Whether a folder has an entry of this name, which may be a link that leads nowhere."""
    return os.path.lexists(path)


def existing(path: Path) -> os.stat_result:
    """The system's record of a file or folder, or of the target of links.

    Raises:
        FileNotFoundError: nothing is there, or a link leads nowhere.
        ValueError: links lead in a circle, or the system does not let us look.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            target = os.readlink(path)
            raise FileNotFoundError(f"{path} links to {target}, which does not exist; put it there.") from error
        raise FileNotFoundError(f"{path} does not exist; put it there.") from error
    except OSError as error:
        if error.errno == errno.ELOOP or path.is_symlink():
            raise ValueError(f"{path} is a link in a circle; put the file itself there.") from error
        raise ValueError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from error


def regular_file(path: Path) -> Path:
    """`path`, if it is a regular file or a link to one, on this disk or another.

    Raises:
        FileNotFoundError: nothing is there, or a link leads nowhere.
        ValueError: it is, or links to, a folder, a device, a pipe or a socket.
    """
    mode = existing(path).st_mode
    if stat.S_ISREG(mode):
        return path
    kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "no regular file")
    raise ValueError(f"{path} {'links to' if path.is_symlink() else 'is'} {kind}; put the file itself there.")
