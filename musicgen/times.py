"""Times as people write them, in seconds: `12.5`, `12.5s`, `1:05`, `bar 16`, `bar 3 beat 2`, `4 bars`, `20%`.

A place is where something begins: bar 1 and beat 1 begin at 0 s. A length is how long something lasts. A range is two
places, or a place and a length. Bars and beats need a :class:`Meter`, and shares of a piece its duration. Every error
is one sentence that names the text, the allowed forms and the remedy.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

FORMS = "12.5, 12.5s, 1:05, bar 16, beat 3 or bar 16 beat 3"
"""The forms of a place, for messages; `20%` is allowed as well where the duration is known."""
LENGTH_FORMS = "2.5, 2.5s, 1:05, 4 bars or 2 beats"


def _plainly(pattern: re.Pattern[str]) -> str:
    """A pattern's text with groups that capture nothing."""
    return re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern.pattern)


_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_SECONDS = re.compile(rf"({_NUMBER})\s*(ms|milliseconds?|s|sec|secs|seconds?|m|min|minutes?)?")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d{1,2}(?:\.\d*)?)")
_SHARE = re.compile(rf"({_NUMBER})\s*%")
_BAR = re.compile(rf"(?:bar|measure)\s*({_NUMBER})(?:[\s,]*beat\s*({_NUMBER}))?")
_BEAT = re.compile(rf"beat\s*({_NUMBER})")
_COUNT = re.compile(rf"({_NUMBER})\s*(bars?|measures?|beats?)")
_PLACE = re.compile(
    rf"\s*(?:{_plainly(_CLOCK)}|{_plainly(_BAR)}|{_plainly(_BEAT)}|{_plainly(_SHARE)}|{_plainly(_SECONDS)})(?=[\s:,;=~]|$)",
    re.IGNORECASE,
)
_UNTIL = re.compile(r"\s*(?:\bto\b|\buntil\b|\.\.+|->|-)\s*")
_LASTS = re.compile(r"\s*(?:\bfor\b|\+)\s*")


@dataclass(frozen=True)
class Meter:
    """Tempo and metre: how many beats in a minute and in a bar.

    >>> Meter(120.0).bar, Meter(90.0, 3).bar
    (2.0, 2.0)
    """

    bpm: float
    beats_per_bar: int = 4

    def __post_init__(self) -> None:
        """Raise ValueError for a tempo that is not above 0, or a bar without a beat."""
        if not (math.isfinite(self.bpm) and self.bpm > 0):
            raise ValueError(f"bpm is {self.bpm:g}; allowed is a number of beats per minute above 0, such as 120.")
        if self.beats_per_bar < 1 or self.beats_per_bar != int(self.beats_per_bar):
            raise ValueError(f"beats per bar is {self.beats_per_bar}; allowed is a whole number from 1 on, such as 4.")

    @property
    def beat(self) -> float:
        """Seconds in a beat."""
        return float(self.beats(1))

    @property
    def bar(self) -> float:
        """Seconds in a bar."""
        return float(self.beats(self.beats_per_bar))

    def beats(self, count: Fraction | float) -> Fraction:
        """Return the exact seconds in a number of beats."""
        return Fraction(count) * 60 / Fraction(str(self.bpm))


def parse_time(text: str, meter: Meter | None = None, *, duration: float | None = None) -> float:
    """Return the seconds at which a place begins, counted from the start of the piece.

    >>> parse_time("12.5s"), parse_time("1:05"), parse_time("bar 3", Meter(120.0)), parse_time("beat 3", Meter(120.0))
    (12.5, 65.0, 4.0, 1.0)
    >>> parse_time("bar 2 beat 4", Meter(120.0)), parse_time("50%", duration=30.0)
    (3.5, 15.0)

    Args:
        text: the place; see FORMS. Bars and beats count from 1, and may be broken: `beat 2.5` is half a beat later.
        meter: tempo and metre, needed for bars and beats only.
        duration: seconds of the whole piece, needed for shares only.

    Raises:
        ValueError: the text is no place, or needs a meter or a duration that was not given.
    """
    plain = _plain(text)
    if match := _BAR.fullmatch(plain):
        bar, beat = _counted(match[1], "bar", text), _counted(match[2] or "1", "beat", text)
        given = _needed(meter, text)
        if match[2] and beat >= given.beats_per_bar + 1:
            raise ValueError(
                f"{text.strip()!r} names a beat beyond the bar, which has {given.beats_per_bar} beats; "
                "name a beat of the bar, or raise the beats per bar."
            )
        return float(given.beats((bar - 1) * given.beats_per_bar + beat - 1))
    if match := _BEAT.fullmatch(plain):
        return float(_needed(meter, text).beats(_counted(match[1], "beat", text) - 1))
    if match := _SHARE.fullmatch(plain):
        if duration is None:
            raise ValueError(f"{text.strip()!r} is a share of a piece whose duration is not known here; write seconds.")
        return float(Fraction(match[1]) / 100 * Fraction(str(duration)))
    seconds = _seconds(plain)
    if seconds is None:
        raise ValueError(f"{_told(text)} is not a time; allowed is {FORMS}, so write it in one of these forms.")
    return float(seconds)


