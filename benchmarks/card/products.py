"""The products of a step as a chain: by the library in a graph, as Triton kernels in a graph, and in one kernel.

Optional: without Triton the step says so and ends. Six products a layer with two rows, as in a guided step.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .recorded import microseconds, recorded
from .report import Report

SIZES = {"small": (1024, 24), "large": (2048, 48)}
TILES = ((4, 4), (8, 8), (8, 4), (2, 4))
"""Outputs of a program, and its warps."""
WHOLE = ((4, 4, 2), (8, 8, 1), (2, 4, 4), (8, 4, 1))
"""The same of the one kernel, and its programs on each multiprocessor."""


def run(report: Report) -> None:
    """Measure the chain of each size."""
    if importlib.util.find_spec("triton") is None:
        report.note("Triton", installed="no, so nothing was measured")
        return
    for name, (width, layers) in {"tiny": (32, 1)}.items() if report.dry else SIZES.items():
        chain = Chain(report, width, layers)
        report.attempt(f"{name}: the library's products", chain.library)
        for tile in TILES[:1] if report.dry else TILES:
            for early in (False,) if report.dry else (False, True):
                kind = ", weights fetched early" if early else ""
                report.attempt(f"{name}: a kernel a product, {tile}{kind}", chain.singles(tile, early))
        for shape in () if report.dry else WHOLE:
            report.attempt(f"{name}: one kernel, {shape}", chain.whole(shape, works=True))
            if shape == WHOLE[0]:
                report.attempt(f"{name}: its barriers alone, {shape}", chain.whole(shape, works=False))


class Chain:
    """Layers of six products: queries, keys and values; three of the width; FFN in; FFN out."""

    def __init__(self, report: Report, width: int, layers: int) -> None:
        self.width, self.layers, self.device = width, layers, report.device
        self.dtype = torch.float32 if report.dry else torch.bfloat16
        self.shapes = [(3 * width, width), *[(width, width)] * 3, (4 * width, width), (width, 4 * width)]
        generator = torch.Generator(device=self.device).manual_seed(0)
        numbers = sum(n * k for n, k in self.shapes)
        self.weights = torch.empty(layers, numbers, dtype=self.dtype, device=self.device)
        for row in self.weights:
            row.copy_(torch.randn(numbers, generator=generator, device=self.device) * width**-0.5)
            row[6 * width * width + 4 * width * width :] *= 0.5
        self.rows = torch.randn(2, width, generator=generator, device=self.device).to(self.dtype)
        self.checked = min(2, layers)
        self.expected = self._plain(self.checked, torch.float32)

    def _parts(self, layer: int) -> list[Tensor]:
        pieces = self.weights[layer].split([n * k for n, k in self.shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def _plain(self, layers: int, dtype: torch.dtype) -> Tensor:
        x = self.rows.to(dtype)
        for layer in range(layers):
            for weight in self._parts(layer):
                x = F.linear(x[:, : weight.shape[1]], weight.to(dtype))
        return x

    def _error(self, found: Tensor) -> float:
        return round(((found.float() - self.expected).norm() / self.expected.norm()).item(), 4)

    def _figures(self, found: Tensor, action: Callable[[], Any]) -> dict[str, Any]:
        error = self._error(found)
        return {"us": microseconds(recorded(action)), "error": error, "right": error < 0.05}

    def library(self) -> dict[str, Any]:
        """Measure torch's own products."""
        return self._figures(self._plain(self.checked, self.dtype), lambda: self._plain(self.layers, self.dtype))

    def singles(self, tile: tuple[int, int], early: bool) -> Callable[[], dict[str, Any]]:
        """Measure one kernel a product; `early` lets each fetch weights while the one before it still runs."""

        def measure() -> dict[str, Any]:
            from .products_kernels import product

            outputs, warps = tile
            buffers = [torch.empty(2, n, device=self.device, dtype=self.dtype) for n, _ in self.shapes]
            options: dict[str, Any] = {"num_warps": warps, **({"launch_pdl": True} if early else {})}

            def chain(layers: int) -> Tensor:
                x = self.rows
                for layer in range(layers):
                    for weight, y, (n, k) in zip(self._parts(layer), buffers, self.shapes, strict=True):
                        strides, block = (x.shape[1], n), min(1024, k)
                        product[(n // outputs,)](x, y, weight, *strides, k, n, outputs, block, early, **options)
                        x = y
                return x

            found = chain(self.checked).clone()
            return self._figures(found, lambda: chain(self.layers))

        return measure

    def whole(self, shape: tuple[int, int, int], *, works: bool) -> Callable[[], dict[str, Any]]:
        """Measure one kernel for all products, with a barrier of all programs after each."""

        def measure() -> dict[str, Any]:
            from .products_kernels import whole

            outputs, warps, programs = shape
            count = programs * torch.cuda.get_device_properties(self.device).multi_processor_count
            scratch = torch.zeros(20 * self.width, device=self.device, dtype=self.dtype)
            counters = torch.zeros(6 * self.layers, dtype=torch.int32, device=self.device)
            x = self.rows.clone()

            def chain(layers: int) -> None:
                counters.zero_()
                whole[(count,)](
                    *(x, scratch, self.weights, counters, layers, count, self.width, 4 * self.width),
                    *(outputs, 1024, works),
                    num_warps=warps,
                )

            self._require_room(whole, (x, scratch, self.weights, counters), shape, works, count)
            chain(self.checked)
            found = x.clone()
            if works:
                return self._figures(found, lambda: chain(self.layers))
            return {"us": microseconds(recorded(lambda: chain(self.layers))), "barriers": 6 * self.layers}

        return measure

    def _require_room(
        self, kernel: Any, tensors: tuple[Tensor, ...], shape: tuple[int, int, int], works: bool, count: int
    ) -> None:
        """Raise where the programs do not run all at once: the barrier would wait for ever."""
        outputs, warps, programs = shape
        numbers = (self.layers, count, self.width, 4 * self.width, outputs, 1024, works)
        made = kernel.warmup(*tensors, *numbers, num_warps=warps, grid=(1,))
        made._init_handles()
        if made.n_regs * warps * 32 * programs > 65536:
            raise ValueError(f"{made.n_regs} registers a thread: {programs} programs do not fit one multiprocessor.")
