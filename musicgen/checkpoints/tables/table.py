"""A table of settings: each is read, or refused unless it has an implemented value, or of no matter at inference.

A setting that none of the three lists has is reported by its name and value. The tables themselves are in
`audiocraft.py` and `transformers.py`; `docs/formats.md` is made from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..files.settings import Fields, shown

TRAINING = "training"
FIRST_VALUES = "first values of the weights"
SPEED = "speed, memory and number formats"
PLACES = "names, paths and caches"
REQUEST = "given by each request"
TOLD_ELSEWHERE = "told by other settings or by the tensors"
OTHER_USES = "other uses of the same class"
REASONS = (TRAINING, FIRST_VALUES, SPEED, PLACES, REQUEST, TOLD_ELSEWHERE, OTHER_USES)
"""Why a setting is of no matter at inference."""


@dataclass(frozen=True)
class Table:
    """The settings of one table in a file.

    Args:
        name: the table's name in the file.
        read: settings that the model is built by; a value that is not implemented is refused where it is read.
        only: settings that are refused unless they have one of these values, or are absent or null.
        unused: settings of no matter at inference, by the reason.
        tables: the tables within it.
        chosen_by: the setting that names the one of `tables` that counts; None where all of them count.
        general: settings that it shares with other tables.
        is_open: whether further settings are passed over, because the rest of the table concerns something else.
    """

    name: str
    read: tuple[str, ...] = ()
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    unused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    chosen_by: str | None = None
    general: Table | None = None
    is_open: bool = False

    def known(self) -> frozenset[str]:
        """The names of all settings and tables on its lists."""
        unused = [name for names in self.unused.values() for name in names]
        own = frozenset([*self.read, *self.only, *unused, *self.tables])
        return own if self.general is None else own | self.general.known()

    def require(self, fields: Fields) -> None:
        """Raise ValueError on the first setting that has a value which is not implemented, also in tables within it."""
        if self.general is not None:
            self.general.require(fields)
        for name, allowed in self.only.items():
            fields.require(name, *allowed)
        for inner, part in self._inner(fields):
            inner.require(part)

    def unknown(self, fields: Fields) -> tuple[str, ...]:
        """Return the settings on none of the lists, each with its place and value; those that are null are absent.

        >>> Table("decoder", read=("hidden_size",)).unknown(Fields({"hidden_size": 48, "twist": 0.5}, "config.json"))
        ('config.json: twist is 0.5',)
        """
        known = self.known()
        strange = [] if self.is_open else [name for name in fields.values if name not in known]
        found = [f"{fields.where}: {name:.80} is {shown(fields.values[name])}" for name in map(str, strange)]
        found = [text for text, name in zip(found, strange, strict=True) if fields.values[name] is not None]
        return (*found, *(text for inner, part in self._inner(fields) for text in inner.unknown(part)))

    def counts(self) -> tuple[int, int, int]:
        """Return how many settings are read, refused unless they have a value, and unused: with those of the tables
        within, and without the general ones."""
        own = len(self.read), len(self.only), sum(len(names) for names in self.unused.values())
        inner = [table.counts() for table in self.tables.values()]
        read, only, unused = (sum(numbers) for numbers in zip(own, *inner, strict=True))
        return read, only, unused

    def _inner(self, fields: Fields) -> Iterator[tuple[Table, Fields]]:
        """The tables within it that count and are there."""
        chosen = None if self.chosen_by is None else fields.values.get(self.chosen_by)
        for name, table in self.tables.items():
            if isinstance(fields.values.get(name), Mapping) and (self.chosen_by is None or name == chosen):
                yield table, fields.part(name)
