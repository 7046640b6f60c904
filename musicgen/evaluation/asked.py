"""The tempo and the key that a description asks for, read from its words, and the names of keys."""

from __future__ import annotations

import re

Key = tuple[int, str]
"""Pitch class of the tonic, 0 = C, and `major` or `minor`."""

NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
KEY_NAMES = tuple(f"{note} {mode}" for mode in ("major", "minor") for note in NOTES)

_NUMBER = r"(\d{2,3}(?:\.\d+)?)"
_TEMPO = re.compile(
    rf"{_NUMBER}\s*-?\s*(?:bpm|beats per minute|beats a minute)\b|\b(?:bpm|tempo)(?:\s+of)?\s*[:=]?\s*{_NUMBER}",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"\b([a-g])\s*(#|\u266f|\u266d|-?\s*sharp\b|-?\s*flat\b|b(?=[\s-]))?\s*-?\s*(maj|min)(?:or)?\b", re.IGNORECASE
)
_SHORT_KEY = re.compile(r"\b(?:key(?:\s+of)?|in)[\s:]+([A-G])(#|b)?(m)\b")
_PITCH = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}


def tempo_asked(description: str) -> float | None:
    """Return the beats per minute that a description names first; None where it names none.

    >>> tempo_asked("lofi at 83 bpm, in a minor"), tempo_asked("tempo: 120"), tempo_asked("slow jazz of 1950")
    (83.0, 120.0, None)
    """
    match = _TEMPO.search(description)
    return float(match[1] or match[2]) if match else None


def key_asked(description: str) -> Key | None:
    """Return the key that a description names first; None where it names none.

    >>> key_asked("rock, 125 bpm, key of f sharp minor"), key_asked("Db major"), key_asked("in Am"), key_asked("a song")
    ((6, 'minor'), (1, 'major'), (9, 'minor'), None)
    """
    match = _KEY.search(description) or _SHORT_KEY.search(description)
    if match is None:
        return None
    accidental = (match[2] or "").strip("- ").lower()
    step = 1 if accidental in ("#", "sharp", "\u266f") else -1 if accidental else 0
    return (_PITCH[match[1].lower()] + step) % 12, "major" if match[3].lower() == "maj" else "minor"


def key_name(key: Key) -> str:
    """Return the name of a key.

    >>> key_name((9, "minor"))
    'A minor'
    """
    return f"{NOTES[key[0]]} {key[1]}"


def parse_key(name: str) -> Key:
    """Return the key of a name such as `A minor`, `Bb major` or `f sharp minor`.

    Raises:
        ValueError: the text names no key.
    """
    found = key_asked(name)
    if found is None:
        raise ValueError(f"key is {name!r}; allowed are names such as C major, F# minor or Bb major.")
    return found
