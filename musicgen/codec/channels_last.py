"""The convolutions of EnCodec's decoder over rows `[L, C]`, the fastest layout on a CPU.

The channels of one sample are neighbours in memory. A transposed convolution is then a few matrix
products: row m of a product holds the `stride` output samples that start at input m, so the results
need no scattering. The other convolutions are PyTorch's in its channels-last format, which need no
reordering either. The modules of the `encodec` package are the definition, and the slow twin; only
the order of sums differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..environment import imported
from .chunked import convolution_edges, transposed_edges

Layer = Callable[[Tensor], Tensor]
"""A function of rows [L, C] to rows; it may overwrite its argument."""


def over_rows(layers: nn.Sequential) -> Layer:
    """Return the layers of a SEANet decoder after its LSTM as one function of rows.

    The function holds reordered copies of the weights.
    """
    return _chain(list(layers))


def _chain(layers: list[nn.Module]) -> Layer:
    steps: list[Layer] = []
    alpha: float | None = None
    for layer in layers:
        kind = type(layer).__name__
        if kind == "ELU":
            alpha = layer.alpha  # type: ignore[assignment]
            continue
        steps.append(_MAKERS[kind](layer, alpha))
        alpha = None
    return lambda rows: _run(steps, rows)


def _run(steps: list[Layer], rows: Tensor) -> Tensor:
    for step in steps:
        rows = step(rows)
    return rows


def _residual(layer: Any, _: float | None) -> Layer:
    block = _chain(list(layer.block))
    shortcut = None if isinstance(layer.shortcut, nn.Identity) else _convolution(layer.shortcut, None)

    def run(rows: Tensor) -> Tensor:
        inner = block(rows)
        return inner.add_(rows if shortcut is None else shortcut(rows))

    return run


def _convolution(layer: Any, alpha: float | None) -> Layer:
    conv = layer.conv.conv
    _, left, right = convolution_edges(layer)
    weight = conv.weight[:, :, None].contiguous(memory_format=torch.channels_last)
    dilation = (1, conv.dilation[0])

    if weight.shape[-1] == 1:
        # A matrix product: PyTorch's convolution would convert to another memory format and back.
        matrix = conv.weight[:, :, 0].t()
        return lambda rows: torch.addmm(conv.bias, _activated(rows, alpha, own=False), matrix)

    def run(rows: Tensor) -> Tensor:
        padded = _activated(_padded(rows, left, right, layer.pad_mode), alpha, own=left + right > 0)
        image = padded.view(1, 1, *padded.shape).permute(0, 3, 1, 2)
        return F.conv2d(image, weight, conv.bias, dilation=dilation).permute(0, 2, 3, 1)[0, 0]

    return run


def _transposed(layer: Any, alpha: float | None) -> Layer:
    kernel, stride, cut = transposed_edges(layer)
    conv = layer.convtr.convtr
    taps = -(-kernel // stride)
    # [taps, in, stride x out]: tap q maps an input to the samples that start q inputs later.
    weight = F.pad(conv.weight, (0, taps * stride - kernel)).unflatten(2, (taps, stride))
    weight = weight.permute(2, 0, 3, 1).flatten(2).contiguous()
    bias = conv.bias.repeat(stride)

    def run(rows: Tensor) -> Tensor:
        rows = _activated(rows, alpha, own=True)
        length = rows.shape[0]
        out = rows.new_empty(length + taps - 1, weight.shape[2])  # [L + taps - 1, stride x out]
        torch.addmm(bias, rows, weight[0], out=out[:length])
        out[length:] = bias
        for tap in range(1, taps):
            out[tap : tap + length].addmm_(rows, weight[tap])
        return out.view(-1, conv.out_channels)[cut : cut + length * stride]  # [L x stride, out]

    return run


def _activated(rows: Tensor, alpha: float | None, own: bool) -> Tensor:
    return rows if alpha is None else F.elu(rows, alpha, inplace=own)


def _padded(rows: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pad rows before and after as the `encodec` package does; return the same rows if there is nothing to pad."""
    if left + right == 0:
        return rows
    if mode != "reflect" or rows.shape[0] <= max(left, right):
        (pad1d,) = imported("encodec.modules.conv", "pad1d")
        return pad1d(rows.t()[None], (left, right), mode=mode)[0].t().contiguous()
    length = rows.shape[0]
    out = rows.new_empty(left + length + right, rows.shape[1])
    out[left : left + length] = rows
    out[:left] = rows[1 : left + 1].flip(0)
    out[left + length :] = rows[length - 1 - right : length - 1].flip(0)
    return out


_MAKERS: dict[str, Callable[[Any, float | None], Layer]] = {
    "SConv1d": _convolution,
    "SConvTranspose1d": _transposed,
    "SEANetResnetBlock": _residual,
}
