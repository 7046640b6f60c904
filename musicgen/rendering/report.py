"""The progress of a run as text: one line that is updated in place on a terminal, else a line now and then."""

from __future__ import annotations

import time
from typing import TextIO

from .jobs import Progress

_PAUSE = 10.0


def progress_text(progress: Progress) -> str:
    """Return one line about a run.

    >>> progress_text(Progress(50, 1, 200, 500.0, 2000.0, 100.0))
    '51 of 200 pieces, 25%, 0.50 pieces/s, 5.00 s of sound/s, 0:05:00 left, 1 failed'
    """
    share = progress.seconds_done / progress.seconds_total if progress.seconds_total else 1.0
    parts = [
        f"{progress.done + progress.failed} of {progress.total} pieces",
        f"{share:.0%}",
        f"{progress.pieces_per_second:.3g} pieces/s"
        if progress.pieces_per_second >= 10
        else f"{progress.pieces_per_second:.2f} pieces/s",
        f"{progress.seconds_per_second:.2f} s of sound/s",
    ]
    if progress.seconds_left is not None:
        parts.append(f"{clock(progress.seconds_left)} left")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds.

    >>> clock(3725.4)
    '1:02:05'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class ProgressLine:
    """Writes the progress of a run to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._moving = stream, stream.isatty()
        self._written = -_PAUSE

    def __call__(self, progress: Progress) -> None:
        """Write one state, unless another was written just now."""
        now, last = time.monotonic(), progress.done + progress.failed == progress.total
        if not last and now - self._written < (0.2 if self._moving else _PAUSE):
            return
        self._written = now
        text = progress_text(progress)
        self._stream.write(f"\r{text:<100}" + ("\n" if last else "") if self._moving else f"{text}\n")
        self._stream.flush()
