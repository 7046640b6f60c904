"""Everything that a card has to show, in one command of eight minutes: right first, then how fast.

Theory. A step of batch 1 reads every weight once for its two rows (guidance has two), so the card's speed of reading
memory, which is measured here first, sets its limit: 4,750 steps a second of small in bfloat16 at 4.13 TB/s. Far below
that stand two other costs: each kernel of a step takes about 1 microsecond to begin, and a step has some hundreds of
them; and without a recorded graph the CPU launches each one. So pieces are measured with the kernels of their steps.

Right means: recorded steps equal unrecorded ones; codes in float32 are the CPU's; item i of a batch is the solo run;
memory is given back; a cancelled piece leaves nothing behind; the codec agrees with the CPU's; and the nodes do the
same in ComfyUI's own modules in three modes. Each step runs in a process of its own under its own time limit, the most
valuable first, and writes each result to a file of JSON lines as it comes; so a step that ends early costs no other
its results. The steps are machine, forms, small, codec, nodes-default, large, products, nodes-legacy, nodes-nographs
and medium.

    python benchmarks/gpu.py --out .gpu
    python benchmarks/gpu.py --out .gpu --only machine small large
    python benchmarks/gpu.py --dry-run

A dry run takes one step of each kind on the CPU with tiny shapes, and shows that the program works; its times say
nothing. Results are in `results.jsonl` in the folder, and the messages of each step beside it. The command prints a
table and one line of JSON for machines, and returns 1 where a check was wrong or failed.

A machine with a card may have torch, torchaudio, transformers, safetensors and Triton, and nothing else. Then

    python benchmarks/gpu.py --pack

writes `.gpu/card.tar.xz` (below 64 MiB; git ignores the folder) with everything that is missing: the repository,
ComfyUI's Python and the packages that both need. There, beside the archive, run

    mkdir -p /tmp/card && tar xJf card.tar.xz -C /tmp/card && cd /tmp/card/pack
    export PYTHONPATH=/tmp/card/site COMFYUI_DIR=/tmp/card/ComfyUI
    python3 benchmarks/gpu.py --out /tmp/card/out
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MINUTES = 8.0


@dataclass(frozen=True)
class Step:
    """One process: its name, its seconds at most, and whether a dry run takes it."""

    name: str
    limit: float
    dry: bool = True


STEPS = (
    Step("machine", 30),
    Step("forms", 100),
    Step("small", 80),
    Step("codec", 40),
    Step("nodes-default", 50),
    Step("large", 60, dry=False),
    Step("products", 60),
    Step("nodes-legacy", 45, dry=False),
    Step("nodes-nographs", 45, dry=False),
    Step("medium", 50, dry=False),
)
DRY_LIMIT = 240.0
"""Seconds of a step of a dry run, which may run on a busy machine."""


def run_step(name: str, results: Path, dry: bool) -> None:
    """Run one step in this process."""
    kind, _, mode = name.partition("-")
    if kind == "nodes" and not dry:
        from card import hosted

        hosted.prepare(mode)
    if kind == "products" and dry:
        os.environ["TRITON_INTERPRET"] = "1"
    import torch
    from card.report import Report

    report = Report(results, name, torch.device("cpu" if dry else "cuda"))
    if kind == "nodes":
        from card import hosted

        hosted.run(report, mode)
    elif kind in ("small", "medium", "large"):
        from card import speed

        speed.run(report, kind)
    elif kind == "machine":
        from card import machine

        machine.run(report)
    elif kind == "forms":
        from card import forms

        forms.run(report)
    elif kind == "codec":
        from card import sound

        sound.run(report)
    else:
        from card import products

        products.run(report)


def read_rows(results: Path, start: int = 0) -> list[dict[str, Any]]:
    """Return the lines of the file from a position on; a line that was cut off is left out."""
    rows = []
    for line in results.read_text(encoding="utf-8")[start:].splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def run_process(step: Step, out: Path, limit: float, dry: bool) -> str | None:
    """Run one step in a process of its own; return why it ended early, or None."""
    command = [sys.executable, str(Path(__file__).resolve()), "--step", step.name, "--out", str(out)]
    with (out / f"{step.name}.log").open("w", encoding="utf-8") as log:
        try:
            code = subprocess.run(
                [*command, *(["--dry-run"] if dry else [])], stdout=log, stderr=log, timeout=limit, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            return f"it was stopped after {limit:.0f} s"
    return None if code == 0 else f"it ended with code {code}: {_last_line(out / f'{step.name}.log')}"


def _last_line(log: Path) -> str:
    return (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing was written"])[-1][:300]


def run_all(steps: list[Step], out: Path, minutes: float, dry: bool) -> list[dict[str, Any]]:
    """Run steps one after the other until the time is over; return all rows."""
    results = out / "results.jsonl"
    results.touch()
    start, end = len(results.read_text(encoding="utf-8")), time.monotonic() + 60 * minutes
    for step in steps:
        left = end - time.monotonic()
        limit = min(DRY_LIMIT if dry else step.limit, left)
        shown = len(results.read_text(encoding="utf-8"))
        failed = run_process(step, out, limit, dry) if left > 5 else "no time was left for it"
        if failed:
            with results.open("a", encoding="utf-8") as file:
                file.write(
                    json.dumps({"step": step.name, "check": "the process", "wrong": [], "failed": failed}) + "\n"
                )
        for row in read_rows(results, shown):
            show(row)
    return read_rows(results, start)


def show(row: dict[str, Any]) -> None:
    """Print a row of the table."""
    hidden = ("step", "check", "wrong", "where", "top")
    figures = ", ".join(f"{name} {value}" for name, value in row.items() if name not in hidden)
    mark = "FAILED" if "failed" in row else "WRONG" if row["wrong"] else ""
    print(f"{row['step']:15} {row['check']:36} {mark:7} {figures}"[:400], flush=True)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [step.name for step in STEPS]
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu", help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=names, help="steps to run, in the order of all")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time of all steps together")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--pack", action="store_true", help="write .gpu/card.tar.xz and run nothing")
    parser.add_argument("--step", choices=names, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.pack:
        from card import packing

        comfyui = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".host" / "ComfyUI")
        archive = options.out / "card.tar.xz"
        print(f"{packing.write_archive(archive, comfyui) / 2**20:.1f} MiB: {archive}")
        return 0
    if options.step:
        run_step(options.step, options.out / "results.jsonl", options.dry_run)
        return 0
    import torch
    from measuring import finish

    if not options.dry_run and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here; run it where one is, or try the program with --dry-run.")
    steps = [step for step in STEPS if (step.name in options.only if options.only else step.dry or not options.dry_run)]
    rows = run_all(steps, options.out, options.minutes, options.dry_run)
    finish("gpu", rows, dry_run=options.dry_run)
    return int(any("failed" in row or row["wrong"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
