"""The journal of one batch on a cluster: it tells a worker whether others ended over this batch, and at which piece.

A worker that is killed, runs out of memory or crashes leaves no error. Ray gives its batch to another worker, which
reads here which pieces were begun and not finished. Pieces are then made one by one, and one over which three workers
ended is given up, so that a single row cannot keep a cluster busy for ever.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = ".runs"


class Journal:
    """A file to which one worker at a time appends; the system keeps its lines when the worker dies."""

    def __init__(self, path: Path) -> None:
        """Read the lines of earlier workers, if there are any."""
        self._path = path
        self.finished: dict[str, dict[str, Any]] = {}
        begun: list[list[str]] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                entry = json.loads(line)
                if "begun" in entry:
                    begun.append(entry["begun"])
                else:
                    self.finished |= {line["id"]: line for line in entry["finished"]}
        self.deaths = Counter(name for names in begun for name in names if name not in self.finished)

    def begin(self, ids: Sequence[str]) -> None:
        """Record that these pieces are next."""
        self._append({"begun": list(ids)})

    def finish(self, lines: Sequence[dict[str, Any]]) -> None:
        """Record the manifest's lines of pieces that are made or given up."""
        self._append({"finished": list(lines)})

    def remove(self) -> None:
        """Remove the file, after the batch."""
        self._path.unlink(missing_ok=True)

    def _append(self, entry: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab", buffering=0) as file:
            file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")


def remove_journals(folder: Path) -> None:
    """Remove the journals of all runs into an output folder, which this program must have to itself."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
