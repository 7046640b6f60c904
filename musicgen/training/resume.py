"""How a training survives: checkpoints that are whole or not there, and progress a person can read.

A training step draws everything random from its own number (:func:`step_rng`), so a checkpoint is
the weights, the optimiser and the step, and a run that was killed goes on exactly as if it had not been.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch


def step_rng(seed: int, step: int, stream: int = 0) -> np.random.Generator:
    """The random numbers of one training step."""
    return np.random.Generator(np.random.PCG64([seed, stream, step]))


def step_torch_rng(seed: int, step: int) -> torch.Generator:
    """As :func:`step_rng`, for torch."""
    return torch.Generator().manual_seed(int(step_rng(seed, step, 1).integers(2**62)))


def write_atomically(path: Path, write: Any) -> None:
    """Call `write(file)` on a new file beside `path` and move it there once it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    write_atomically(path, lambda file: torch.save(state, file))


def load_checkpoint(path: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """Read a checkpoint, None where there is none.

    Raises ValueError when it is damaged or was made with another recipe.
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


class Progress:
    """One line on stderr: what, how far, figures, and the time left. On a terminal it is overwritten."""

    def __init__(self, name: str, total: int, done: int = 0, file: TextIO | None = None, every: float = 20.0) -> None:
        self.name, self.total, self.first = name, total, done
        self.file = file or sys.stderr
        self.live = self.file.isatty()
        self.every = 0.5 if self.live else every
        self.began = self.shown = time.monotonic()

    def update(self, done: int, figures: str = "", force: bool = False) -> None:
        """Say that `done` of the total is done; shown at most every few seconds."""
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
