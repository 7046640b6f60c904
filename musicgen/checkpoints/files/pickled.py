"""PyTorch's own files (`.bin`, `.pt`, `.th`), read without running anything that they name.

A file of `torch.save` since 1.6 is a zip archive: a pickle, and beside it one uncompressed member
per storage. A pickle is a program for a small machine with a stack. The machine here knows plain
data, ordered dictionaries and PyTorch's tensors, of which it notes only where their numbers lie.
It has no means to import or to call: whatever else a pickle names becomes a :class:`StandIn`, which
holds plain state and does nothing. All sizes are checked against the file.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch

from .archive import BoundedFile, Members, RefusedError, refuse_others
from .opened import OpenedFile
from .tensors import TensorRecord

_MAX_STEPS = 500_000
_MAX_DEPTH = 64
_MAX_VALUES = 100_000
_STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


def _shown(value: Any) -> str:
    # A nested value may be long beyond measure when it is written out.
    return f"{value!r:.80}" if value is None or isinstance(value, str | int | float) else type(value).__name__


class StandIn:
    """Stands for a class or function that a pickle names, and for the object that it would have made."""

    __slots__ = ("name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: Any = None

    def __repr__(self) -> str:
        return f"<{self.name}>"


class _Storage:
    """Numbers in a file: where they begin, of which type, how many."""

    __slots__ = ("count", "dtype", "offset")

    def __init__(self, offset: int, dtype: torch.dtype, count: int) -> None:
        self.offset, self.dtype, self.count = offset, dtype, count


def load(path: Path) -> Any:
    """The contents of a PyTorch file: plain data with a :class:`TensorRecord` in place of each tensor.

    Nothing of the file is run, and no tensor is read. Raises ValueError if it is damaged, too large,
    compressed, or written before PyTorch 1.6.
    """
    opened = OpenedFile(path)
    try:
        refuse_others(path, opened.read(0, 64))
        with zipfile.ZipFile(BoundedFile(opened.raw)) as archive:
            members = Members(opened, archive)
            return _Machine(members).run(members.pickle())
    except RefusedError:
        raise
    except Exception as error:  # zipfile and pickletools raise a dozen kinds on damaged files
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ValueError(
            f"{path} is not a whole PyTorch file ({reason}): it is damaged or cut short, so fetch it again."
        ) from error


class _Machine:
    """Runs a pickle's opcodes on plain data. The names of its methods are those of `pickletools`."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[tuple[str, torch.dtype, int], _Storage] = {}

    def run(self, data: bytes) -> Any:
        """The value that the program leaves on the stack."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count >= _MAX_STEPS:
                raise ValueError(f"its pickle has more than {_MAX_STEPS} steps")
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise ValueError("its pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(self._take(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[int(argument)])
        elif name not in ("PROTO", "FRAME"):
            method = getattr(self, f"_{name.lower()}", None) if name in _METHODS else None
            if method is None:
                raise ValueError(f"its pickle has the step {name}, which no model needs")
            method(argument)

    def _take(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise ValueError("its pickle takes more than is there")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _since_mark(self) -> list[Any]:
        return self._take(len(self.stack) - self.marks.pop())

    def _mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _list(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def _dict(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._set_items(items)

    def _frozenset(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _append(self, _: Any) -> None:
        self._extend(self._take(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    _additems = _appends

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def _setitem(self, _: Any) -> None:
        self._set_items(self._take(2))

    def _setitems(self, _: Any) -> None:
        self._set_items(self._since_mark())

    def _set_items(self, items: list[Any]) -> None:
        # Other keys than these name nothing in a model, and hashing a nested one may take forever.
        if isinstance(self.stack[-1], dict):
            pairs = zip(items[::2], items[1::2], strict=True)
            self.stack[-1].update((key, value) for key, value in pairs if isinstance(key, str | int))

    def _global(self, argument: str) -> None:
        self.stack.append(StandIn(argument.replace(" ", ".")))

    def _stack_global(self, _: Any) -> None:
        module, name = self._take(2)
        named = isinstance(module, str) and isinstance(name, str)
        self.stack.append(StandIn(f"{module}.{name}" if named else "unnamed"))

    def _inst(self, argument: str) -> None:
        self._since_mark()
        self.stack.append(StandIn(argument.replace(" ", ".")))

    def _obj(self, _: Any) -> None:
        maker = self._since_mark()[0]
        self.stack.append(StandIn(getattr(maker, "name", "unnamed")))

    def _reduce(self, _: Any) -> None:
        maker, arguments = self._take(2)
        self.stack.append(self._made(maker, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        maker, arguments, _keywords = self._take(3)
        self.stack.append(self._made(maker, arguments))

    def _made(self, maker: Any, arguments: Any) -> Any:
        """Make the result of a call, for the few names that make a model; else a stand-in."""
        name = maker.name if isinstance(maker, StandIn) else "unnamed"
        if not isinstance(arguments, tuple):
            return StandIn(name)
        if name in _TABLES:
            return {}
        if name == "torch.Size" and len(arguments) == 1:
            return arguments[0]
        if name in _PARAMETERS and arguments:
            return arguments[0]
        if name in _TENSORS and len(arguments) >= 4:
            return self._tensor(*arguments[:4])
        if name in _SUBCLASSES and len(arguments) == 4:
            return self._of_subclass(*arguments)
        return StandIn(name)

    def _of_subclass(self, maker: Any, kind: Any, arguments: Any, state: Any) -> Any:
        """A tensor with attributes is a tensor; of one that several devices share, the only share if there is one."""
        made = self._made(maker, arguments)
        if isinstance(made, TensorRecord) or getattr(maker, "name", "") != "torch._utils._rebuild_wrapper_subclass":
            return made
        shares = _shares(state)
        size = arguments[2] if isinstance(arguments, tuple) and len(arguments) > 2 else None
        if len(shares) == 1 and isinstance(shares[0], TensorRecord) and shares[0].shape == size:
            return shares[0]
        return StandIn(getattr(kind, "name", "unnamed"))

    def _build(self, _: Any) -> None:
        (state,) = self._take(1)
        if isinstance(self.stack[-1], StandIn):
            self.stack[-1].state = _attributes(state)

    def _binpersid(self, _: Any) -> None:
        (identity,) = self._take(1)
        kind, storage, key, _location, count = identity
        dtype = _STORAGES.get(getattr(storage, "name", ""))
        if kind != "storage" or dtype is None:
            self.stack.append(StandIn("a storage of an unknown type"))
            return
        if type(count) is not int or count < 0 or type(key) is not str:
            raise ValueError(f"a storage has {_shown(count)} numbers")
        name = (key, dtype, count)
        if name not in self.storages:
            offset = self.members.offset(key, count * dtype.itemsize)
            self.storages[name] = _Storage(offset, dtype, count)
        self.stack.append(self.storages[name])

    def _tensor(self, storage: Any, first: Any, shape: Any, stride: Any) -> TensorRecord | StandIn:
        if not isinstance(storage, _Storage):
            return StandIn("tensor of an unknown type")
        numbers = (first, *shape, *stride)
        if len(shape) != len(stride) or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError(f"a tensor has the sizes and strides {', '.join(map(_shown, numbers[1:]))}")
        count = math.prod(shape)
        extent = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if count else 0
        if first + extent > storage.count:
            raise ValueError(f"a tensor of shape {list(shape)} reaches beyond its storage")
        if extent != count:
            raise ValueError(f"a tensor of shape {list(shape)} has gaps or repeats (stride {list(stride)})")
        offset = storage.offset + first * storage.dtype.itemsize
        in_order = tuple(math.prod(shape[at + 1 :]) for at in range(len(shape)))
        contiguous = all(n < 2 or step == plain for n, step, plain in zip(shape, stride, in_order, strict=True))
        return TensorRecord(
            self.members.opened, offset, storage.dtype, tuple(shape), None if contiguous else tuple(stride)
        )


def _attributes(state: Any) -> Any:
    """An object's attributes, which are a table, or two where the class has slots."""
    if not isinstance(state, tuple) or not state:
        return state
    slots = state[1] if len(state) == 2 and isinstance(state[1], dict) else {}
    return {**state[0], **slots} if isinstance(state[0], dict) else slots or state[0]


