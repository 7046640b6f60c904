"""Linear layers that read their weights fast on a CPU, where a decoding step does little else.

A step multiplies a few rows by every weight of the model, so it lasts as long as reading the
weights. The usual product reads them at a quarter of the memory's speed; three others are faster.
float32 weights use the usual product over 16 parts of the matrix. float16 and int8 weights use
FBGEMM, the x86 library inside torch, which packs the matrix in an order of its own. All other
devices and processors use the usual product.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..free_memory import require_memory
from .large_pages import LargePages

_PARTS = 16
_FEW_ROWS = 32
_SMALL = 1 << 20
_BLOCK_INPUTS, _BLOCK_OUTPUTS = 512, 16
_ENDS = torch.tensor([[-1.0, *[1.0] * 7]])
_TINY = torch.finfo(torch.float32).tiny
_PACKED, _UNROUNDED, _ROUNDED = range(3)
_PLAIN = ContextVar("_PLAIN", default=_PACKED)
# The overloads themselves, since resolving them takes a third of a short call.
_multiply_float16 = torch.ops.quantized.linear_dynamic_fp16.default
_multiply_int8 = torch.ops.quantized.linear_dynamic.default


@cache
def reads_float16() -> bool:
    """Return whether this processor has the fast product of float32 inputs and float16 weights."""
    return _works(pack_float16, _multiply_float16)


@cache
def reads_int8() -> bool:
    """Return whether this processor has the fast product with int8 weights."""
    return _works(pack_int8, int8_product)


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def _works(pack: Any, product: Any) -> bool:
    if not _is_x86() or "fbgemm" not in torch.backends.quantized.supported_engines:
        return False
    numbers = torch.linspace(-1.0, 1.0, 16 * 32).view(16, 32)
    try:
        result = product(numbers[:2], pack(numbers))
    except (RuntimeError, NotImplementedError):
        return False
    return torch.allclose(result, numbers[:2] @ numbers.T, atol=0.3)


def pack_float16(weight: Tensor) -> Any:
    """Pack weights `[outputs, inputs]` for the float16 product. Numbers beyond the range of float16 saturate.

    Raises:
        MemoryError: there is too little memory for the packed weights.
    """
    numbers = weight.float()
    # FBGEMM writes to the memory that it asked for, whether it got it or not.
    require_memory(_packed_bytes(weight), "weights were packed for this processor")
    return torch.ops.quantized.linear_prepack_fp16(numbers, None)


def _packed_bytes(weight: Tensor) -> int:
    """Bytes of a matrix that FBGEMM packed in float16: its inputs fill blocks of 512, its outputs blocks of 16."""
    outputs, inputs = weight.shape
    return 2 * -(-inputs // _BLOCK_INPUTS) * _BLOCK_INPUTS * -(-outputs // _BLOCK_OUTPUTS) * _BLOCK_OUTPUTS


def pack_int8(weight: Tensor) -> Any:
    """Round weights `[outputs, inputs]` to int8, one scale per output, and pack them for the int8 product."""
    numbers = torch.nn.functional.pad(weight.float(), (0, _ENDS.shape[1]))
    scales = (numbers.abs().amax(dim=1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    zeros = torch.zeros(len(scales), dtype=torch.long)
    return torch.ops.quantized.linear_prepack(torch.quantize_per_channel(numbers, scales, zeros, 0, torch.qint8), None)


def few_rows_product(x: Tensor, weight: Tensor) -> Tensor:
    """Compute `x @ weight.T` in float32 for x `[rows, inputs]`, as 16 parts that MKL reads twice as fast as one."""
    rows, inputs = x.shape
    parts = weight.view(_PARTS, -1, inputs).transpose(1, 2)  # [parts, inputs, outputs / parts]
    return torch.bmm(x.expand(_PARTS, rows, inputs), parts).transpose(0, 1).reshape(rows, -1)


def int8_product(x: Tensor, packed: Any) -> Tensor:
    """Multiply x `[rows, inputs]` by packed int8 weights, each row rounded by its own scale.

    FBGEMM rounds all rows by one scale, taken from the largest number in any of them. Each row is
    therefore scaled to the range -1 to 1 first, and padding columns with weight 0 hold -1 and 1, so
    that a row's result does not depend on the rows beside it.
    """
    largest = x.abs().amax(dim=1, keepdim=True).clamp_min_(_TINY)
    padded = torch.cat([x / largest, _ENDS.expand(len(x), -1)], dim=1)
    # Round the inputs to 7 bits: pairs of 8-bit products overflow on processors without VNNI.
    return _multiply_int8(padded, packed, True).mul_(largest)


def _is_quick(x: Tensor, weight: Tensor) -> bool:
    rows, outputs = len(x), len(weight)
    return rows <= _FEW_ROWS and weight.dtype == torch.float32 and outputs % _PARTS == 0 and weight.numel() >= _SMALL


def round_rows(weight: Tensor, pages: LargePages | None = None) -> tuple[Tensor, Tensor]:
    """Round `[outputs, inputs]` to int8 as it lies: the numbers, and one float32 scale per output."""
    wide = weight.float()
    scales = (wide.abs().amax(dim=1) / 127).clamp_min(_TINY)
    numbers = (pages or LargePages()).zeros(weight.shape, torch.int8)
    return numbers.copy_((wide / scales[:, None]).round_()), scales


def rounded_rows(layer: nn.Linear, pages: LargePages | None = None) -> tuple[Tensor, Tensor] | None:
    """The weights of a layer of :func:`quick_operations` as :func:`round_rows` gives them, made once; None where the
    layer's weights are to be read as they are. pages: where they go."""
    if not getattr(layer, "_rounds", False):
        return None
    return layer._pack(layer.weight, "rows", partial(round_rows, pages=pages))  # type: ignore[operator]


