"""Measure catalogues: `python benchmarks/rendering.py --rows 400 --seconds 2`.

Theory. Rows do not depend on each other, so n workers should render n times as many, less the start of the workers and
the last batches, over which some wait. Writing, the manifest and the queue should cost next to nothing beside sampling:
the same batches through the bare library, one after the other, are the limit. A stub that makes silence at once shows
the speed of everything else. Each worker is bound to one core; the clock of a Ray run without its start begins when all
workers have loaded the model. `--part` chooses one of the three tables.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from measuring import ROOT, finish, status
from torch import Tensor

from musicgen.rendering import Output, Piece, Renderer, read_catalogue, run_job
from musicgen.rendering.batches import MOST, make_batches
from musicgen.rendering.cluster import Workers, connect, ray_engine
from musicgen.rendering.local import local_engine
from musicgen.rendering.outputs import worker_name

MODEL = ROOT / "models" / "musicgen-nano"
GENRES = ("slow jazz", "fast techno with drums", "moody lofi hip hop", "rock with a guitar", "")


MEETING = 60.0
"""Seconds after which a worker no longer waits for the others: Ray starts fewer where there are few batches."""


class Pinned(Renderer):
    """A renderer on a core of its own, which begins when all others have loaded their model, too."""

    def __init__(self, meeting: Path, number: int, workers_here: int = 1) -> None:
        """Take the first free core."""
        super().__init__("cpu", workers_here)
        self._meeting, self._number = meeting, number
        for core in sorted(os.sched_getaffinity(0)):
            try:
                (meeting / f"core-{core}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.sched_setaffinity(0, {core})
            break
        torch.set_num_threads(1)

    def load(self, piece: Piece) -> Any:
        """Load the model, and wait for the others."""
        model = super().load(piece)
        (self._meeting / f"loaded-{worker_name()}").touch()
        end = time.monotonic() + MEETING
        while len(list(self._meeting.glob("loaded-*"))) < self._number and time.monotonic() < end:
            time.sleep(0.01)
        return model

    @staticmethod
    def began(meeting: Path) -> float:
        """The time at which the last worker had loaded its model."""
        return max(path.stat().st_mtime for path in meeting.glob("loaded-*"))


class Stub(Renderer):
    """Silence at once, in the shape of the bundled model's pieces."""

    def load(self, piece: Piece) -> Any:
        """Load nothing."""
        return SimpleNamespace(sample_rate=16000)

    def capacity(self, model: Any, piece: Piece) -> int:
        """Any number of pieces fits."""
        return 1 << 20

    def sample(self, model: Any, batch: Sequence[Piece]) -> Tensor:
        """Return zeros `[B, K, T]`."""
        return torch.zeros(len(batch), 4, round(batch[0].seconds * 50), dtype=torch.int64)

    def decode(self, model: Any, piece: Piece, codes: Tensor) -> Tensor:
        """Return silence `[C, L]`."""
        return torch.zeros(1, codes.shape[1] * 320)


def write_catalogue(folder: Path, rows: int, seconds: float) -> Path:
    """A catalogue of short rows, whose texts repeat."""
    lines = [
        {"id": f"row-{i:05}", "description": GENRES[i % len(GENRES)], "duration": seconds, "seed": i, "mood": "calm"}
        for i in range(rows)
    ]
    path = folder / "catalogue.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def plain_loop(pieces: Sequence[Piece], folder: Path, most: int) -> float:
    """Seconds of the bare library for the same batches: sample, decode and write, in one process on one core."""
    renderer = Pinned(fresh(folder / "meeting"), 1)
    model = renderer.load(pieces[0])
    began = time.perf_counter()
    from musicgen.generation.generate import generate
    from musicgen.rendering.sounds import encode_sound

    for batch in make_batches(pieces, most):
        codes = generate(model.lm, model.config, renderer._request(model, batch))
        for piece, item in zip(batch, codes, strict=True):
            audio = renderer.decode(model, piece, item)
            (folder / f"{piece.id}.wav").write_bytes(encode_sound(audio, model.sample_rate, "wav"))
    return time.perf_counter() - began


def timed(pieces: Sequence[Piece], folder: Path, engine_of: Callable[[Output, Path], Any]) -> tuple[float, float]:
    """Seconds of a run with its start, and without."""
    out, meeting = fresh(folder / "out"), fresh(folder / "meeting")
    began = time.time()
    summary = run_job(pieces, out, engine_of(Output(out), meeting))
    ended = time.time()
    assert len(summary.made) == len(pieces), summary.failed
    return ended - began, ended - Pinned.began(meeting)