def _shares(state: Any) -> list[Any]:
    """The tensors that one process holds of a DTensor or a ShardedTensor."""
    attributes = _attributes(state)
    if isinstance(attributes, dict):
        return [attributes.get("_local_tensor")]
    shards = state[0] if isinstance(state, tuple) and state and isinstance(state[0], list) else []
    tables = [shard.state for shard in shards if isinstance(shard, StandIn) and isinstance(shard.state, dict)]
    return [table.get("tensor") for table in tables]


_TABLES = frozenset(("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict"))
_PARAMETERS = frozenset(("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"))
_TENSORS = frozenset(("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"))
_SUBCLASSES = frozenset(("torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2"))
_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_CONSTANTS: dict[str, Any] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_METHODS = frozenset(
    (
        *("MARK", "MEMOIZE", "POP", "POP_MARK", "DUP", "TUPLE", "LIST", "DICT", "FROZENSET"),
        *("APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL"),
        *("INST", "OBJ", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "BINPERSID"),
    )
)


def plain(value: Any) -> Any:
    """Settings out of a pickle as plain dictionaries, lists, strings and numbers.

    OmegaConf's containers keep theirs in the field `_content`, and its values in `_val`. Anything else
    becomes None. Raises ValueError on more values or a deeper nesting than settings have.
    """
    left = _MAX_VALUES

    def convert(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _MAX_DEPTH:
            raise ValueError("its settings are nested too deeply, or too many")
        if isinstance(value, StandIn):
            state = value.state if isinstance(value.state, dict) else {}
            return convert(state.get("_content", state.get("_val")), depth + 1)
        if isinstance(value, dict):
            return {str(key): convert(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [convert(item, depth + 1) for item in value]
        return value if isinstance(value, str | int | float | bool) else None

    return convert(value, 0)
