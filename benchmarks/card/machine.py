"""The card's own limits: its speed of reading and copying memory, the cost of a node of a graph, NVRTC."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import torch
from measuring import bandwidth, seconds

from .report import Report

_QUERY = "driver_version,clocks.sm,clocks.mem,memory.total"
_SOURCE = """
extern "C" __global__ void add(float* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] += 1.f;
}
"""


def run(report: Report) -> None:
    """Take all measurements of this step."""
    report.attempt("versions", lambda: _versions(report))
    report.attempt("memory", lambda: _memory(report))
    if not report.dry:
        report.attempt("nodes of a graph", _nodes)
        report.attempt("nvrtc", _nvrtc)


def _versions(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = {"torch": torch.__version__, "device": str(report.device)}
    if not report.dry:
        properties = torch.cuda.get_device_properties(report.device)
        found |= {"card": properties.name, "multiprocessors": properties.multi_processor_count}
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
        found["driver"] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return found


def _memory(report: Report) -> dict[str, Any]:
    """Read by a sum over 1 GiB, and copied; a copy reads and writes each byte. In TB/s."""
    length = 1 << (20 if report.dry else 30)
    source = torch.zeros(length, dtype=torch.uint8, device=report.device)
    target = torch.empty_like(source)
    target.copy_(source)
    copied = 2 * length / min(seconds(lambda: target.copy_(source), report.device) for _ in range(10))
    found = {"copy_tb_per_s": round(copied / 1e12, 3)}
    return found if report.dry else found | {"read_tb_per_s": round(bandwidth(report.device, 10) / 1e12, 3)}


def _nodes() -> dict[str, Any]:
    """Microseconds that each node adds to a replayed graph."""
    from .recorded import microseconds, recorded

    numbers = torch.zeros(2048, device="cuda")

    def chain(length: int) -> None:
        for _ in range(length):
            numbers.add_(1)

    taken = {length: microseconds(recorded(lambda length=length: chain(length))) for length in (100, 1000)}  # type: ignore[misc]
    return {"us_per_node": round((taken[1000] - taken[100]) / 900, 3)}


def _nvrtc() -> dict[str, Any]:
    """Whether torch compiles CUDA source without a compiler on the machine."""
    kernel = torch.cuda._compile_kernel(_SOURCE, "add")
    numbers = torch.zeros(1000, device="cuda")
    kernel(grid=(8, 1, 1), block=(128, 1, 1), args=(numbers, 1000))
    return {"right": bool((numbers == 1).all())}
