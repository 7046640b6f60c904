"""Names of notes and keys: `F#`, `Bb`, `c sharp minor`; and the sharps and flats of a key."""

from __future__ import annotations

import re

NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
"""A name for each pitch class."""
MODES = ("major", "minor")
NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SIGNS = {"#": 1, "b": -1, "\u266f": 1, "\u266d": -1, "sharp": 1, "flat": -1, "": 0}
_KEY = re.compile(r"([A-Ga-g])\s*(#|b|\u266f|\u266d|sharp|flat)?\s*(major|minor|maj|min|m)?", re.IGNORECASE)
_SHARPS = "FCGDAEB"
# Steps of a mode's tonic above that of the major scale with the same notes.
_MODE_STEPS = {"maj": 0, "ion": 0, "": 0, "mix": 7, "dor": 2, "m": 9, "min": 9, "aeo": 9, "phr": 4, "loc": 11, "lyd": 5}


def read_key(text: str) -> tuple[int, str]:
    """Read the name of a key: its tonic (0 = C) and its mode.

    >>> read_key("F# minor"), read_key("Bb"), read_key("c sharp minor")
    ((6, 'minor'), (10, 'major'), (1, 'minor'))

    Raises:
        ValueError: the text is none.
    """
    match = _KEY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"the key is {text[:40]!r}; allowed are names such as C major, F# minor and Bb major.")
    letter, sign, mode = match.groups("")
    minor = mode.lower() in ("minor", "min") or mode == "m"
    return (NATURALS[letter.upper()] + _SIGNS[sign.lower()]) % 12, MODES[minor]


def key_name(tonic: int, mode: str) -> str:
    """Name a key.

    >>> key_name(6, "minor")
    'F# minor'
    """
    return f"{NAMES[tonic % 12]} {mode}"


def signature(letter: str, sign: str, mode: str) -> dict[str, int] | None:
    """Return the sharps (1) and flats (-1) of a key by its letters, or None for an unknown mode.

    >>> signature("D", "", "major"), signature("E", "b", ""), signature("A", "", "dor")
    ({'F': 1, 'C': 1}, {'B': -1, 'E': -1, 'A': -1}, {'F': 1})
    """
    steps = _MODE_STEPS.get(mode.lower()[:3])
    if steps is None:
        return None
    # Walk from the tonic to the major scale with the same notes, in fifths: seven semitones are one fifth.
    fifths = _SHARPS.index(letter.upper()) - 1 + 7 * _SIGNS[sign] - (steps * 7) % 12
    if steps == 5:  # the fourth above is one fifth down, not eleven up
        fifths += 12
    count = max(-7, min(7, fifths))
    return dict.fromkeys(_SHARPS[:count], 1) if count > 0 else dict.fromkeys(_SHARPS[::-1][:-count], -1)
