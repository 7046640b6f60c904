"""Functions recorded as CUDA graphs, and their time on the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def recorded(action: Callable[[], Any]) -> Callable[[], Any]:
    """Return the replay of an action; without a card, the action."""
    if not torch.cuda.is_available():
        return action
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        action()
        action()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph.replay


def microseconds(action: Callable[[], Any], repeats: int = 30) -> float:
    """Measure the middle of several runs, by the device's own clock where there is a card."""
    if not torch.cuda.is_available():
        began = time.perf_counter()
        action()
        return round((time.perf_counter() - began) * 1e6, 1)
    for _ in range(3):
        action()
    samples = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        action()
        end.record()
        torch.cuda.synchronize()
        samples.append(start.elapsed_time(end) * 1e3)
    return round(statistics.median(samples), 1)
