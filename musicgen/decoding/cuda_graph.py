"""A function over static tensors, recorded once as a CUDA graph and replayed from then on.

A decoding step launches hundreds of small kernels, and the CPU takes longer to launch them than the
GPU takes to run them; a graph launches them all at once. A graph replays fixed addresses, so the
function must read and write tensors that are never reallocated, and must not wait for the GPU.
Recording a function does not run it. This module knows nothing about decoding.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

logger = logging.getLogger("musicgen")


def why_no_graphs(device: torch.device) -> str | None:
    """Return a clause that says why this device cannot replay graphs, or None if it can."""
    if device.type != "cuda":
        return f"CUDA graphs are for CUDA devices and this one is {device.type}"
    if torch.version.hip is not None:
        return "graphs of ROCm are not tried"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return None


class Backend(Protocol):
    """Run, record and replay functions during one run; :class:`CudaBackend` does it for CUDA.

    Attributes:
        refused: why a recording failed in this run; no other is tried after that. None until then.
    """

    refused: str | None

    def warm_up(self, function: Callable[[], None]) -> None:
        """Run a function on the stream that will record it."""
        ...

    def record(self, function: Callable[[], None]) -> Any:
        """Record a function without running it and return the graph. An exception ends the recording and propagates."""
        ...

    def replay(self, graph: Any) -> None:
        """Run a graph."""
        ...

    def free(self, graph: Any) -> None:
        """Release a graph's memory once the device has finished running it."""
        ...

    def close(self) -> None:
        """Release the memory that the graphs shared. Free all of them first."""
        ...


class CudaBackend:
    """CUDA graphs that share one memory pool, recorded on a side stream.

    A pool exists only while some graph recorded into it exists, and torch cannot reopen a freed one.
    The first graph of a run is therefore kept until `close`, so that later windows can share its pool.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.refused: str | None = None
        self._stream = _side_stream(device)
        self._first: Any = None

    def warm_up(self, function: Callable[[], None]) -> None:
        """Run on the side stream, so that libraries allocate the workspaces that a recording may not allocate."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            function()
        current.wait_stream(self._stream)

    def record(self, function: Callable[[], None]) -> Any:
        """Record on the side stream. Other threads may use the GPU meanwhile."""
        graph = torch.cuda.CUDAGraph()
        options: dict[str, Any] = {} if self._first is None else {"pool": self._first.pool()}
        torch.cuda.synchronize(self.device)
        with torch.cuda.stream(self._stream), _no_collection():
            try:
                graph.capture_begin(**options, capture_error_mode="thread_local")
                function()
                graph.capture_end()
            except BaseException:
                self._abandon(graph)
                raise
        self._first = self._first or graph
        return graph

    def _abandon(self, graph: Any) -> None:
        try:
            graph.capture_end()
        except RuntimeError as error:  # capture_end raises for a failed recording, but does end it
            logger.debug("Ending a failed recording: %s", error)
        graph.reset()

    def replay(self, graph: Any) -> None:
        """Launch a graph on the current stream."""
        graph.replay()

    def free(self, graph: Any) -> None:
        """Wait for the GPU and free the graph; the first graph holds the pool and is kept until `close`."""
        if graph is not self._first:
            torch.cuda.synchronize(self.device)
            graph.reset()

    def close(self) -> None:
        """Free the pool."""
        if self._first is not None:
            torch.cuda.synchronize(self.device)
            self._first.reset()
        self._first = None


@cache
def _side_stream(device: torch.device) -> Any:
    """Return one stream for all runs, since cuBLAS never frees the workspace that it allocates per stream."""
    return torch.cuda.Stream(device)


@contextmanager
def _no_collection() -> Iterator[None]:
    # A garbage collection may free CUDA memory, and that would invalidate the recording in progress.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class GraphedFunction:
    """Call a function directly at first, then record it, then replay the recording.

    If recording raises RuntimeError, the backend's `refused` says why, and every function of the run
    is called directly from then on. Any other exception, such as a host's interruption, propagates.
    Use from one thread only.
    """

    def __init__(self, function: Callable[..., None], backend: Backend, warm_ups: int = 1) -> None:
        """Keep the function; nothing runs yet.

        Args:
            function: takes tensors, returns nothing, and writes its results to tensors that it holds.
            backend: records and replays for this run.
            warm_ups: how many calls run directly before the recording.
        """
        self._function, self._backend, self._warm_ups = function, backend, warm_ups
        self._inputs: tuple[Tensor, ...] | None = None
        self._graph: Any = None

    def __call__(self, *arguments: Tensor) -> None:
        """Run the function on these arguments.

        Raises:
            ValueError: a shape, dtype or device differs from the first call's.
        """
        self._check(arguments)
        if self._warm_ups and self._backend.refused is None:
            self._warm_ups -= 1
            self._backend.warm_up(lambda: self._function(*arguments))
            return
        if self._graph is None and not self._record():
            self._function(*arguments)
            return
        assert self._inputs is not None
        # The recording reads fixed addresses, so copy the new values there.
        for kept, given in zip(self._inputs, arguments, strict=True):
            kept.copy_(given)
        self._backend.replay(self._graph)

    def free(self) -> None:
        """Release the recording; a further call would record again."""
        if self._graph is not None:
            self._backend.free(self._graph)
        self._graph = None

    def _check(self, arguments: tuple[Tensor, ...]) -> None:
        if self._inputs is None:
            self._inputs = tuple(torch.empty_like(each).copy_(each) for each in arguments)
        found, wanted = (
            [(each.dtype, each.shape, each.device) for each in group] for group in (arguments, self._inputs)
        )
        if found != wanted:
            told = [", ".join(f"{d} {list(s)} on {at}" for d, s, at in group) or "nothing" for group in (found, wanted)]
            raise ValueError(
                f"a recorded function was called with {told[0]}; allowed is a call like the recorded one, with "
                f"{told[1]}; record another function for other arguments."
            )

    def _record(self) -> bool:
        """Try to record; return whether it succeeded."""
        assert self._inputs is not None
        inputs = self._inputs
        if self._backend.refused is not None:
            return False
        try:
            self._graph = self._backend.record(lambda: self._function(*inputs))
        except RuntimeError as error:  # every CUDA error is one
            line = f"{type(error).__name__} {error}".splitlines()[0]
            self._backend.refused = f"the step could not be recorded ({line})"
            logger.warning("Decoding goes on without CUDA graphs: %s.", self._backend.refused)
        return self._graph is not None
