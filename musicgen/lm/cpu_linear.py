"""Linear layers that read their weights quickly on a CPU, where a step of decoding does little else.

A step multiplies a few rows by every weight of the model, so its time is that of reading the
weights. Three products do so at a good part of the memory's speed, where the usual one has a
quarter of it: for float32 weights the usual one over parts of the matrix; for float16 weights and
float32 numbers, and for int8 weights, those of the x86 library that torch carries (FBGEMM), which
want the matrix in their own order. The other devices and processors get the usual product.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

_PARTS = 16
_FEW_ROWS = 32
_SMALL = 1 << 20
_ENDS = torch.tensor([[-1.0, *[1.0] * 7]])
_TINY = torch.finfo(torch.float32).tiny
# The overloads themselves: finding them takes a third of a short call.
_multiply_float16 = torch.ops.quantized.linear_dynamic_fp16.default
_multiply_int8 = torch.ops.quantized.linear_dynamic.default


@cache
def reads_float16() -> bool:
    """Whether this processor multiplies float32 numbers by float16 weights quickly."""
    return _works(pack_float16, _multiply_float16)


@cache
def reads_int8() -> bool:
    """Whether this processor multiplies by int8 weights quickly."""
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
    """Put `[outputs, inputs]` into the order of the float16 product. Numbers beyond float16 saturate."""
    return torch.ops.quantized.linear_prepack_fp16(weight.float(), None)


def pack_int8(weight: Tensor) -> Any:
    """Round `[outputs, inputs]` to int8, one scale per output, and put it into the order of its product."""
    numbers = torch.nn.functional.pad(weight.float(), (0, _ENDS.shape[1]))
    scales = (numbers.abs().amax(dim=1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    zeros = torch.zeros(len(scales), dtype=torch.long)
    return torch.ops.quantized.linear_prepack(torch.quantize_per_channel(numbers, scales, zeros, 0, torch.qint8), None)


def few_rows_product(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight.T` in float32 for x `[rows, inputs]`: part by part, which MKL reads twice as fast as the whole."""
    rows, inputs = x.shape
    parts = weight.view(_PARTS, -1, inputs).transpose(1, 2)
    return torch.bmm(x.expand(_PARTS, rows, inputs), parts).transpose(0, 1).reshape(rows, -1)


def int8_product(x: Tensor, packed: Any) -> Tensor:
    """The int8 product of x `[rows, inputs]`. It would round all rows by what is largest in any of them; here each
    row is first brought to the range of -1 to 1, and columns of weight 0 hold both ends, so that rows stay apart."""
    largest = x.abs().amax(dim=1, keepdim=True).clamp_min_(_TINY)
    padded = torch.cat([x / largest, _ENDS.expand(len(x), -1)], dim=1)
    # The inputs get 7 bits: pairs of 8-bit products overflow on processors without VNNI.
    return _multiply_int8(padded, packed, True).mul_(largest)


def _is_quick(x: Tensor, weight: Tensor) -> bool:
    rows, outputs = len(x), len(weight)
    return rows <= _FEW_ROWS and weight.dtype == torch.float32 and outputs % _PARTS == 0 and weight.numel() >= _SMALL


@dataclass(frozen=True)
class _Packed:
    """A weight in the order of a product, and the weight that it was made of: while that is held, no other one can
    have its address."""

    source: Tensor
    weight: Any

    def __deepcopy__(self, memo: Any) -> None:
        return None


def matrices(module: nn.Module) -> set[str]:
    """Names of the weights that a quick product reads, in a module of these layers or of plain ones."""
    return {f"{name}.weight" for name, m in module.named_modules() if isinstance(m, nn.Linear) and m.bias is None}


def quick_operations(base: Any, *, int8: bool = False) -> Any:
    """The leaves of `base` (torch.nn or a host's drop-in) with a Linear that is quick on a CPU.

    It computes float32 numbers: with float16 weights as they are, with float32 weights, and with
    int8 from the first product on if int8 is set. Weights stay parameters, which a host may
    exchange; what a product wants in another order is made when it is first needed.
    """

    class Linear(base.Linear):
        """A linear layer; without a bias it is quick."""

        weight_function: Any = getattr(base.Linear, "weight_function", ())
        _packed: _Packed | None = None

        def forward(self, x: Tensor) -> Tensor:
            """x `[..., inputs]` -> `[..., outputs]`."""
            weight = self.weight
            # A host's pending changes of the weight are its own business.
            on_cpu = x.is_cpu and weight.is_cpu and x.dtype == torch.float32
            if self.bias is not None or self.weight_function or not on_cpu:
                return super().forward(x)
            flat = x.reshape(-1, x.shape[-1])
            if int8 and reads_int8():
                made = int8_product(flat, self._pack(weight, pack_int8))
            elif weight.dtype == torch.float16 and reads_float16():
                made = _multiply_float16(flat, self._pack(weight, pack_float16))
            elif _is_quick(flat, weight):
                made = few_rows_product(flat, weight)
            else:
                return super().forward(x)
            return made.view(*x.shape[:-1], -1)

        def _pack(self, weight: Tensor, pack: Any) -> Any:
            if self._packed is None or self._packed.source.data_ptr() != weight.data_ptr():
                self._packed = _Packed(weight.detach(), pack(weight))
            return self._packed.weight

    return SimpleNamespace(Linear=Linear, LayerNorm=base.LayerNorm, Embedding=base.Embedding)
