"""Runs that are killed at random moments, and the proof that nothing is lost and nothing doubled.

`MUSICGEN_KILLS=50 python -m pytest tests/musicgen/rendering -k killed` kills as often; by default a few times.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from musicgen.rendering import Piece, read_manifest
from musicgen.rendering.manifest import NAME
from musicgen.rendering.shards import ids_in

KILLS = int(os.environ.get("MUSICGEN_KILLS", "0"))


def kills(few: int) -> int:
    """How often to kill: a few times, or as often as the environment asks."""
    return KILLS or few


def require_whole(folder: Path, pieces: Sequence[Piece], expected: dict[str, str]) -> None:
    """Each piece is there once, in the manifest and on the disk, with the bytes of an undisturbed run."""
    lines = list(read_manifest(folder))
    assert (folder / NAME).read_bytes().endswith(b"\n")
    done = Counter(line["id"] for line in lines if line["status"] == "done")
    assert done == Counter({piece.id: 1 for piece in pieces})
    assert {line["id"]: line["sha256"] for line in lines if line["status"] == "done"} == expected
    named = {line["file"] for line in lines if line["status"] == "done"}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {NAME}
    assert there == named
    if any(name.startswith("audio/") for name in named):
        found = {
            line["id"]: hashlib.sha256((folder / line["file"]).read_bytes()).hexdigest()
            for line in lines
            if line["status"] == "done"
        }
        assert found == expected
    else:
        assert Counter(name for file in named for name in ids_in(folder / file)) == done


def digests(folder: Path) -> dict[str, str]:
    """The hash of each finished piece by its id."""
    return {line["id"]: line["sha256"] for line in read_manifest(folder) if line["status"] == "done"}
