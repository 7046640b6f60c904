"""Settings of a checkpoint, read field by field: a missing, mistyped or absurd field raises an error that names it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .regular import existing, regular_file

MAX_JSON_BYTES = 1 << 24
MAX_WHOLE = 1 << 24
"""The largest whole number that a setting may be: larger than every width, rate and vocabulary there is."""
_MAX_COUNT = 512
_MAX_NUMBER = 1e9
_MISSING = object()


class Fields:
    """A table of settings, and where it stands, for messages."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise ValueError(f"{where} is {type(values).__name__}, where a JSON object is needed; fetch it again.")
        self.values, self.where = values, where

    def part(self, name: str, default: Any = _MISSING) -> Fields:
        """A table within the table."""
        return Fields(self.get(name, default), f"{self.where}: {name}")

    def integer(self, name: str, default: int | None = None, *, high: int = MAX_WHOLE) -> int:
        """A whole number from 1 to `high`."""
        value = self.get(name, _MISSING if default is None else default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
            raise ValueError(f"{self.where}: {name} is {shown(value)}; allowed is a whole number from 1 to {high}.")
        return value

    def count(self, name: str, default: int | None = None) -> int:
        """How often something is repeated: each repetition is built before any weight is looked at."""
        return self.integer(name, default, high=_MAX_COUNT)

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self.get(name, _MISSING if default is None else default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.where}: {name} is {shown(value)}; allowed are true and false.")
        return value

    def number(self, name: str, default: float | None = None, *, high: float = _MAX_NUMBER) -> float:
        """A number above 0, up to `high`."""
        value = self.get(name, _MISSING if default is None else default)
        if not is_number(value) or not 0 < value <= high:
            raise ValueError(
                f"{self.where}: {name} is {shown(value)}; allowed is a number above 0 and at most {high:g}."
            )
        return float(value)

    def real(self, name: str, default: float | None = None) -> float:
        """A number of either sign."""
        value = self.get(name, _MISSING if default is None else default)
        if not is_number(value) or not abs(value) <= _MAX_NUMBER:
            raise ValueError(
                f"{self.where}: {name} is {shown(value)}; allowed is a number from -{_MAX_NUMBER:g} to {_MAX_NUMBER:g}."
            )
        return float(value)

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """One of several words."""
        value = self.get(name, _MISSING if default is None else default)
        if value not in allowed:
            raise ValueError(f"{self.where}: {name} is {shown(value)}; this pack implements {', '.join(allowed)}.")
        return str(value)

    def integers(self, name: str, default: Any = _MISSING, *, low: int = 1, high: int = 1 << 20) -> tuple[int, ...]:
        """A list of whole numbers."""
        values = self.get(name, default)
        ok = isinstance(values, list) and 0 < len(values) <= _MAX_COUNT
        if not ok or not all(type(n) is int and low <= n <= high for n in values):
            raise ValueError(
                f"{self.where}: {name} is {shown(values)}; allowed is a list of 1 to {_MAX_COUNT} whole numbers from "
                f"{low} to {high}."
            )
        return tuple(values)

    def require(self, name: str, *allowed: Any) -> None:
        """Refuse every value but the allowed ones and null, which stands for an absent field."""
        value = self.values.get(name)
        if value is None or any(value == one and type(value) is type(one) for one in allowed):
            return
        raise ValueError(
            f"{self.where}: {name} is {shown(value)}, which is not implemented; allowed is "
            f"{', '.join(map(repr, allowed)) or 'none'}."
        )

    def get(self, name: str, default: Any = _MISSING) -> Any:
        """The value as it stands; null is the same as absent."""
        value = self.values.get(name)
        if value is None:
            value = default
        if value is _MISSING:
            raise ValueError(f"{self.where} lacks the field {name!r}; fetch the model's own configuration.")
        return value


def shown(value: Any) -> str:
    """A value out of a file for a message, cut to 80 characters."""
    try:
        return f"{value!r:.80}"
    except ValueError:  # Python writes out no number of more than some thousand digits
        return "a number of thousands of digits"


def is_number(value: Any) -> bool:
    """Whether a value out of a file is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def read_json(path: Path) -> Fields:
    """A JSON file whose root is a table. Raises ValueError on anything else, FileNotFoundError where there is none."""
    size = existing(regular_file(path)).st_size
    if size > MAX_JSON_BYTES:
        raise ValueError(f"{path} has {size} bytes; allowed are {MAX_JSON_BYTES}, so fetch it again.")
    try:
        # Bytes, so that a byte order mark is passed over and UTF-16 is known by it.
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON ({error}); fetch it again.") from error
    return Fields(values, str(path))
