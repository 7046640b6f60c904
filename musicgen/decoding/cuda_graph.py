"""A function over static tensors, recorded once as a CUDA graph and replayed from then on.

A step of decoding launches hundreds of small kernels, and launching them takes the CPU longer than
running them takes the GPU; a graph launches them all at once. It replays the very same addresses, so
the function must find and leave everything in tensors that stay where they are, and may not wait
for the GPU. What is recorded is not run while it is recorded. Nothing here knows what a step is.
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
    """A clause that tells why steps cannot be graphs on this device; None where they can."""
    if device.type != "cuda":
        return f"CUDA graphs are for CUDA devices and this one is {device.type}"
    if torch.version.hip is not None:
        return "graphs of ROCm are not tried"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return None


class Backend(Protocol):
    """Runs, records and replays, for one run; CUDA's is :class:`CudaBackend`.

    refused: why a recording failed in this run, after which no other is tried; None as long as none did.
    """

    refused: str | None

    def warm_up(self, function: Callable[[], None]) -> None:
        """Run a function where it will be recorded."""
        ...

    def record(self, function: Callable[[], None]) -> Any:
        """Record a function without running it. Whatever it raises passes through, and no recording goes on."""
        ...

    def replay(self, graph: Any) -> None:
        """Run what was recorded."""
        ...

    def free(self, graph: Any) -> None:
        """Give back what a graph holds, once nothing runs it any more."""
        ...

    def close(self) -> None:
        """Give back what graphs shared; all of them are free by then."""
        ...


class CudaBackend:
    """CUDA graphs that share one pool of memory, recorded on a side stream.

    A pool lives as long as a graph that was recorded into it, and torch takes none back to life. So
    the first graph of a run stays until `close`, and the next windows find its pool.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.refused: str | None = None
        self._stream = _side_stream(device)
        self._first: Any = None

    def warm_up(self, function: Callable[[], None]) -> None:
        """Run on the side stream, so that libraries prepare what they may not prepare while recording."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            function()
        current.wait_stream(self._stream)

    def record(self, function: Callable[[], None]) -> Any:
        """Record on the side stream. Other threads may go on with the GPU meanwhile."""
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
        except RuntimeError as error:  # a recording that broke also fails to end, and is over all the same
            logger.debug("Ending a broken recording: %s", error)
        graph.reset()

    def replay(self, graph: Any) -> None:
        """Launch on the current stream."""
        graph.replay()

    def free(self, graph: Any) -> None:
        """Free the graph once the GPU is done with it; the one that holds the pool stays until `close`."""
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
    """One stream for all runs: the work space that cuBLAS takes for a stream is not given back."""
    return torch.cuda.Stream(device)


@contextmanager
def _no_collection() -> Iterator[None]:
    # What Python collects in mid-recording may free something of CUDA's, which a recording does not survive.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class GraphedFunction:
    """Calls a function directly at first, then records it, then replays it.

    function: takes tensors, returns nothing, and leaves its results in tensors that it holds. The
    tensors of later calls must have the shapes, dtypes and devices of the first ones; their values
    are copied to where the recording reads them. Where recording fails, the backend's `refused`
    tells why, and this and all other functions of the run are called directly from then on. What is
    no RuntimeError, such as a host's interruption, passes through. Not for several threads.
    """

    def __init__(self, function: Callable[..., None], backend: Backend, warm_ups: int = 1) -> None:
        self._function, self._backend, self._warm_ups = function, backend, warm_ups
        self._inputs: tuple[Tensor, ...] | None = None
        self._graph: Any = None

    def __call__(self, *arguments: Tensor) -> None:
        """Do what the function does. Raises ValueError when the arguments are unlike the first ones."""
        self._check(arguments)
        if self._warm_ups and self._backend.refused is None:
            self._warm_ups -= 1
            self._backend.warm_up(lambda: self._function(*arguments))
            return
        if self._graph is None and not self._record():
            self._function(*arguments)
            return
        assert self._inputs is not None
        for kept, given in zip(self._inputs, arguments, strict=True):
            kept.copy_(given)
        self._backend.replay(self._graph)

    def free(self) -> None:
        """Give back what the recording holds; a further call would record anew."""
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
                f"a recorded function was called with {told[0]}; allowed is what it was recorded with, {told[1]}, so "
                "record another one."
            )

    def _record(self) -> bool:
        """Whether there is a recording now."""
        assert self._inputs is not None
        inputs = self._inputs
        if self._backend.refused is not None:
            return False
        try:
            self._graph = self._backend.record(lambda: self._function(*inputs))
        except RuntimeError as error:  # as all of CUDA's are
            line = f"{type(error).__name__} {error}".splitlines()[0]
            self._backend.refused = f"the step could not be recorded ({line})"
            logger.warning("Decoding goes on without CUDA graphs: %s.", self._backend.refused)
        return self._graph is not None
