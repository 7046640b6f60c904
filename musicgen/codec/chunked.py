"""EnCodec's networks run over a long sound chunk by chunk, so that memory does not grow with its length.

A convolution's output depends on its input only as far as its kernel reaches. So a stack of them is
run on windows that overlap by the reach of the whole stack, and the frames that the edges of a window
have spoilt are cut away; the real ends of the sound, where layers pad, are in the first and the last
window. A recurrent layer takes its pieces in order and hands its state on. Nothing here is approximate:
one pass over everything differs at most by the rounding of a sum that was taken in another order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Take = Callable[[int, int], Tensor]
"""From start and stop to that stretch of a sequence `[B, C, T]`, along its last dimension."""


def reach(layers: Iterable[nn.Module], unit_in: int = 1, unit_out: int = 1) -> int:
    """How many frames beyond a stretch of frames, on either side, its output depends on.

    layers: of a SEANet, without recurrent ones. unit_in, unit_out: samples a frame before and after them.
    """
    low, high = 0, unit_out
    for layer in reversed(list(layers)):
        low, high = _needed(layer, low, high)
    return max(math.ceil(-low / unit_in), math.ceil((high - unit_in) / unit_in))


def _needed(layer: nn.Module, low: int, high: int) -> tuple[int, int]:
    """The stretch of a layer's input that a stretch of its output depends on."""
    kind = type(layer).__name__
    if kind == "SEANetResnetBlock":
        own = low, high
        for inner in reversed(list(layer.block)):  # type: ignore[arg-type]
            own = _needed(inner, *own)
        other = _needed(layer.shortcut, low, high)  # type: ignore[arg-type]
        return min(own[0], other[0]), max(own[1], other[1])
    if kind == "SConv1d":
        stride, left, right = convolution_edges(layer)
        # Padding reflects as far as the longer side of the kernel reaches, so each side counts as that long.
        longer = max(left, right + stride - 1)
        return low * stride - longer, (high - 1) * stride + longer + 1
    if kind == "SConvTranspose1d":
        kernel, stride, left = transposed_edges(layer)
        return -((kernel - 1 - left - low) // stride), (high - 1 + left) // stride + 1
    if kind in ("ELU", "Identity"):
        return low, high
    raise TypeError(f"{kind} is no layer whose reach is known.")


def convolution_edges(layer: Any) -> tuple[int, int, int]:
    """Stride of a convolution, and how many samples it pads on the left and on the right."""
    conv = layer.conv.conv
    stride = conv.stride[0]
    total = (conv.kernel_size[0] - 1) * conv.dilation[0] - (stride - 1)
    right = 0 if layer.causal else total // 2
    return stride, total - right, right


def transposed_edges(layer: Any) -> tuple[int, int, int]:
    """Kernel and stride of a transposed convolution, and how many samples it cuts away on the left."""
    conv = layer.convtr.convtr
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    total = kernel - stride
    right = math.ceil(total * layer.trim_right_ratio) if layer.causal else total // 2
    return kernel, stride, total - right


def windows(
    layers: Callable[[Tensor], Tensor], take: Take, total: int, length: int, context: int, unit_out: int = 1
) -> Iterator[Tensor]:
    """Run layers on windows of `length` frames and `context` more on either side; yield the exact part of each.

    total: frames in all. unit_out: samples that a frame becomes.
    """
    for start in range(0, total, length):
        stop = min(start + length, total)
        low = max(0, start - context)
        out = layers(take(low, min(total, stop + context)))
        yield out[..., (start - low) * unit_out : (stop - low) * unit_out]


def recurrent(layer: Any, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Run an SLSTM over a sequence in pieces `[B, C, n]`, its state handed from one to the next."""
    state = None
    for piece in pieces:
        rows = piece.permute(2, 0, 1)
        out, state = layer.lstm(rows, state)
        yield (out + rows if layer.skip else out).permute(1, 2, 0)


class Rolling:
    """A sequence `[B, C, T]` that comes in pieces; it keeps only the frames that may still be asked for."""

    def __init__(self, pieces: Iterator[Tensor]) -> None:
        self._pieces = pieces
        self._kept: Tensor | None = None
        self._start = self._stop = 0

    def __call__(self, start: int, stop: int) -> Tensor:
        """A stretch; the starts of one and the next must not fall."""
        parts = [] if self._kept is None else [self._kept[..., start - self._start :]]
        while self._stop < stop:
            parts.append(next(self._pieces))
            self._stop += parts[-1].shape[-1]
        self._kept = kept = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        self._start = start
        return kept[..., : stop - start]

    def pieces(self, total: int, length: int) -> Iterator[Tensor]:
        """All of it again, in pieces of another length."""
        for start in range(0, total, length):
            yield self(start, min(start + length, total))
