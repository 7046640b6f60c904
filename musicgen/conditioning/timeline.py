"""A timeline: descriptions that take over from one another at given times, written line by line.

A line is a place, then a text: `15s: calm piano`, `bar 16 big band`. `~4s` behind the place lets the music change for
4 s. A text that begins with `+` or `-` changes the description before it: `+ drums` adds a phrase, `- drums` takes one
out.
Lines that are empty or begin with `#` are passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from ..times import FORMS, Meter, parse_length, parse_time, show_time, split_place
from .condition import Span

_EDIT = re.compile(r"(?:^|\s)([+-])(?=\s)")
_LENGTH = re.compile(r"\s*~\s*((?:\d+:\d+|\d+\.?\d*|\.\d+)\s*(?:(?:ms|secs?|s|min|bars?|beats?)\b)?)", re.IGNORECASE)


@dataclass(frozen=True)
class Section:
    """One description and its time."""

    text: str
    span: Span


def parse_timeline(text: str, meter: Meter | None = None, *, morph: float = 0.0) -> tuple[Section, ...]:
    """Read a timeline.

    >>> for section in parse_timeline("0s lofi piano\\n15s ~4s + drums\\nbar 16: big band", Meter(120.0)):
    ...     print(section.text, section.span)
    lofi piano Span(start=0.0, end=15.0, rise=0.0, fall=4.0, carry=None)
    lofi piano, drums Span(start=15.0, end=30.0, rise=4.0, fall=0.0, carry=None)
    big band Span(start=30.0, end=None, rise=0.0, fall=0.0, carry=None)

    Args:
        text: the lines. A first line without a place begins at 0 s.
        meter: tempo and metre, needed for bars and beats only.
        morph: seconds that a change takes where its line names no length; 0 changes at once.

    Returns:
        One section for each line, each ending where the next one begins.

    Raises:
        ValueError: there is no line, a line cannot be read, or lines are out of order or overlap.
    """
    lines = [line.strip() for line in text.splitlines()]
    starts: list[tuple[float, float, str]] = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        start, rise, words = _read_line(line, meter, morph, starts[-1][2] if starts else None)
        starts.append((start, rise if starts else 0.0, words))
    if not starts:
        raise ValueError(
            "the timeline is empty; allowed are lines of a time and a description, such as '0s calm piano'."
        )
    if starts[0][0] > 0:
        raise ValueError(
            f"the timeline begins at {show_time(starts[0][0])}; allowed is a first line at 0s, which may have no "
            "description."
        )
    for (start, rise, _), (following, _, _) in pairwise(starts):
        _check_order(start, rise, following)
    ends = [*starts[1:], None]
    return tuple(
        Section(words, Span(start, next_ and next_[0], rise, next_[1] if next_ else 0.0))
        for (start, rise, words), next_ in zip(starts, ends, strict=True)
    )


def _read_line(line: str, meter: Meter | None, morph: float, before: str | None) -> tuple[float, float, str]:
    """Start, length of the change and description of a line."""
    place, rest = split_place(line)
    if not place and before is not None:
        raise ValueError(
            f"the line {line!r} begins with no time; allowed is {FORMS} and then a description, so begin it with one."
        )
    start = parse_time(place, meter) if place else 0.0
    if match := _LENGTH.match(rest):
        morph, rest = parse_length(match[1], meter), rest[match.end() :]
    elif rest.lstrip().startswith("~"):
        raise ValueError(f"the line {line!r} has no length after ~; allowed is one such as ~4s or ~1 bar.")
    return start, morph, _changed(rest.lstrip().removeprefix(":").strip(), before, line)


def _changed(words: str, before: str | None, line: str) -> str:
    """A description, or the one before it with phrases added and taken out."""
    if not words.startswith(("+", "-")):
        return words
    if before is None:
        raise ValueError(f"the line {line!r} changes a description, but it is the first; write a whole one there.")
    phrases = [phrase.strip() for phrase in before.split(",") if phrase.strip()]
    _, *parts = _EDIT.split(words)
    if not parts:
        raise ValueError(f"the line {line!r} needs a space after its sign; write '+ drums' or '- drums'.")
    for sign, phrase in zip(parts[::2], (part.strip(" ,") for part in parts[1::2]), strict=True):
        if not phrase:
            raise ValueError(f"the line {line!r} has nothing after {sign!r}; write a phrase there, such as '+ drums'.")
        if sign == "+":
            phrases.append(phrase)
            continue
        kept = [each for each in phrases if each.lower() != phrase.lower()]
        if len(kept) == len(phrases):
            raise ValueError(
                f"the line {line!r} takes out {phrase!r}, which is no phrase of the description before it; allowed "
                f"there are {', '.join(map(repr, phrases)) or 'none, since it is empty'}."
            )
        phrases = kept
    return ", ".join(phrases)


def _check_order(start: float, rise: float, following: float) -> None:
    if following <= start:
        raise ValueError(
            f"a section at {show_time(following)} comes after one at {show_time(start)}; write the sections in the "
            "order of their times, each time once."
        )
    if start + rise > following:
        raise ValueError(
            f"the section at {show_time(start)} takes {show_time(rise)} to arrive, but the next one begins at "
            f"{show_time(following)}, so they overlap; shorten the change or begin the next section later."
        )
