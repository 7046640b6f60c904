"""A function over static tensors, recorded once as a CUDA graph and replayed from then on.

A step of decoding launches hundreds of small kernels, and launching them takes the CPU longer than
running them takes the GPU; a graph launches them all at once. It replays the very same addresses, so
the function must find and leave everything in tensors that stay where they are, and may not wait
for the GPU. What is recorded is not run while it is recorded. Nothing here knows what a step is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
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
    """Runs, records and replays; CUDA's is :class:`CudaBackend`."""

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
        """Give back what a graph holds."""
        ...


class CudaBackend:
    """CUDA graphs that share one pool of memory, recorded on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, function: Callable[[], None]) -> None:
        """Run on the side stream, so that libraries prepare what they may not prepare while recording."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            function()
        current.wait_stream(self.stream)

    def record(self, function: Callable[[], None]) -> Any:
        """Record on the side stream."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self.device)
        with torch.cuda.stream(self.stream):
            graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            try:
                function()
            except BaseException:
                self._abandon(graph)
                raise
            graph.capture_end()
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
        """Free the graph once the GPU is done with it."""
        torch.cuda.synchronize(self.device)
        graph.reset()


class GraphedFunction:
    """Calls a function directly at first, then records it, then replays it.

    function: takes tensors, returns nothing, and leaves its results in tensors that it holds. The
    tensors of later calls must have the shapes, dtypes and devices of the first ones; their values
    are copied to where the recording reads them. Where recording fails, `reason` tells why and the
    function is called directly for good. Not for several threads.
    """

    def __init__(self, function: Callable[..., None], backend: Backend, warm_ups: int = 1) -> None:
        self.reason: str | None = None
        self._function, self._backend, self._warm_ups = function, backend, warm_ups
        self._inputs: tuple[Tensor, ...] | None = None
        self._graph: Any = None

    def __call__(self, *arguments: Tensor) -> None:
        """Do what the function does. Raises ValueError when the arguments are unlike the first ones."""
        self._check(arguments)
        if self.reason is not None:
            self._function(*arguments)
            return
        if self._warm_ups:
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
            [f"{each.dtype} {list(each.shape)} on {each.device}" for each in group]
            for group in (arguments, self._inputs)
        )
        if found != wanted:
            raise ValueError(
                f"a recorded function was called with {', '.join(found) or 'nothing'}; allowed is what it was recorded "
                f"with, {', '.join(wanted) or 'nothing'}, so record another one."
            )

    def _record(self) -> bool:
        assert self._inputs is not None
        inputs = self._inputs
        try:
            self._graph = self._backend.record(lambda: self._function(*inputs))
        except Exception as error:
            line = f"{type(error).__name__} {error}".splitlines()[0]
            self.reason = f"the step could not be recorded ({line})"
            logger.warning("Decoding goes on without CUDA graphs: %s.", self.reason)
        return self._graph is not None
