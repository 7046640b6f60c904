"""A second device for a machine without one: tensors with their numbers on the CPU and the label of another device.

An operation that mixes labels raises, as it would on a GPU. Every wait for the device is counted: a number that is
read, a copy to the CPU, a shape that depends on numbers. Two things that a GPU allows are allowed: a CPU tensor of no
dimensions beside one of the device, and indices on the CPU, which are counted as waits too.

The label is `meta`, the one device that any build of torch can make tensors of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

LABEL = torch.device("meta")
_COPIES = ("aten._to_copy", "aten.copy_")
_WAITS = ("aten._local_scalar_dense", "aten.equal", "aten.nonzero", "aten.masked_select", "aten._unique2")


class LabelledTensor(Tensor):
    """Numbers on the CPU under the label of another device."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> LabelledTensor:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            numbers.shape,
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=LABEL,
        )
        made.numbers = numbers
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"LabelledTensor({self.numbers})"

    def tolist(self) -> Any:
        """The numbers; a wait."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} met a tensor of the labelled device outside of `labelled_device()`.")


class LabelledDevice(TorchDispatchMode):
    """Runs every operation on the numbers, and checks and keeps the labels."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        """Operations that waited for the device, and how often."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch.is_inference_mode_enabled():
            # Only there operations come here that are made of others.
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        name = str(func).rpartition(".")[0]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        labelled = [tensor for tensor in tensors if isinstance(tensor, LabelledTensor)]
        plain = [tensor for tensor in tensors if not isinstance(tensor, LabelledTensor) and tensor.dim() > 0]
        target = kwargs.get("device")
        if name == "aten.copy_":
            self._note_copy(labelled, plain)
            func(*tree_map(_numbers, args), **kwargs)
            return args[0]
        if name == "aten._to_copy":
            there = bool(labelled) if target is None else torch.device(target) == LABEL
            if labelled and not there:
                self.waits["to the CPU"] += 1
            kept = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory")}
            made = func(_numbers(args[0]), **kept)
            return LabelledTensor(made) if there else made
        if labelled:
            self._check(name, labelled, plain, args)
        there = bool(labelled) or (target is not None and torch.device(target) == LABEL)
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        result = func(*tree_map(_numbers, args), **tree_map(_numbers, kwargs))
        if not there:
            return result
        if str(func).partition("::")[2].rpartition(".")[0].endswith("_") or name.endswith("_"):
            return args[0]
        return tree_map(lambda each: LabelledTensor(each) if type(each) is Tensor else each, result)

    def _note_copy(self, labelled: list[LabelledTensor], plain: list[Tensor]) -> None:
        if labelled and plain:
            self.waits["copy between devices"] += 1

    def _check(self, name: str, labelled: list[LabelledTensor], plain: list[Tensor], args: Any) -> None:
        indexed = name in ("aten.index", "aten.index_put_", "aten.index_put")
        if plain and not (indexed and isinstance(args[0], LabelledTensor)):
            shapes = [tuple(tensor.shape) for tensor in plain]
            raise RuntimeError(f"{name} mixes the labelled device with tensors {shapes} of the CPU.")
        masks = indexed and any(isinstance(each, Tensor) and each.dtype == torch.bool for each in args[1])
        if name in _WAITS or masks or (indexed and plain):
            self.waits[name] += 1


class _NumbersOfPython(TorchFunctionMode):
    """Makes tensors of Python's numbers on the CPU and moves them, since `torch.tensor` drops the numbers of `meta`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor) and device is not None and torch.device(device) == LABEL:
            return func(*args, **{**kwargs, "device": "cpu"}).to(LABEL)
        return func(*args, **kwargs)


def _numbers(value: Any) -> Any:
    return value.numbers if isinstance(value, LabelledTensor) else value


@contextmanager
def labelled_device() -> Iterator[LabelledDevice]:
    """Make `LABEL` a device that computes, until the end; yields the counts of waits."""
    with sdpa_kernel(SDPBackend.MATH), _NumbersOfPython(), LabelledDevice() as device:
        yield device
