"""Lines of results, written as they come, so that a step that is stopped loses only the check it was at."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Report:
    """The results of one step: a line of JSON for each check, appended to a file.

    Args:
        path: the file of all steps.
        step: name of this one.
        device: where it computes. The CPU stands for a dry run.
    """

    def __init__(self, path: Path, step: str, device: torch.device) -> None:
        self.path, self.step, self.device = path, step, device

    @property
    def dry(self) -> bool:
        """Whether this is a dry run."""
        return self.device.type == "cpu"

    def note(self, check: str, **figures: Any) -> None:
        """Write a line. A truth among the figures is a check; the false ones are listed as `wrong`."""
        wrong = [name for name, value in figures.items() if value is False]
        line = json.dumps({"step": self.step, "check": check, "wrong": wrong, **figures}, default=str)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def attempt(self, check: str, action: Callable[[], dict[str, Any] | None]) -> None:
        """Write the figures that an action returns and its seconds, or its exception; the next check goes on."""
        began = time.perf_counter()
        try:
            figures = action() or {}
        except Exception as error:
            figures = {"failed": f"{type(error).__name__}: {error}"[:700], "where": traceback.format_exc()[-1200:]}
        self.note(check, seconds=round(time.perf_counter() - began, 2), **figures)

    def wait(self) -> None:
        """Wait for the device."""
        if not self.dry:
            torch.cuda.synchronize(self.device)

    def allocated(self) -> int:
        """Bytes of the device's memory that tensors hold; 0 in a dry run."""
        gc.collect()
        self.wait()
        return 0 if self.dry else torch.cuda.memory_allocated(self.device)
