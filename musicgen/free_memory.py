"""Memory of this process: how much it can still take, and the sentence for a user where it runs out.

Libraries answer a lack of memory in words of their own, and some end the process; the public functions here
raise a MemoryError with one sentence. Lack of memory on a GPU is left to the host, which knows torch's own exception.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from .units import size_text

resource: Any
try:
    import resource
except ImportError:  # Windows, where no such limits are
    resource = None

_SPARE = 1 << 20
_SIGNS = ("DefaultCPUAllocator", "std::bad_alloc")
"""Words of torch where the memory of the computer runs out."""
_UNSURE, _LITTLE = ("could not create a primitive", "could not create a memory"), 1 << 29
"""Words of oneDNN for that and for other faults; little memory tells which of them it is."""
_BEGIN = "memory ran out"
_REMEDY = "close other programs, choose int8 or a smaller model, or make a shorter piece."


class ShortageError(MemoryError):
    """Memory ran out; the text is a sentence with the work, the sizes and the remedies."""


def free_memory() -> int | None:
    """Return the bytes that this process can still take: those that the system has, within the limits that are set.
    None where the system does not tell."""
    found = [_available(), *_container(), *_limits()]
    return min((size for size in found if size is not None), default=None)


def shortage(doing: str, needed: int | None = None) -> ShortageError:
    """Make the error of a lack of memory.

    Args:
        doing: the work, in words that follow "while".
        needed: bytes that were asked for at once, None if that is not known.
    """
    free = free_memory()
    sizes = [f"{size_text(needed)} were needed at once"] if needed else []
    sizes += [] if free is None else [f"{size_text(free)} {'are' if sizes else 'were'} free"]
    return ShortageError(f"{_BEGIN} while {doing}{': ' if sizes else ''}{' and '.join(sizes)}; {_REMEDY}")


def require_memory(size: int, doing: str) -> None:
    """Take memory and give it back, before a library takes it that does not look whether it got it.

    Raises:
        ShortageError: there is less than `size` bytes.
    """
    try:
        torch.empty(size + _SPARE, dtype=torch.uint8)
    except (RuntimeError, MemoryError) as error:
        raise shortage(doing, size) from error


@contextmanager
def told_shortage(doing: str) -> Iterator[None]:
    """Tell a lack of memory in one sentence. A context and a decorator."""
    try:
        yield
    except BaseException as error:
        # An inner work or an import may have told it already.
        if (isinstance(error, MemoryError) and str(error).startswith(_BEGIN)) or not _is_shortage(error):
            raise
        asked = re.search(r"tried to allocate (\d+) bytes", str(error))
        raise shortage(doing, int(asked[1]) if asked else None) from error


def _is_shortage(error: BaseException) -> bool:
    # The tokenizers package panics where it gets no thread, and such an exception is no Exception.
    panic = type(error).__name__ == "PanicException" and any(
        sign in str(error) for sign in ("Resource temporarily unavailable", "Cannot allocate memory")
    )
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if type(error) is RuntimeError:
        unsure = any(sign in str(error) for sign in _UNSURE) and (free_memory() or 0) < _LITTLE
        return unsure or any(sign in str(error) for sign in _SIGNS)
    return panic or isinstance(error, MemoryError)


def _available() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(Exception):
        import psutil  # type: ignore[import-untyped]

        return int(psutil.virtual_memory().available)
    return None


def _container() -> list[int]:
    """Memory that a container may still take."""
    with suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup")
        limit = int((folder / "memory.max").read_text(encoding="ascii"))  # "max" without a limit
        return [max(limit - int((folder / "memory.current").read_text(encoding="ascii")), 0)]
    return []


def _limits() -> list[int]:
    """Memory within the limit of this process's addresses."""
    if resource is None:
        return []
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        if limit != resource.RLIM_INFINITY:
            return [max(limit - pages * resource.getpagesize(), 0)]
    return []
