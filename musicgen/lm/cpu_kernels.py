"""A decoding step as machine code: all threads of a team run `step(thread, threads, plan)` together.

Needs llvmlite; import it only to compile. All numbers stand at addresses, which the plan's table
tells (`cpu_plan.py`). A sum runs over 16 lanes in one fixed order, and one thread makes it, so that no
result depends on the number of threads, on the rows beside it, or on the processor's registers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir

from . import cpu_plan as at
from .cpu_functions import exponential, gelu
from .cpu_loops import products, share_of, words_of
from .machine_code import LANES, SIZES, SPAN, Code, Value

SYMBOL = "musicgen_step"
_SPINS = 2000
_OUTPUTS = 4
_MOST = 65504.0


def step_module(*, many_registers: bool, measured: bool = False) -> Any:
    """The module of LLVM that holds the step, under the name SYMBOL.

    many_registers: whether the processor has 32 registers of 16 numbers. measured: whether the times of the
    phases are added up. Results depend on neither.
    """
    return _Step(ir.Module("musicgen"), many_registers, measured).module


def _larger(a: Value, b: Value) -> Value:
    return (a < b).then(b, a)


class _Step:
    """Writes the functions into a module, those that are called before those that call them."""

    def __init__(self, module: Any, many_registers: bool, measured: bool) -> None:
        self.module, self.many_registers, self.measured = module, many_registers, measured
        self.meet = self._write("meet", self._meet)
        self.products = [self._write(f"product_{kind}", partial(self._product, kind=kind)) for kind in at.KINDS]
        self.multiply = self._write("multiply", self._multiply)
        self.norm = self._write("norm", self._norm)
        self.attend = [self._write(f"attend_{kind}", partial(self._attend, kind=kind)) for kind in at.CACHE_KINDS]
        self.attend_to_itself = self._write("attend_to_itself", self._attend_to_itself)
        self.attend_to_condition = self._write("attend_to_condition", self._attend_to_condition)
        self.embed = self._write("embed", self._embed)
        self.activate = self._write("activate", self._activate)
        self.layer = self._write("layer", self._layer)
        self._write(SYMBOL, self._step, public=True)

    def _write(self, name: str, body: Callable[..., None], *, public: bool = False) -> Code:
        parameters = inspect.signature(body).parameters.values()
        arguments = sum(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters) - 1
        code = Code(self.module, name, arguments, public=public)
        body(code, *code.arguments)
        code.finish()
        return code

    def _meet(self, code: Code, plan: Value, threads: Value) -> None:
        """Wait until all threads are here. Whoever waits long gives the core to others."""
        arrived, turn = plan + 8 * at.ARRIVED, plan + 8 * at.ROUND
        before = code.atomic_read(turn)
        with code.when(code.atomic_add(arrived, 1).equals(threads - 1)):
            code.atomic_add(arrived, code.whole(0) - threads)
            code.atomic_add(turn, 1)
            code.return_now()

        def look(_: Value) -> None:
            with code.when(code.atomic_read(turn).differs(before)):
                code.return_now()

        def wait() -> None:
            code.each(0, _SPINS, 1, look)
            with code.when(code.atomic_read(plan + 8 * at.GIVEN_UP).differs(0)):
                code.return_now()
            give_way = code.word(plan, at.YIELD)
            with code.when(give_way.differs(0)):
                code.call_at(give_way)

        code.forever(wait)

    def _product(
        self, code: Code, weights: Value, scales: Value, source: Value, rows: Value, columns: Value,
        target: Value, width: Value, first: Value, last: Value, add: Value, *, kind: str,
    ) -> None:  # fmt: skip
        """Outputs `first` to `last` of source `[rows, columns]` by weights of one kind, into target `[rows, width]`.

        scales: one float32 per output, or 0. add: whether target keeps its numbers and the products are added.
        """
        size = SIZES[kind]

        def put(row: Value, output: Value, number: Value) -> None:
            if kind == "int8":
                number = number * code.read(scales + output * 4, lanes=False)
            place = target + (width * row + output) * 4
            old = add.differs(0).then(code.read(place, lanes=False), code.single(0.0))
            code.write(place, number + old)

        def some_outputs(output: Value, outputs: int) -> None:
            matrix = [weights + columns * (output + i) * size for i in range(outputs)]

            def some_rows(row: Value, count: int) -> None:
                inputs = [source + columns * (row + j) * 4 for j in range(count)]
                numbers = products(code, kind, matrix, inputs, columns)
                for index, number in enumerate(numbers):
                    put(row + index // outputs, output + index % outputs, number)

            row = code.whole(0)
            for count in (4, 2, 1) if self.many_registers else (2, 1):
                row = code.each(row, rows, count, partial(some_rows, count=count))

        output = code.each(first, last, _OUTPUTS, partial(some_outputs, outputs=_OUTPUTS))
        code.each(output, last, 1, partial(some_outputs, outputs=1))

    def _multiply(
        self, code: Code, plan: Value, matrix: Value, source: Value, rows: Value, columns: Value,
        target: Value, width: Value, first: Value, last: Value, add: Value,
    ) -> None:  # fmt: skip
        """The product with the matrix whose words in the plan begin at `matrix`."""
        weights, kind, scales = (code.word(plan, matrix + i) for i in range(3))
        for number, product in enumerate(self.products):
            with code.when(kind.equals(number)):
                code.call(product, weights, scales, source, rows, columns, target, width, first, last, add)

    def _norm(
        self, code: Code, plan: Value, words: Value, source: Value, rows: Value, dim: Value, target: Value
    ) -> None:
        """LayerNorm of source `[rows, dim]`; weight and bias are the plan's words from `words` on."""
        weight, bias = code.word(plan, words), code.word(plan, words + 1)

        def one_row(row: Value) -> None:
            x, y = source + dim * row * 4, target + dim * row * 4

            def summed(number: Callable[[Value], Value]) -> Value:
                """Sum `number` over the row: 16 numbers at once, then the rest one by one."""
                place, lanes = code.fold(
                    0, dim, LANES, [code.zeros()], lambda i, sums: [sums[0] + number(code.read(x + i * 4))]
                )
                return code.fold(
                    place, dim, 1, [code.total(lanes)],
                    lambda i, sums: [sums[0] + number(code.read(x + i * 4, lanes=False))],
                )[1]  # fmt: skip

            mean = summed(lambda number: number) / dim.as_float()
            variance = summed(lambda number: (number - mean) * (number - mean)) / dim.as_float()
            scale = code.single(1.0) / code.root(variance + 1e-5)

            def normed(i: Value, lanes: bool) -> None:
                number, w, b = (code.read(start + i * 4, lanes=lanes) for start in (x, weight, bias))
                code.write(y + i * 4, code.fused((number - mean) * scale, w, b))

            rest = code.each(0, dim, LANES, partial(normed, lanes=True))
            code.each(rest, dim, 1, partial(normed, lanes=False))

        code.each(0, rows, 1, one_row)

    def _attend(
        self, code: Code, query: Value, keys: Value, values: Value, count: Value, size: Value,
        scores: Value, target: Value, *, kind: str,
    ) -> None:  # fmt: skip
        """Attention of one head of one row to `count` keys and values of `size` numbers of one kind."""
        width, scale = SIZES[kind], code.single(1.0) / code.root(size.as_float())

        def score(place: Value, largest: list[Value]) -> list[Value]:
            (product,) = products(code, kind, [keys + size * place * width], [query], size)
            product = product * scale
            code.write(scores + place * 4, product)
            return [_larger(largest[0], product)]

        top = code.fold(0, count, 1, [code.single(float("-inf"))], score)[1]

        def power(i: Value, sums: list[Value], lanes: bool) -> list[Value]:
            number = exponential(code, code.read(scores + i * 4, lanes=lanes) - top)
            code.write(scores + i * 4, number)
            return [sums[0] + number]

        rest, lanes = code.fold(0, count, LANES, [code.zeros()], partial(power, lanes=True))
        whole = code.fold(rest, count, 1, [code.total(lanes)], partial(power, lanes=False))[1]

        def average(c: Value, blocks: int, lanes: bool = True) -> None:
            """Weigh `blocks` times 16 numbers of each value, or one number."""

            def add(place: Value, sums: list[Value]) -> list[Value]:
                weight, value = code.read(scores + place * 4, lanes=False), values + (size * place + c) * width
                return [
                    code.fused(total.like(weight), code.read(value + LANES * width * block, kind, lanes=lanes), total)
                    for block, total in enumerate(sums)
                ]

            zero = code.zeros() if lanes else code.single(0.0)
            for block, total in enumerate(code.fold(0, count, 1, [zero] * blocks, add)[1:]):
                code.write(target + c * 4 + SPAN * block, total / whole)

        c = code.each(0, size, 4 * LANES, partial(average, blocks=4))
        c = code.each(c, size, LANES, partial(average, blocks=1))
        code.each(c, size, 1, partial(average, blocks=1, lanes=False))

    def _attend_to_itself(
        self, code: Code, plan: Value, layer: Value, thread: Value, threads: Value, scores: Value
    ) -> None:
        """Put each row's key and value into the cache, and attend to all up to it."""
        rows, heads, size, dim, capacity, place, qkv, attended, first_keys = words_of(
            code, plan, at.ROWS, at.HEADS, at.HEAD_DIM, at.DIM, at.CAPACITY, at.PLACE, at.QKV, at.ATTENDED,
            at.FIRST_KEYS,
        )  # fmt: skip
        all_keys, all_values, kept = words_of(code, plan + layer * 8, at.KEYS, at.VALUES, at.CACHE_KIND)

        def one_head(item: Value, kind: str, attend: Code) -> None:
            width, row, head = SIZES[kind], item // heads, item % heads
            query = qkv + (dim * 3 * row + size * head) * 4
            keys, values = (start + size * capacity * item * width for start in (all_keys, all_values))

            def append(c: Value, lanes: bool) -> None:
                for number, store in ((1, keys), (2, values)):
                    new = code.read(query + (dim * number + c) * 4, lanes=lanes)
                    code.write(store + (size * place + c) * width, new, kind)
                    if kind == "float16":
                        large = (new.like(_MOST) < code.absolute(new)).then(new.like(1.0), new.like(0.0))
                        with code.when(code.single(0.0) < (code.total(large) if lanes else large)):
                            code.atomic_add(plan + (layer + at.TOO_LARGE) * 8, 1)

            code.each(code.each(0, size, LANES, partial(append, lanes=True)), size, 1, partial(append, lanes=False))
            begin = code.word(first_keys, row)
            skipped, target = size * begin * width, attended + (dim * row + size * head) * 4
            code.call(attend, query, keys + skipped, values + skipped, place + 1 - begin, size, scores, target)

        for number, (kind, attend) in enumerate(zip(at.CACHE_KINDS, self.attend, strict=True)):
            with code.when(kept.equals(number)):
                one = partial(one_head, kind=kind, attend=attend)
                code.each(*share_of(thread, threads, rows * heads), 1, one)

    def _attend_to_condition(
        self, code: Code, plan: Value, layer: Value, thread: Value, threads: Value, scores: Value
    ) -> None:
        """Attend from each row that has a condition to its vectors."""
        rows, heads, size, dim, capacity, queries, attended, lengths = words_of(
            code, plan, at.CROSS_ROWS, at.HEADS, at.HEAD_DIM, at.DIM, at.CROSS_CAPACITY, at.QKV, at.ATTENDED,
            at.CROSS_LENGTHS,
        )  # fmt: skip
        all_keys, all_values = code.word(plan, layer + at.CROSS_KEYS), code.word(plan, layer + at.CROSS_VALUES)

        def one_head(item: Value) -> None:
            row, head = item // heads, item % heads
            keys, values = (start + size * capacity * item * 4 for start in (all_keys, all_values))
            place = (dim * row + size * head) * 4
            count = code.word(lengths, row)
            code.call(self.attend[0], queries + place, keys, values, count, size, scores, attended + place)

        code.each(*share_of(thread, threads, rows * heads), 1, one_head)

    def _embed(self, code: Code, plan: Value, thread: Value, threads: Value) -> None:
        """Sum the embeddings of the column's codes and the position, in each row."""
        rows, batch, dim, codebooks, card, states, table, positions, place = words_of(
            code, plan, at.ROWS, at.BATCH, at.DIM, at.CODEBOOKS, at.CARD, at.STATES, at.EMBEDDING, at.POSITIONS,
            at.PLACE,
        )  # fmt: skip
        all_codes, first_keys = words_of(code, plan, at.CODES, at.FIRST_KEYS)
        first, last = share_of(thread, threads, dim)

        def one_row(row: Value) -> None:
            codes = all_codes + codebooks * (row % batch) * 8
            position = positions + dim * (place - code.word(first_keys, row)) * 4

            def some(c: Value, lanes: bool) -> None:
                def add(k: Value, sums: list[Value]) -> list[Value]:
                    entry = code.word(codes, k) + (card + 1) * k
                    return [sums[0] + code.read(table + (dim * entry + c) * 4, lanes=lanes)]

                zero = code.zeros() if lanes else code.single(0.0)
                number = code.fold(0, codebooks, 1, [zero], add)[1]
                number = number + code.read(position + c * 4, lanes=lanes)
                code.write(states + (dim * row + c) * 4, number)

            code.each(code.each(first, last, LANES, partial(some, lanes=True)), last, 1, partial(some, lanes=False))

        code.each(0, rows, 1, one_row)

    def _activate(self, code: Code, inner: Value, rows: Value, width: Value, first: Value, last: Value) -> None:
        """GELU of the columns `first` to `last` of inner `[rows, width]`, in place."""

        def one_row(row: Value) -> None:
            def some(c: Value, lanes: bool) -> None:
                place = inner + (width * row + c) * 4
                code.write(place, gelu(code, code.read(place, lanes=lanes)))

            code.each(code.each(first, last, LANES, partial(some, lanes=True)), last, 1, partial(some, lanes=False))

        code.each(0, rows, 1, one_row)

    def _layer(
        self, code: Code, plan: Value, layer: Value, thread: Value, threads: Value, normed: Value, scores: Value
    ) -> None:
        """One layer's part of a thread; all rows are in STATES before and after."""
        rows, dim, ffn, led, states, qkv, attended, inner = words_of(
            code, plan, at.ROWS, at.DIM, at.FFN, at.CROSS_ROWS, at.STATES, at.QKV, at.ATTENDED, at.INNER
        )
        own, own_qkv, own_inner = (share_of(thread, threads, count) for count in (dim, dim * 3, ffn))

        def product(
            matrix: int, source: Value, rows: Value, columns: Value, target: Value, width: Value,
            share: tuple[Value, Value], add: bool = False,
        ) -> None:  # fmt: skip
            code.call(self.multiply, plan, layer + matrix, source, rows, columns, target, width, *share, int(add))

        def done(phase: str, *, meet: bool = True) -> None:
            if meet:
                code.call(self.meet, plan, threads)
            self._mark(code, plan, thread, phase)

        def norm(words: int, rows: Value) -> None:
            code.call(self.norm, plan, layer + words, states, rows, dim, normed)
            done("norms", meet=False)

        norm(at.NORM_SELF, rows)
        product(at.SELF_QKV, normed, rows, dim, qkv, dim * 3, own_qkv)
        done("self: qkv")
        code.call(self.attend_to_itself, plan, layer, thread, threads, scores)
        done("self: attention")
        product(at.SELF_OUT, attended, rows, dim, states, dim, own, add=True)
        done("self: out")
        with code.when(led.differs(0)):
            norm(at.NORM_CROSS, led)
            product(at.CROSS_Q, normed, led, dim, qkv, dim, own)
            done("cross: q")
            code.call(self.attend_to_condition, plan, layer, thread, threads, scores)
            done("cross: attention")
            product(at.CROSS_OUT, attended, led, dim, states, dim, own, add=True)
            done("cross: out")
        norm(at.NORM_FFN, rows)
        product(at.FFN_IN, normed, rows, dim, inner, ffn, own_inner)
        done("ffn: in", meet=False)
        code.call(self.activate, inner, rows, ffn, *own_inner)
        done("ffn: gelu")
        product(at.FFN_OUT, inner, rows, ffn, states, dim, own, add=True)
        done("ffn: out")

    def _mark(self, code: Code, plan: Value, thread: Value, phase: str) -> None:
        """In a measured build, add the time since the last mark to a phase; the first thread does it."""
        if self.measured:
            with code.when(thread.equals(0)):
                place, now = code.word(plan, at.TIMES) + 8 * at.PHASES.index(phase), code.ticks()
                code.write_word(place, code.word(place, 0) + now - code.word(plan, at.LAST_TIME))
                code.write_word(plan + 8 * at.LAST_TIME, now)

    def _step(self, code: Code, thread: Value, threads: Value, plan: Value) -> None:
        """One thread's part of a step: a column of codes in, LOGITS `[rows, codebooks * card]` out."""
        rows, dim, layers, scores_size, states, codebooks, card = words_of(
            code, plan, at.ROWS, at.DIM, at.LAYERS, at.SCORES_SIZE, at.STATES, at.CODEBOOKS, at.CARD
        )
        normed = code.word(plan, at.NORMED) + rows * dim * thread * 4
        scores = code.word(plan, at.SCORES) + scores_size * thread * 4
        if self.measured:
            with code.when(thread.equals(0)):
                code.write_word(plan + 8 * at.LAST_TIME, code.ticks())
        code.call(self.embed, plan, thread, threads)
        code.call(self.meet, plan, threads)
        self._mark(code, plan, thread, "embedding")
        code.each(
            0, layers, 1,
            lambda number: code.call(
                self.layer, plan, number * at.LAYER_WORDS + at.LAYER_TABLE, thread, threads, normed, scores
            ),
        )  # fmt: skip
        code.call(self.norm, plan, at.OUT_NORM, states, rows, dim, normed)
        self._mark(code, plan, thread, "norms")
        outputs = codebooks * card
        share = share_of(thread, threads, outputs)
        code.call(self.multiply, plan, at.HEAD, normed, rows, dim, code.word(plan, at.LOGITS), outputs, *share, 0)
        code.call(self.meet, plan, threads)
        self._mark(code, plan, thread, "heads")
