"""The loop that reads weights, in the words of `machine_code.py`. Import it only to compile."""

from __future__ import annotations

from functools import partial

from .machine_code import LANES, SIZES, Code, Value

_FITS = 32 << 10
"""Bytes of the first cache that a loop may fill."""


def products(code: Code, kind: str, matrix: list[Value], inputs: list[Value], columns: Value) -> list[Value]:
    """The products of some outputs' weights with some rows' inputs, each given by its address: row after row."""

    size, outputs = SIZES[kind], len(matrix)
    # Whether what this loop reads and fetches would not fit into the first cache.
    wide = code.whole(_FITS) < columns * (2 * size * outputs + 4 * len(inputs))

    def add(i: Value, sums: list[Value], lanes: bool) -> list[Value]:
        if lanes and outputs > 1:
            # The outputs after these, fetched in the order in which they lie.
            lines = [
                matrix[0] + (columns + i) * size * outputs + 64 * line for line in range(outputs * LANES * size // 64)
            ]
            code.either(wide, *(partial(_fetch, code, lines, level) for level in (2, 1)))
        weights = [code.read(start + i * size, kind, lanes=lanes) for start in matrix]
        numbers = [code.read(start + i * 4, lanes=lanes) for start in inputs]
        pairs = ((weight, number) for number in numbers for weight in weights)
        return [code.fused(weight, number, old) for (weight, number), old in zip(pairs, sums, strict=True)]

    zeros = [code.zeros()] * (len(matrix) * len(inputs))
    rest, *lanes = code.fold(0, columns, LANES, zeros, partial(add, lanes=True))
    return code.fold(rest, columns, 1, [code.total(each) for each in lanes], partial(add, lanes=False))[1:]


def _fetch(code: Code, lines: list[Value], level: int) -> None:
    for line in lines:
        code.prefetch(line, level)


def share_of(thread: Value, threads: Value, count: Value) -> tuple[Value, Value]:
    """The part of `count` things that a thread does: first, last."""
    return thread * count // threads, (thread + 1) * count // threads


def words_of(code: Code, plan: Value, *indices: int) -> list[Value]:
    """Some words of the plan, or of the part of it that begins at `plan`."""
    return [code.word(plan, index) for index in indices]
