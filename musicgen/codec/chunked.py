"""Run EnCodec's networks over long audio chunk by chunk, so that memory does not grow with its length.

A convolution's output depends on its input only within the reach of its kernel. A stack of
convolutions therefore runs on windows that overlap by the reach of the whole stack, and the outputs
near the cut edges of a window are dropped. The true ends of the audio, where layers pad, are in the
first and the last window. A recurrent layer takes its pieces in order and passes its state on. The
result is exact; at most the rounding of sums in another order differs from one pass over everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Take = Callable[[int, int], Tensor]
"""A function of start and stop that returns this slice of a sequence `[B, C, T]` along its last dimension."""


def reach(layers: Iterable[nn.Module], unit_in: int = 1, unit_out: int = 1) -> int:
    """Return how many frames of input, on either side of a frame, the output of this frame depends on.

    Args:
        layers: layers of a SEANet, none of them recurrent.
        unit_in: samples per frame before the layers.
        unit_out: samples per frame after them.
    """
    low, high = 0, unit_out
    for layer in reversed(list(layers)):
        low, high = _needed(layer, low, high)
    return max(math.ceil(-low / unit_in), math.ceil((high - unit_in) / unit_in))


def _needed(layer: nn.Module, low: int, high: int) -> tuple[int, int]:
    """Return the range of a layer's input that the range `low` to `high` of its output depends on."""
    kind = type(layer).__name__
    if kind == "SEANetResnetBlock":
        own = low, high
        for inner in reversed(list(layer.block)):  # type: ignore[arg-type]
            own = _needed(inner, *own)
        other = _needed(layer.shortcut, low, high)  # type: ignore[arg-type]
        return min(own[0], other[0]), max(own[1], other[1])
    if kind == "SConv1d":
        stride, left, right = convolution_edges(layer)
        # Padding reflects as far as the longer side of the kernel reaches, so count both sides as that long.
        longer = max(left, right + stride - 1)
        return low * stride - longer, (high - 1) * stride + longer + 1
    if kind == "SConvTranspose1d":
        kernel, stride, left = transposed_edges(layer)
        return -((kernel - 1 - left - low) // stride), (high - 1 + left) // stride + 1
    if kind in ("ELU", "Identity"):
        return low, high
    raise TypeError(f"{kind} is no layer whose reach is known.")


def convolution_edges(layer: Any) -> tuple[int, int, int]:
    """Return a convolution's stride, and the number of samples that it pads on the left and on the right."""
    conv = layer.conv.conv
    stride = conv.stride[0]
    total = (conv.kernel_size[0] - 1) * conv.dilation[0] - (stride - 1)
    right = 0 if layer.causal else total // 2
    return stride, total - right, right


def transposed_edges(layer: Any) -> tuple[int, int, int]:
    """Return a transposed convolution's kernel and stride, and the number of samples that it trims on the left."""
    conv = layer.convtr.convtr
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    total = kernel - stride
    right = math.ceil(total * layer.trim_right_ratio) if layer.causal else total // 2
    return kernel, stride, total - right


def windows(
    layers: Callable[[Tensor], Tensor], take: Take, total: int, length: int, context: int, unit_out: int = 1
) -> Iterator[Tensor]:
    """Run layers on overlapping windows and yield the exact part of each output, in order.

    Args:
        layers: the function to run, `[B, C, n]` -> `[B, C', n x unit_out]`.
        take: returns a slice of the input.
        total: number of frames of the whole input.
        length: number of frames that one window yields.
        context: number of frames to add on either side of a window.
        unit_out: output samples per frame.
    """
    for start in range(0, total, length):
        stop = min(start + length, total)
        low = max(0, start - context)
        out = layers(take(low, min(total, stop + context)))
        yield out[..., (start - low) * unit_out : (stop - low) * unit_out]


def recurrent(layer: Any, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Run an SLSTM over a sequence in pieces `[B, C, n]`, passing its state from one piece to the next."""
    state = None
    for piece in pieces:
        rows = piece.permute(2, 0, 1)  # [n, B, C]
        out, state = layer.lstm(rows, state)
        yield (out + rows if layer.skip else out).permute(1, 2, 0)


class Rolling:
    """Slices of a sequence `[B, C, T]` that arrives in pieces; frames before the latest slice are dropped."""

    def __init__(self, pieces: Iterator[Tensor]) -> None:
        self._pieces = pieces
        self._kept: Tensor | None = None
        self._start = self._stop = 0

    def __call__(self, start: int, stop: int) -> Tensor:
        """Return the slice from `start` to `stop`; a start must not be before the previous one."""
        parts = [] if self._kept is None else [self._kept[..., start - self._start :]]
        while self._stop < stop:
            parts.append(next(self._pieces))
            self._stop += parts[-1].shape[-1]
        self._kept = kept = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        self._start = start
        return kept[..., : stop - start]

    def pieces(self, total: int, length: int) -> Iterator[Tensor]:
        """Yield the whole sequence again, in pieces of `length` frames."""
        for start in range(0, total, length):
            yield self(start, min(start + length, total))
