"""A lock file among threads and processes, which is on the disk only while somebody holds it or waits for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..writing import has_name, try_lock

_POLL = 0.1


@contextmanager
def held(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock `path` inside a `with` block, and remove the file after the last holder.

    Args:
        path: the lock file.
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
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
        locked = try_lock(descriptor)
        if locked and has_name(descriptor, path):
            return descriptor
        os.close(descriptor)
        if locked is None:
            return None
        if not locked:
            time.sleep(_POLL)
        check()
