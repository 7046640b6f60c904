"""A few words in which loops over numbers are written as machine code, through llvmlite.

Needs llvmlite; import it only to compile. A :class:`Value` is an int64 (mostly an address), a float32
or 16 of these at once, and takes Python's operators. Loops hand their values on, as a fold does, so
there are no variables. Nothing is reordered: a sum gives the same bits on every processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

LANES = 16
SPAN = 4 * LANES
"""The bytes of 16 float32 numbers."""

_FLOAT, _BIT32, _WORD = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()
STORED = {"float32": _FLOAT, "float16": ir.HalfType(), "bfloat16": ir.IntType(16), "int8": ir.IntType(8)}
SIZES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


def _vector(kind: Any) -> Any:
    return ir.VectorType(kind, LANES)


class Value:
    """A number in the code that is being written, or 16 of them."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    @property
    def _is_integer(self) -> bool:
        return isinstance(self.value.type, ir.IntType)

    def like(self, number: Any) -> Value:
        """Give a number of Python, or a single float32, in the type of this value."""
        kind = self.value.type
        if not isinstance(number, Value):
            lanes = isinstance(kind, ir.VectorType)
            return Value(self.builder, ir.Constant(kind, [number] * LANES if lanes else number))
        if isinstance(kind, ir.VectorType) and number.value.type == _FLOAT:
            return number.spread()
        return number

    def spread(self) -> Value:
        """A float32 in all 16 lanes."""
        empty = ir.Constant(_vector(_FLOAT), ir.Undefined)
        first = self.builder.insert_element(empty, self.value, ir.Constant(_BIT32, 0))
        return Value(self.builder, self.builder.shuffle_vector(first, empty, _indices([0] * LANES)))

    def _made(self, integer: str, fractional: str, other: Any) -> Value:
        emit = getattr(self.builder, integer if self._is_integer else fractional)
        return Value(self.builder, emit(self.value, self.like(other).value))

    def __add__(self, other: Any) -> Value:
        return self._made("add", "fadd", other)

    def __sub__(self, other: Any) -> Value:
        return self._made("sub", "fsub", other)

    def __mul__(self, other: Any) -> Value:
        return self._made("mul", "fmul", other)

    def __truediv__(self, other: Any) -> Value:
        return Value(self.builder, self.builder.fdiv(self.value, self.like(other).value))

    def __floordiv__(self, other: Any) -> Value:
        return Value(self.builder, self.builder.sdiv(self.value, self.like(other).value))

    def __mod__(self, other: Any) -> Value:
        return Value(self.builder, self.builder.srem(self.value, self.like(other).value))

    def __lt__(self, other: Any) -> Value:
        emit = self.builder.icmp_signed if self._is_integer else self.builder.fcmp_ordered
        return Value(self.builder, emit("<", self.value, self.like(other).value))

    def equals(self, other: Any) -> Value:
        """Whether two integers are equal."""
        return Value(self.builder, self.builder.icmp_signed("==", self.value, self.like(other).value))

    def differs(self, other: Any) -> Value:
        """Whether two integers differ."""
        return Value(self.builder, self.builder.icmp_signed("!=", self.value, self.like(other).value))

    def then(self, yes: Value, no: Value) -> Value:
        """`yes` where this comparison holds, else `no`; lane by lane."""
        return Value(self.builder, self.builder.select(self.value, yes.value, no.value))

    def as_float(self) -> Value:
        """An integer as float32."""
        return Value(self.builder, self.builder.sitofp(self.value, _FLOAT))


def _indices(numbers: Sequence[int]) -> Any:
    return ir.Constant(ir.VectorType(_BIT32, len(numbers)), list(numbers))


