"""Resuming a training: checkpoints written whole or not at all, and a progress line.

Every training step seeds its random numbers by its own number (:func:`step_rng`). A checkpoint needs
only the weights, the optimiser and the step, and a run that was killed continues exactly as an
uninterrupted one.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from ..writing import write_file


def step_rng(seed: int, step: int, stream: int = 0) -> np.random.Generator:
    """Return the generator of one training step's random numbers; streams of a step are independent."""
    return np.random.Generator(np.random.PCG64([seed, stream, step]))


def step_torch_rng(seed: int, step: int) -> torch.Generator:
    """Return a torch generator for one training step; see :func:`step_rng`."""
    return torch.Generator().manual_seed(int(step_rng(seed, step, 1).integers(2**62)))


def write_atomically(path: Path, write: Any) -> None:
    """Write a file whole or not at all, and its folder where it is missing; see :func:`write_file`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, write)


def as_stored(values: dict[str, Any]) -> dict[str, Any]:
    """Settings with their tuples as lists, so that they equal themselves after a checkpoint is read back."""
    return {name: _listed(value) for name, value in values.items()}


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    write_atomically(path, lambda file: torch.save(state, file))


def load_checkpoint(path: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """Read a checkpoint; None if the file does not exist.

    Raises:
        ValueError: the checkpoint is damaged or was made with other settings than `recipe`.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["recipe"]
    except Exception as error:
        raise ValueError(f"{path} is not a readable checkpoint ({error}); remove it to begin again.") from error
    if found != recipe:
        names = sorted(n for n in {*found, *recipe} if found.get(n) != recipe.get(n))
        raise ValueError(f"{path} was made with other settings ({', '.join(names)}); remove it or use those settings.")
    return dict(state)


class ProgressLog:
    """A line on stderr with a name, the steps done, figures and the time left; a terminal overwrites it in place."""

    def __init__(self, name: str, total: int, done: int = 0, file: TextIO | None = None, every: float = 20.0) -> None:
        self.name, self.total, self.first = name, total, done
        self.file = file or sys.stderr
        self.live = self.file.isatty()
        self.every = 0.5 if self.live else every
        self.began = self.shown = time.monotonic()

    def update(self, done: int, figures: str = "", force: bool = False) -> None:
        """Report that `done` steps of the total are done; the line is written at most every few seconds."""
        now = time.monotonic()
        if not force and done < self.total and now - self.shown < self.every:
            return
        self.shown = now
        speed = max(done - self.first, 1) / max(now - self.began, 1e-6)
        left = int((self.total - done) / speed)
        filled = 24 * done // max(self.total, 1)
        bar = "#" * filled + "-" * (24 - filled)
        line = f"{self.name} [{bar}] {done}/{self.total} {figures} {left // 60}:{left % 60:02d} left"
        end = "\n" if not self.live or done >= self.total else ""
        self.file.write(("\r\x1b[K" if self.live else "") + line + end)
        self.file.flush()
