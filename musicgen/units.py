"""Sizes as a user reads them."""

from __future__ import annotations

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def size_text(size: float) -> str:
    """Return a number of bytes in the unit that suits it.

    >>> size_text(13.7e9), size_text(2_408_000), size_text(512)
    ('13.7 GB', '2.41 MB', '512 bytes')
    """
    for number, unit in _UNITS:
        if size >= number:
            return f"{size / number:.3g} {unit}"
    return f"{size:.0f} bytes"
