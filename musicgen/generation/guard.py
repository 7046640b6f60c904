"""The form of a guard, which decides in a long piece whether a window is drawn again."""

from __future__ import annotations

import hashlib
from typing import Protocol

from torch import Tensor

from .windows import Window


class Guard(Protocol):
    """Judges each window of each item. Every try draws from a seed of its own, so that items stay independent."""

    @property
    def tries(self) -> int:
        """How often a window is drawn at most; 1 measures and never draws again."""
        ...

    def cost(self, item: int, codes: Tensor, window: Window) -> float:
        """Return how far a window is from the wanted sound: 1 or less is near enough, above it is drawn again.

        Args:
            item: number of the item in the batch.
            codes: the item's codes `[K, T]` up to the end of the window.
            window: the window, which has just been filled.
        """
        ...

    def accept(self, item: int, codes: Tensor, window: Window, drawn: int) -> None:
        """Take note of the codes that stay, and of how often the window was drawn. Called in order of time."""
        ...


def seed_of_try(seed: int, window: Window, attempt: int) -> int:
    """Return the seed from which an item's window is drawn again; attempt counts from 1."""
    digest = hashlib.sha256(f"{seed % 2**64} {window.first} {attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "little")
