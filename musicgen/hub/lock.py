"""A lock file among threads and processes, which lies on the disk only while somebody holds it or waits for it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL = 0.1
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def held(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock `path` inside a `with` block, and remove the file after the last holder.

    check: called ten times a second while another holds the lock; an exception that it raises ends the waiting.
    """
    descriptor = _lock(path, check)
    if descriptor is None:
        from huggingface_hub.utils import WeakFileLock

        with WeakFileLock(path):
            yield
        return
    try:
        yield
    finally:
        # Removed before it is released: a waiting holder then finds that its file has lost its name, and starts anew.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path, check: Callable[[], None]) -> int | None:
    """The descriptor of the locked file of this name; None where the system or the disk has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows, where the package's lock removes its file
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(descriptor, path):
                return descriptor
        except BlockingIOError:
            time.sleep(_POLL)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _UNSUPPORTED:
                return None
            raise
        os.close(descriptor)
        check()


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