class Code:
    """One function that is being written: of int64 arguments, without a result.

    Args:
        module: where the function goes.
        name: its symbol.
        arguments: how many.
        public: whether it can be called from outside.
    """

    def __init__(self, module: Any, name: str, arguments: int, *, public: bool = False) -> None:
        self.module = module
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_WORD] * arguments), name)
        self.function.linkage = "external" if public else "internal"
        self.builder = ir.IRBuilder(self.function.append_basic_block())
        self.arguments = [self._value(argument) for argument in self.function.args]

    def _value(self, value: Any) -> Value:
        return Value(self.builder, value)

    def finish(self) -> None:
        """End the function."""
        if not self.builder.block.is_terminated:
            self.builder.ret_void()

    def whole(self, number: int) -> Value:
        """An int64."""
        return self._value(ir.Constant(_WORD, number))

    def zeros(self) -> Value:
        """16 times 0."""
        return self._value(ir.Constant(_vector(_FLOAT), [0.0] * LANES))

    def single(self, number: float) -> Value:
        """A float32."""
        return self._value(ir.Constant(_FLOAT, number))

    def call(self, other: Code, *arguments: Value | int) -> None:
        """Call another function."""
        first = self.whole(0)
        self.builder.call(other.function, [first.like(argument).value for argument in arguments])

    def call_at(self, address: Value) -> None:
        """Call a C function without arguments."""
        kind = ir.FunctionType(_BIT32, [])
        self.builder.call(self.builder.inttoptr(address.value, kind.as_pointer()), [])

    def return_now(self) -> None:
        """Leave the function; the last thing in a branch."""
        self.builder.ret_void()

    def forever(self, body: Callable[[], None]) -> None:
        """Run `body` again and again; it ends by leaving the function. Nothing may follow."""
        again = self.builder.append_basic_block()
        self.builder.branch(again)
        self.builder.position_at_end(again)
        body()
        self.builder.branch(again)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Do the block only where the condition holds."""
        with self.builder.if_then(condition.value):
            yield

    def either(self, condition: Value, yes: Callable[[], None], no: Callable[[], None]) -> None:
        """Do one of two things."""
        with self.builder.if_else(condition.value) as (then, otherwise):
            with then:
                yes()
            with otherwise:
                no()

    def fold(
        self,
        first: Value | int,
        last: Value | int,
        step: int,
        carried: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """Run `body(i, values)` for i = first, first + step, ... while i + step <= last.

        body returns the values for the next round. Returned are those of the last one, behind the i that it
        would have been next.
        """
        builder = self.builder
        first, last = self.whole(0).like(first), self.whole(0).like(last)
        before = builder.block
        head, inside, after = (builder.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        phis = [builder.phi(value.value.type) for value in (first, *carried)]
        for phi, value in zip(phis, (first, *carried), strict=True):
            phi.add_incoming(value.value, before)
        index = self._value(phis[0])
        fits = builder.icmp_signed("<=", (index + step).value, last.value)
        builder.cbranch(fits, inside, after)
        builder.position_at_end(inside)
        made = body(index, [self._value(phi) for phi in phis[1:]])
        following = [index + step, *made]
        for phi, value in zip(phis, following, strict=True):
            phi.add_incoming(value.value, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return [self._value(phi) for phi in phis]

    def each(self, first: Value | int, last: Value | int, step: int, body: Callable[[Value], None]) -> Value:
        """Run `body(i)` as :meth:`fold` does; give the i that would have been next."""

        def without_values(index: Value, _: list[Value]) -> list[Value]:
            body(index)
            return []

        return self.fold(first, last, step, [], without_values)[0]

    def word(self, table: Value, index: Value | int) -> Value:
        """The int64 with this index in a table."""
        pointer = self.builder.inttoptr((table + self.whole(0).like(index) * 8).value, _WORD.as_pointer())
        return self._value(self.builder.load(pointer, align=8))

    def read(self, address: Value, kind: str = "float32", *, lanes: bool = True) -> Value:
        """16 numbers at an address, or one, widened to float32."""
        stored = _vector(STORED[kind]) if lanes else STORED[kind]
        wide = _vector(_FLOAT) if lanes else _FLOAT
        pointer = self.builder.inttoptr(address.value, stored.as_pointer())
        loaded = self.builder.load(pointer, align=SIZES[kind])
        if kind == "float16":
            loaded = self.builder.fpext(loaded, wide)
        elif kind == "int8":
            loaded = self.builder.sitofp(loaded, wide)
        elif kind == "bfloat16":
            bits = _vector(_BIT32) if lanes else _BIT32
            shift = ir.Constant(bits, [16] * LANES if lanes else 16)
            loaded = self.builder.bitcast(self.builder.shl(self.builder.zext(loaded, bits), shift), wide)
        return self._value(loaded)

    def write(self, address: Value, value: Value, kind: str = "float32") -> None:
        """Store one float32 or 16, narrowed to the kind."""
        number = value.value
        if kind == "float16":
            lanes = isinstance(number.type, ir.VectorType)
            number = self.builder.fptrunc(number, _vector(STORED[kind]) if lanes else STORED[kind])
        self.builder.store(number, self.builder.inttoptr(address.value, number.type.as_pointer()), align=SIZES[kind])

    def prefetch(self, address: Value, level: int) -> None:
        """Fetch memory that is read soon into the first or the second cache; it need not exist."""
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _BIT32, _BIT32, _BIT32])
        where = self.builder.inttoptr(address.value, _BYTES)
        options = [ir.Constant(_BIT32, number) for number in (0, 4 - level, 1)]
        self.builder.call(self._declared("llvm.prefetch.p0i8", kind), [where, *options])

    def fused(self, a: Value, b: Value, c: Value) -> Value:
        """a x b + c, rounded once."""
        return self._by_llvm("llvm.fma", a, b, c)

    def root(self, a: Value) -> Value:
        """The square root."""
        return self._by_llvm("llvm.sqrt", a)

    def absolute(self, a: Value) -> Value:
        """The number without its sign."""
        return self._by_llvm("llvm.fabs", a)

    def with_sign(self, a: Value, b: Value) -> Value:
        """`a` with the sign of `b`."""
        return self._by_llvm("llvm.copysign", a, b)

    def power_of_two(self, a: Value) -> Value:
        """2^n for a number n + 1.5 x 2^23: its last bits are n, and move into the exponent."""
        lanes = isinstance(a.value.type, ir.VectorType)
        bits = _vector(_BIT32) if lanes else _BIT32
        bias, shift = (ir.Constant(bits, [number] * LANES if lanes else number) for number in (127, 23))
        moved = self.builder.shl(self.builder.add(self.builder.bitcast(a.value, bits), bias), shift)
        return self._value(self.builder.bitcast(moved, a.value.type))

    def total(self, a: Value) -> Value:
        """The sum of the 16 lanes: the upper half is added to the lower one, four times."""
        value, width = a.value, LANES
        while width > 1:
            width //= 2
            halves = (_indices(range(width)), _indices(range(width, 2 * width)))
            low, high = (self.builder.shuffle_vector(value, value, half) for half in halves)
            value = self.builder.fadd(low, high)
        return self._value(self.builder.extract_element(value, ir.Constant(_BIT32, 0)))

    def atomic_add(self, address: Value, number: Value | int) -> Value:
        """Add to an int64 that threads share; give what it was."""
        pointer = self.builder.inttoptr(address.value, _WORD.as_pointer())
        return self._value(self.builder.atomic_rmw("add", pointer, address.like(number).value, "seq_cst"))

    def atomic_read(self, address: Value) -> Value:
        """An int64 that threads share."""
        pointer = self.builder.inttoptr(address.value, _WORD.as_pointer())
        return self._value(self.builder.load_atomic(pointer, "acquire", 8))

    def write_word(self, address: Value, number: Value) -> None:
        """Store an int64."""
        self.builder.store(number.value, self.builder.inttoptr(address.value, _WORD.as_pointer()), align=8)

    def ticks(self) -> Value:
        """The processor's own clock, int64."""
        function = self._declared("llvm.readcyclecounter", ir.FunctionType(_WORD, []))
        return self._value(self.builder.call(function, []))

    def _declared(self, name: str, kind: Any) -> Any:
        return self.module.globals.get(name) or ir.Function(self.module, kind, name)

    def _by_llvm(self, name: str, *values: Value) -> Value:
        kind = values[0].value.type
        suffix = f"v{LANES}f32" if isinstance(kind, ir.VectorType) else "f32"
        function = self._declared(f"{name}.{suffix}", ir.FunctionType(kind, [kind] * len(values)))
        return self._value(self.builder.call(function, [value.value for value in values]))
