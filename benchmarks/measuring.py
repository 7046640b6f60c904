"""Shared by the benchmarks: the machine's own limits, rounds that take turns, memory, and how figures are shown.

Machines are shared and noisy, so a figure alone says little: contenders are measured in turns
within one process, and every figure comes with its least, middle and largest sample.
"""

from __future__ import annotations

import ctypes
import json
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the benchmarks run as scripts, which see only their own folder

_BLOCK_BYTES = 1 << 30


def machine() -> dict[str, Any]:
    """The hardware and the versions of a measurement, without names of machines."""
    cpu = platform.processor() or platform.machine()
    known = Path("/proc/cpuinfo")
    for line in known.read_text(encoding="utf-8").splitlines() if known.exists() else []:
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": date.today().isoformat(),
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
    }


def bandwidth(device: torch.device | str = "cpu", repeats: int = 5) -> float:
    """Measure the bytes per second at which the device reads its memory: the best of several sums over 1 GiB."""
    numbers = torch.ones(_BLOCK_BYTES // 4, device=device)
    numbers.sum()
    return _BLOCK_BYTES / min(seconds(numbers.sum, device) for _ in range(repeats))


def seconds(action: Callable[[], Any], device: torch.device | str = "cpu") -> float:
    """Measure the wall time of one call; the device's queue is emptied before and after."""
    _synchronize(device)
    began = time.perf_counter()
    action()
    _synchronize(device)
    return time.perf_counter() - began


def _synchronize(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(
    actions: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device | str = "cpu"
) -> dict[str, list[float]]:
    """Measure the seconds of each action, one after the other in every round, after one uncounted round."""
    samples: dict[str, list[float]] = {name: [] for name in actions}
    for index in range(rounds + 1):
        for name, action in actions.items():
            taken = seconds(action, device)
            if index:
                samples[name].append(taken)
    return samples


def spread(samples: list[float], scale: float = 1.0) -> str:
    """Format the smallest, middle and largest sample as a cell of a table."""
    low, middle, high = (scale * f(samples) for f in (min, statistics.median, max))
    return f"{low:.3g} {middle:.3g} {high:.3g}"


def compare(
    samples: Mapping[str, Mapping[str, list[float]]], figures: Iterable[str] | None = None
) -> list[dict[str, Any]]:
    """Print and return the samples of two contenders, a row for each figure.

    `ratio` is the median over the rounds of the second to the first, `ratio_of_least` that of their least samples.
    """
    one, other = samples
    rows = []
    print(f"{'':10}{one:>24}{other:>24}{'ratio':>8}{'least':>8}")
    for what in samples[one] if figures is None else figures:
        first, second = samples[one][what], samples[other][what]
        ratio = statistics.median(b / a for a, b in zip(first, second, strict=True))
        least = min(second) / min(first)
        rows.append({"what": what, one: first, other: second, "ratio": ratio, "ratio_of_least": least})
        print(f"{what:10}{spread(first):>24}{spread(second):>24}{ratio:8.3f}{least:8.3f}")
    return rows


def status(field: str) -> int:
    """Read a figure of this process's memory in bytes. Linux only."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


class Anonymous(threading.Thread):
    """Measure the peak of anonymous memory, every few milliseconds. Linux only."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.over = 0, threading.Event()

    def run(self) -> None:
        """Read the memory until `over` is set."""
        while not self.over.wait(0.005):
            self.peak = max(self.peak, status("RssAnon"))


def peak_memory(action: Callable[[], Any]) -> int:
    """Bytes of resident memory that one call adds at most. Linux only."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # memory that earlier calls left to the allocator would hide the memory of this one
        trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = status("VmRSS")
    action()
    return status("VmHWM") - before


def finish(benchmark: str, rows: list[dict[str, Any]], **more: Any) -> None:
    """Print the results as one line of JSON."""
    print(json.dumps({"benchmark": benchmark, "machine": machine(), **more, "rows": rows}))
