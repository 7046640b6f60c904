"""One run of a catalogue into an output folder: plan the missing pieces, let an engine make them, record each one.

An engine takes pieces and yields lines for the manifest; `local.py`, `cluster.py` and `servers.py` hold the three.
A run may be killed at any moment: the next one makes only those pieces that the manifest does not name as done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..writing import remove_leftovers, write_file
from . import shards
from .manifest import Entry, Manifest, read_manifest, same_columns
from .outputs import AUDIO
from .pieces import Piece

logger = logging.getLogger("musicgen")

Lines = list[dict[str, Any]]
Engine = Callable[[Sequence[Piece]], Iterable[Lines]]
"""Makes pieces, and yields the lines of those that it has finished or given up."""


@dataclass(frozen=True)
class Progress:
    """The state of a run; seconds are those of sound, elapsed those of the run so far."""

    done: int
    failed: int
    total: int
    seconds_done: float
    seconds_total: float
    elapsed: float

    @property
    def pieces_per_second(self) -> float:
        """Pieces finished per second of this run."""
        return self.done / self.elapsed if self.elapsed else 0.0

    @property
    def seconds_per_second(self) -> float:
        """Seconds of sound finished per second of this run."""
        return self.seconds_done / self.elapsed if self.elapsed else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left, if the rest runs as fast as the pieces so far; None before the first."""
        if not self.seconds_done:
            return None
        return (self.seconds_total - self.seconds_done) / self.seconds_done * self.elapsed


@dataclass
class Summary:
    """The result of a run, by ids.

    Args:
        made: pieces that this run finished.
        failed: pieces that it gave up, and why.
        kept: number of pieces that were there before.
        redone: pieces whose row had changed, or whose file was gone.
        removed: finished pieces of earlier runs that the catalogue does not name any more; their files stay.
    """

    made: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    kept: int = 0
    redone: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def run_job(
    pieces: Sequence[Piece],
    folder: str | Path,
    engine: Engine,
    *,
    on_plan: Callable[[Summary, int], None] = lambda summary, missing: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Make every piece that an output folder lacks.

    Args:
        pieces: all pieces of the catalogue.
        folder: the output folder, which is made if it is missing.
        engine: makes pieces.
        on_plan: called once with the plan and the number of missing pieces.
        on_progress: called after every batch.

    Raises:
        OSError: the disk is full, or gone. The pieces recorded so far stay.
        RuntimeError: another program renders into the folder.
        ValueError: the manifest is damaged.
    """
    folder = Path(folder)
    with Manifest(folder) as manifest:
        known = manifest.entries()
        _remove_strays(folder, known)
        summary, missing = Summary(), []
        columns: Lines = []
        for piece in pieces:
            entry = known.get(piece.id)
            if entry is None or entry.status != "done":
                missing.append(piece)
            elif entry.digest != piece.digest() or not _is_whole(folder, entry):
                missing.append(piece)
                summary.redone.append(piece.id)
            else:
                summary.kept += 1
                if not same_columns(entry, piece.columns):
                    columns.append(_with_columns(piece, entry))
        named = {piece.id for piece in pieces}
        summary.removed = [name for name, entry in known.items() if entry.status == "done" and name not in named]
        manifest.append(columns)
        on_plan(summary, len(missing))
        _work(missing, engine, manifest, summary, on_progress)
        if missing:
            _remove_strays(folder, manifest.entries())
    return summary


def _work(
    missing: Sequence[Piece],
    engine: Engine,
    manifest: Manifest,
    summary: Summary,
    on_progress: Callable[[Progress], None],
) -> None:
    """Run the engine over the missing pieces, and record its lines as they come."""
    if not missing:
        return
    seconds = {piece.id: piece.seconds for piece in missing}
    total, began, done = sum(seconds.values()), time.monotonic(), 0.0
    for lines in engine(missing):
        new = [line for line in lines if line["id"] in seconds]
        manifest.append(new)
        for line in new:
            done += seconds.pop(line["id"])
            if line["status"] == "done":
                summary.made.append(line["id"])
            else:
                summary.failed[line["id"]] = line["error"]
        elapsed = time.monotonic() - began
        on_progress(Progress(len(summary.made), len(summary.failed), len(missing), done, total, elapsed))


def _is_whole(folder: Path, entry: Entry) -> bool:
    """Whether the file of a finished piece is there, with its size unless it is one of a shard."""
    try:
        size = (folder / entry.file).stat().st_size
    except OSError:
        return False
    return entry.file.startswith(f"{shards.FOLDER}/") or size == entry.bytes


def _with_columns(piece: Piece, entry: Entry) -> dict[str, Any]:
    """A line that gives a finished piece new columns, and else repeats its entry."""
    same = {"status": entry.status, "digest": entry.digest, "file": entry.file, "bytes": entry.bytes}
    return {"id": piece.id, **same, "line": piece.line, "columns": dict(piece.columns), "recipe": piece.recipe()}


def _remove_strays(folder: Path, known: dict[str, Entry]) -> None:
    """Remove files of pieces that are elsewhere now: shards of killed runs, and earlier files of changed rows."""
    current = {entry.file for entry in known.values() if entry.status == "done"}
    for inside in (folder / shards.FOLDER, *(folder / AUDIO).glob("*")):
        remove_leftovers(inside)
    held = {path for path in (folder / shards.FOLDER).glob("*") if not path.name.startswith(".")}
    for path in sorted(held):
        if f"{shards.FOLDER}/{path.name}" not in current:
            logger.info("Removed %s, whose pieces are not in the manifest or were made again.", path)
            path.unlink(missing_ok=True)
    for name, ids in _superseded(folder, known).items():
        path = folder / name
        if name.startswith(f"{AUDIO}/"):
            path.unlink(missing_ok=True)
        elif path.exists() and (stale := ids & set(shards.ids_in(path))):
            rest = shards.without(path, stale)
            if rest is not None:
                write_file(path, lambda file, rest=rest: file.write(rest))  # type: ignore[misc]


def _superseded(folder: Path, known: dict[str, Entry]) -> dict[str, set[str]]:
    """Files that earlier lines of the manifest name, and the pieces of each that are in another file now."""
    found: dict[str, set[str]] = {}
    for line in read_manifest(folder):
        name = line.get("file")
        if name and known[line["id"]].status == "done" and known[line["id"]].file != name:
            found.setdefault(name, set()).add(line["id"])
    return found
