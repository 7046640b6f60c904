"""What stands in for CUDA graphs where no GPU exists: a recorder of torch's operations.

It notes each operation with the very tensors that it read and wrote, undoes what recording did to
them, and replays the operations alone, without running a line of Python again. As with CUDA, a step
that needed a number of Python, a tensor made anew, or a look at a value, breaks there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU = torch.device("cpu")


class Recording(TorchDispatchMode):
    """Notes operations, and the tensors that they change as they were before."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple, dict, Any]] = []
        self.before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default):
            raise RuntimeError("operation not permitted when stream is capturing")
        if func._schema.is_mutable:
            changed = [each for each in (*args, *(kwargs or {}).values()) if _is_tensor(each)][:1]
            self.before += [(tensor, tensor.clone()) for tensor in changed]
        made = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, made))
        return made

    def undo(self) -> None:
        for tensor, value in reversed(self.before):
            tensor.copy_(value)
        self.before.clear()

    def replay(self) -> None:
        for func, args, kwargs, made in self.operations:
            if func._schema.is_mutable:
                func(*args, **kwargs)
                continue
            addresses = {_address(each) for each in tree_leaves((args, kwargs)) if _is_tensor(each)}
            kept = [each for each in tree_leaves(made) if _is_tensor(each)]
            if any(_address(each) in addresses for each in kept):
                continue  # a view, which shows what is there now
            for old, new in zip(kept, [e for e in tree_leaves(func(*args, **kwargs)) if _is_tensor(e)], strict=True):
                old.copy_(new)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class StandIn:
    """What CUDA's recording comes down to, without CUDA."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.refused: str | None = None
        self.live: set[Recording] = set()
        self.closed = False
        self.recorded, self.replayed, self.warmed = 0, 0, 0

    def warm_up(self, function: Callable[[], None]) -> None:
        self.warmed += 1
        function()

    def record(self, function: Callable[[], None]) -> Recording:
        recording = Recording()
        with recording:
            function()
        recording.undo()
        self.recorded += 1
        self.live.add(recording)
        return recording

    def replay(self, graph: Recording) -> None:
        self.replayed += 1
        graph.replay()

    def free(self, graph: Recording) -> None:
        self.live.remove(graph)

    def close(self) -> None:
        assert not self.live
        self.closed = True


class Breaking(StandIn):
    """Raises in the middle of a recording."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error, self.tried = error, 0

    def record(self, function):
        self.tried += 1
        raise self.error


class Cancelled(BaseException):
    """As a host's interruption: no Exception."""


class OlderCancelled(Exception):
    """As the interruption of some hosts: an Exception."""
