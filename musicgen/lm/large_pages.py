"""Memory in large pages, where the system has them: whoever reads gigabytes in a row waits less for addresses.

A processor finds the place of a page of 4 KB by a walk through tables, and in a virtual machine each step of
that walk is a walk of its own. Weights and caches are therefore laid out in long stretches, of which Linux
is told that pages of 2 MB may hold them. Other systems give ordinary pages.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

_STRETCH = 64 << 20
_PAGE = 2 << 20
_LINE = 64
_SMALL = 256 << 10


class LargePages:
    """Hands out tensors on the CPU, one behind the other. A stretch is freed with the last tensor in it."""

    def __init__(self) -> None:
        self._stretch: mmap.mmap | None = None
        self._taken = self._before = 0

    def zeros(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor of zeros, as long as :meth:`take_back` was not called. A large one takes memory when it is written.

        Raises:
            MemoryError: the system refuses so much.
        """
        size = math.prod(shape) * dtype.itemsize
        if size < _SMALL:
            return torch.zeros(shape, dtype=dtype)
        if self._stretch is None or self._taken + size > len(self._stretch):
            self._stretch, self._taken = _new_stretch(max(size, _STRETCH)), 0
        start = self._before = self._taken
        self._taken = -(-(start + size) // _LINE) * _LINE
        return torch.frombuffer(self._stretch, dtype=dtype, count=math.prod(shape), offset=start).view(*shape)

    def take_back(self) -> None:
        """Let the next tensor lie where the last one does, which nobody may use any more; it is not of zeros then."""
        self._taken = self._before


def _new_stretch(size: int) -> mmap.mmap:
    size = -(-size // _PAGE) * _PAGE  # of whole large pages, or Linux does not begin it at one
    private = getattr(mmap, "MAP_PRIVATE", None)
    try:
        stretch = mmap.mmap(-1, size) if private is None else mmap.mmap(-1, size, flags=private | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"the system has no {size / 1e6:.0f} MB of memory left.") from error
    with suppress(AttributeError, OSError):  # neither other systems nor all settings of Linux have them
        stretch.madvise(mmap.MADV_HUGEPAGE)
    return stretch
