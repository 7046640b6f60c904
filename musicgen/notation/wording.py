"""Tempo and key as words of a description, in a form that MusicGen was trained on."""

from __future__ import annotations

from .keys import MODES, NAMES
from .score import check_tempo

_WORDS = tuple(
    f"{name[0]}{' sharp' if name.endswith('#') else ' flat' if name.endswith('b') else ''}" for name in NAMES
)
KEYS = tuple(f"{name} {mode}" for mode in MODES for name in _WORDS)
"""Every key in words that tokenizers know: `C major`, `C sharp major`, `E flat major` and so on."""


def with_tempo_and_key(description: str, bpm: float | None, key: str | None) -> str:
    """Append a tempo and a key to a description.

    Audiocraft appended labels such as `bpm: 120` and `key: C major` to the descriptions that the released models were
    trained on.

    >>> with_tempo_and_key("slow jazz", 83, "A minor"), with_tempo_and_key("", 120.0, None)
    ('slow jazz, bpm: 83, key: A minor', 'bpm: 120')

    Raises:
        ValueError: the tempo is none.
    """
    parts = [description.strip().rstrip(",")]
    if bpm is not None:
        parts.append(f"bpm: {check_tempo(bpm):g}")
    if key is not None:
        parts.append(f"key: {key}")
    return ", ".join(part for part in parts if part)