def split_place(text: str) -> tuple[str, str]:
    """Split a text that begins with a place into the place and the rest; the place is empty where there is none.

    >>> split_place("bar 16: big band"), split_place("0s 12 strings"), split_place("5 strings"), split_place("piano")
    (('bar 16', ': big band'), ('0s', ' 12 strings'), ('5', ' strings'), ('', 'piano'))
    """
    match = _PLACE.match(text)
    return (match[0].strip(), text[match.end() :]) if match else ("", text)


def parse_length(text: str, meter: Meter | None = None) -> float:
    """Return how many seconds something lasts.

    >>> parse_length("2.5s"), parse_length("4 bars", Meter(120.0)), parse_length("1 beat", Meter(120.0))
    (2.5, 8.0, 0.5)

    Args:
        text: the length; see LENGTH_FORMS.
        meter: tempo and metre, needed for bars and beats only.

    Raises:
        ValueError: the text is no length, or needs a meter that was not given.
    """
    plain = _plain(text)
    if match := _COUNT.fullmatch(plain):
        given = _needed(meter, text)
        size = 1 if match[2].startswith("beat") else given.beats_per_bar
        return float(given.beats(Fraction(match[1]) * size))
    seconds = _seconds(plain)
    if seconds is None:
        raise ValueError(
            f"{_told(text)} is not a length; allowed is {LENGTH_FORMS}, so write it in one of these forms."
        )
    return float(seconds)


def parse_range(text: str, meter: Meter | None = None, *, duration: float | None = None) -> tuple[float, float]:
    """Return the seconds at which a range begins and ends.

    >>> parse_range("4s - 8s"), parse_range("bar 2 to bar 4", Meter(120.0)), parse_range("4s for 1 bar", Meter(120.0))
    ((4.0, 8.0), (2.0, 6.0), (4.0, 6.0))

    Args:
        text: two places with `-`, `to` or `until` between them, or a place and a length with `for` or `+`. A range ends
            where its second place begins.
        meter: tempo and metre, needed for bars and beats only.
        duration: seconds of the whole piece, needed for shares, and for `end` as the second place.

    Raises:
        ValueError: the text is no range, or does not end after its beginning.
    """
    for separator, lasts in ((_LASTS, True), (_UNTIL, False)):
        parts = separator.split(text.strip())
        if len(parts) != 2 or not all(parts):
            continue
        start = parse_time(parts[0], meter, duration=duration)
        if lasts:
            end = start + parse_length(parts[1], meter)
        elif _plain(parts[1]) == "end" and duration is not None:
            end = duration
        else:
            end = parse_time(parts[1], meter, duration=duration)
        if end <= start:
            raise ValueError(
                f"{text.strip()!r} ends at {end:g} s and begins at {start:g} s; allowed is an end after the beginning."
            )
        return start, end
    raise ValueError(
        f"{_told(text)} is not a range of time; allowed is two times such as '4s - 8s' or 'bar 2 to bar 4', or a time "
        "and a length such as 'bar 2 for 1 bar'."
    )


def show_time(seconds: float) -> str:
    """Return a place as it is shown to users.

    >>> show_time(12.5), show_time(65.0)
    ('12.5 s', '1:05')
    """
    if seconds < 60:
        return f"{seconds:.4g} s"
    minutes, rest = divmod(round(seconds, 2), 60)
    return f"{int(minutes)}:{rest:05.2f}".removesuffix(".00")


def _plain(text: str) -> str:
    return " ".join(text.strip().lower().split())


def _told(text: str) -> str:
    return repr(text.strip()) if text.strip() else "an empty text"


def _seconds(plain: str) -> Fraction | None:
    """Seconds of `12.5`, `12.5s`, `300 ms`, `2 min`, `1:05` or `1:02:03`; None for any other text."""
    if match := _CLOCK.fullmatch(plain):
        seconds = Fraction(match[3])
        return None if seconds >= 60 else (int(match[1] or 0) * 60 + int(match[2])) * 60 + seconds
    if match := _SECONDS.fullmatch(plain):
        unit = match[2] or "s"
        size = Fraction(1, 1000) if unit.startswith(("ms", "milli")) else 60 if unit.startswith("m") else 1
        return Fraction(match[1]) * size
    return None


def _counted(number: str, noun: str, text: str) -> Fraction:
    count = Fraction(number)
    if count < 1:
        raise ValueError(
            f"{text.strip()!r} names {noun} {number}; bars and beats count from 1, so the first is {noun} 1."
        )
    return count


def _needed(meter: Meter | None, text: str) -> Meter:
    if meter is None:
        raise ValueError(f"{text.strip()!r} needs a tempo; give the beats per minute (bpm), or write seconds.")
    return meter