def in_child(action: Callable[[], Any]) -> Any:
    """The result of a function in a process of its own, so that its binding to a core ends with it."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=lambda: answer.put(action()))
    process.start()
    found = answer.get()
    process.join()
    return found


def measure_workers(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Plain loop, one-machine path, and Ray with one and two workers, in turns."""
    path = write_catalogue(folder, args.rows, args.seconds)
    pieces = read_catalogue(path, {"model": str(MODEL), "format": "wav"}).pieces

    def local(output: Output, meeting: Path) -> Any:
        return local_engine(output, most=args.batch, make_renderer=partial(Pinned, meeting, 1))

    def cluster(number: int, output: Output, meeting: Path) -> Any:
        make = partial(Pinned, meeting, number)
        return ray_engine(output, address="local", workers=Workers(number), most=args.batch, make_renderer=make)

    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(args.rounds):
        plain = in_child(lambda: plain_loop(pieces, fresh(folder / "plain"), args.batch))
        found.setdefault("plain loop", []).append((plain, plain))
        found.setdefault("one machine", []).append(in_child(lambda: timed(pieces, folder / "local", local)))
    connect("local")
    for _ in range(args.rounds):
        for number in (1, 2):
            result = timed(pieces, folder / "ray", partial(cluster, number))
            found.setdefault(f"ray, {number} worker{'s' * (number > 1)}", []).append(result)
    rows = []
    for name, samples in found.items():
        whole, work = (min(sample[index] for sample in samples) for index in (0, 1))
        rows.append({"contender": name, "seconds": whole, "work": work, "rows_per_second": args.rows / work})
    plain, one, two = (
        next(r for r in rows if r["contender"] == n) for n in ("plain loop", "ray, 1 worker", "ray, 2 workers")
    )
    for row in rows:
        row["overhead"] = row["work"] / plain["work"] - 1 if row is not two else None
    two["efficiency"], two["efficiency_with_start"] = one["work"] / two["work"] / 2, one["seconds"] / two["seconds"] / 2
    for row in rows:
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
    return rows


def measure_stub(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Many rows of the stub through Ray, the manifest, and a second start of the command."""
    path = write_catalogue(folder, args.stub_rows, 0.1)
    defaults = {"model": str(MODEL), "format": "wav"}
    connect("local")
    rows = []
    for kind in ("webdataset", "files"):
        began = time.perf_counter()
        pieces = read_catalogue(path, defaults).pieces
        checked = time.perf_counter() - began
        out = fresh(folder / kind)
        memory: list[int] = []
        output = Output(out, kind)
        engine = ray_engine(output, address="local", workers=Workers(2), most=args.batch, make_renderer=Stub)
        lines: list[float] = []

        def watch(progress: Any, lines: list[float] = lines, memory: list[int] = memory) -> None:
            lines.append(time.perf_counter())
            memory.append(status("RssAnon"))

        run_job(pieces, out, engine, on_progress=watch)
        work = lines[-1] - lines[0] or 1e-9
        made = args.stub_rows * (len(lines) - 1) / len(lines)
        fifth = memory[len(memory) // 5]
        command = [sys.executable, "-m", "musicgen.rendering", str(path), "--out", str(out), "--format", "wav"]
        began = time.perf_counter()
        again = subprocess.run([*command, "--model", str(MODEL)], cwd=ROOT, capture_output=True, text=True, check=True)
        resumed = time.perf_counter() - began
        assert f"{args.stub_rows} kept" in again.stdout, again.stdout
        row = {
            "contender": f"stub, {kind}",
            "rows_per_second": made / work,
            "check_seconds": checked,
            "resume_seconds": resumed,
            "memory_at_a_fifth": fifth,
            "memory_at_the_end": memory[-1],
        }
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
        rows.append(row)
    return rows


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=("workers", "stub", "all"), default="all")
    parser.add_argument("--rows", type=int, default=400, help="rows for the bundled model")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each of them")
    parser.add_argument("--stub-rows", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=MOST)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        if args.part != "stub":
            rows += measure_workers(args, fresh(Path(folder) / "workers"))
        if args.part != "workers":
            rows += measure_stub(args, fresh(Path(folder) / "stub"))
    finish("rendering", rows)


if __name__ == "__main__":
    main()