@contextmanager
def plain_weights(*, rounded: bool = False) -> Iterator[None]:
    """Make no packed copy of weights meanwhile: a product widens them as it comes. For a few large products.

    rounded: whether weights that :func:`rounded_rows` has rounded are taken as it made them.
    """
    token = _PLAIN.set(_ROUNDED if rounded else _UNROUNDED)
    try:
        yield
    finally:
        _PLAIN.reset(token)


@dataclass(frozen=True)
class _Packed:
    """A packed weight and its source. Holding the source keeps its address from being reused by another weight."""

    source: Tensor
    form: str
    weight: Any

    def __deepcopy__(self, memo: Any) -> None:
        return None


def matrices(module: nn.Module) -> set[str]:
    """Return the names of the weights in a module that a fast product can read: Linear layers without a bias."""
    return {f"{name}.weight" for name, m in module.named_modules() if isinstance(m, nn.Linear) and m.bias is None}


def quick_operations(base: Any, *, int8: bool = False) -> Any:
    """Return the leaf layers of `base` (torch.nn or a host's drop-in) with a Linear that is fast on a CPU.

    The layer takes float32 inputs and weights in float16 or float32; with `int8` it rounds them to
    int8 at the first product. Weights stay ordinary parameters that a host may replace; a packed
    copy is made when it is first needed.
    """

    class Linear(base.Linear):
        """A linear layer that is fast if it has no bias."""

        weight_function: Any = getattr(base.Linear, "weight_function", ())
        _packed: _Packed | None = None
        _rounds = int8

        def forward(self, x: Tensor) -> Tensor:
            """Map x `[..., inputs]` to `[..., outputs]`."""
            weight = self.weight
            # A host that has yet to patch the weight does so in its own forward.
            on_cpu = x.is_cpu and weight.is_cpu and x.dtype == torch.float32
            if self.bias is not None or self.weight_function or not on_cpu:
                return super().forward(x)
            flat = x.reshape(-1, x.shape[-1])  # [rows, inputs]
            if _PLAIN.get() and weight.dtype != torch.float32:
                wide = self._widened(weight)
                made = few_rows_product(flat, wide) if _is_quick(flat, wide) else torch.nn.functional.linear(flat, wide)
            elif int8 and reads_int8() and not _PLAIN.get():
                made = int8_product(flat, self._pack(weight, "int8", pack_int8))
            elif weight.dtype == torch.float16 and reads_float16():
                made = _multiply_float16(flat, self._pack(weight, "float16", pack_float16))
            elif _is_quick(flat, weight):
                made = few_rows_product(flat, weight)
            else:
                return super().forward(x)
            return made.view(*x.shape[:-1], -1)

        def _widened(self, weight: Tensor) -> Tensor:
            """The weights in float32, for once."""
            if _PLAIN.get() != _ROUNDED or self._packed is None or self._packed.form != "rows":
                return weight.float()
            numbers, scales = self._packed.weight
            return numbers * scales[:, None]

        def _pack(self, weight: Tensor, form: str, pack: Any) -> Any:
            kept = self._packed
            if kept is None or kept.form != form or kept.source.data_ptr() != weight.data_ptr():
                self._packed = kept = _Packed(weight.detach(), form, pack(weight))
            return kept.weight

    return SimpleNamespace(Linear=Linear, LayerNorm=base.LayerNorm, Embedding=base.Embedding)
