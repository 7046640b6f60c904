"""Repeats and endings of ABC music, written out in the order in which they are played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .score import check_count

_MOST_STEPS = 1_000_000
_MOST_REPEATS = 8


@dataclass(frozen=True)
class Sound:
    """Notes at once, or a rest without any: length in whole notes, MIDI pitches, and those tied to the next sound."""

    length: Fraction
    pitches: tuple[int, ...] = ()
    tied: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Tempo:
    """A tempo from here on: beats per minute, and a beat in whole notes."""

    bpm: float
    beat: Fraction


@dataclass(frozen=True)
class Symbol:
    """A chord symbol: its MIDI pitches, none for a rest."""

    pitches: tuple[int, ...]


@dataclass(frozen=True)
class Bar:
    """A bar line as it is written, such as `|`, `|:` or `:|`."""

    text: str

    @property
    def ends_repeat(self) -> int:
        """Times that the part before is played; 0 where nothing is repeated."""
        colons = len(self.text) - len(self.text.lstrip(":"))
        if colons == len(self.text):  # `::` stands for `:||:`
            colons //= 2
        return min(colons, _MOST_REPEATS) + 1 if colons else 0

    @property
    def starts_repeat(self) -> bool:
        """True if a repeated part begins."""
        return self.text.endswith(":")

    @property
    def closes(self) -> bool:
        """True if a section ends."""
        return self.text in ("||", "|]", "[|")


@dataclass(frozen=True)
class Ending:
    """A part that is played in some of the passes only."""

    passes: frozenset[int]


Event = Sound | Tempo | Symbol | Bar | Ending


def unrolled(events: Sequence[Event]) -> list[Sound | Tempo | Symbol]:
    """Return the events in the order in which they are played.

    Raises:
        ValueError: there are too many.
    """
    played: list[Sound | Tempo | Symbol] = []
    index, start, turn = 0, 0, 1
    steps = 0
    while index < len(events):
        event = events[index]
        steps += 1
        if steps > _MOST_STEPS:
            raise ValueError(f"the score has more than {_MOST_STEPS} signs, its repeats played; take a part of it.")
        index += 1
        if isinstance(event, Bar):
            if event.ends_repeat and turn < _turns(event, events[index : index + 1]):
                index, turn = start, turn + 1
            elif _begins_section(event, events[index : index + 1], turn):
                start, turn = index, 1
        elif isinstance(event, Ending):
            if turn not in event.passes:
                index = _next_ending(events, index)
        else:
            played.append(event)
            check_count(len(played))
    return played


def _begins_section(bar: Bar, following: Sequence[Event], turn: int) -> bool:
    """Whether a later repeat goes back to this bar line, whose own repeats are played."""
    played = bool(bar.ends_repeat) and not _is_ending(following)
    return played or bar.starts_repeat or (bar.closes and turn > 1)


def _is_ending(following: Sequence[Event]) -> bool:
    return bool(following) and isinstance(following[0], Ending)


def _turns(bar: Bar, following: Sequence[Event]) -> int:
    """How often the part before a bar line is played: as often as it says, or as the ending behind it asks for."""
    after = following[0] if following else None
    return max(bar.ends_repeat, max(after.passes, default=0) if isinstance(after, Ending) else 0)


def _next_ending(events: Sequence[Event], index: int) -> int:
    """The index of the next ending, or of the event after the repeat that has no other."""
    for place in range(index, len(events)):
        event = events[place]
        if isinstance(event, Ending):
            return place
        if isinstance(event, Bar) and (event.ends_repeat or event.closes) and not _is_ending(events[place + 1 :]):
            return place + 1
    return len(events)
