"""Choose how many threads decode on a CPU: as many as torch uses, or fewer if that measures faster.

A step is hundreds of short parallel sections, each as slow as its slowest thread. If other programs
use the cores, two threads may take several times as long as one. A few steps are therefore timed
now and then with half and with twice as many threads, and the fastest number is kept. Codes do not
depend on the number of threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch

from ..lm.cpu_team import Team

VARIABLE = "MUSICGEN_THREADS"
_TRIAL_STEPS = 3
_PAUSE_STEPS = 250
_GAIN = 0.9


def requested_threads() -> int | None:
    """Read the number of threads from the environment variable MUSICGEN_THREADS; None if it is not set.

    Raises:
        ValueError: the variable is not a number from 1 to 1024.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise ValueError(f"{VARIABLE} is {text!r}; allowed are 1 to 1024, or nothing to find the fastest by timing.")
    return int(text)


class ThreadChooser:
    """Time the steps under several numbers of threads and keep the fastest; call :meth:`step` after each."""

    def __init__(
        self,
        most: int,
        use: Callable[[int], None] = torch.set_num_threads,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Start with the largest number.

        Args:
            most: the first and the largest number of threads.
            use: sets the number of threads.
            clock: returns the time in seconds.
        """
        self.most, self.current = most, most
        self._use, self._clock = use, clock
        self._began: float | None = None
        self._trying = most
        self._queue: list[int] = []
        self._samples: dict[int, list[float]] = {}
        self._wait = 1  # the first step also allocates and packs, so it is not timed

    def step(self) -> None:
        """Record that a step has ended."""
        now = self._clock()
        taken = None if self._began is None else now - self._began
        self._began = now
        if self.most == 1 or taken is None:
            return
        # Between two trials, count the pause down; at its end, queue the numbers to try.
        if self._wait:
            self._wait -= 1
            if not self._wait:
                self._queue = [n for n in (self.current, self.current // 2, 2 * self.current) if 1 <= n <= self.most]
                self._samples = {}
                self._next()
            return
        # In a trial, time a few steps of each number.
        samples = self._samples.setdefault(self._trying, [])
        samples.append(taken)
        if len(samples) == _TRIAL_STEPS:
            self._next()

    def _next(self) -> None:
        if self._queue:
            self._trying = self._queue.pop(0)
        else:
            quickest = {count: min(samples) for count, samples in self._samples.items()}
            best = min(quickest, key=lambda count: quickest[count])
            if quickest[best] < _GAIN * quickest[self.current]:
                self.current = best
            self._trying, self._wait = self.current, _PAUSE_STEPS
        self._use(self._trying)


@contextmanager
def chosen_threads(device: torch.device, *, compiled: bool = False) -> Iterator[tuple[Callable[[], None], Team | None]]:
    """Choose the number of threads while a request is decoded; afterwards torch has as many as before.

    Only a CPU has any choice.

    Args:
        device: where the steps run.
        compiled: whether a team of threads is wanted that runs compiled steps.

    Yields:
        A function to call after every step, and the team, or None where none is wanted.

    Raises:
        ValueError: the environment asks for an impossible number.
    """
    if device.type != "cpu":
        yield lambda: None, None
        return
    requested, before = requested_threads(), torch.get_num_threads()
    most = requested or before
    try:
        with Team(most) if compiled else nullcontext() as team:
            if team is None and requested is not None:
                torch.set_num_threads(requested)
            chooser = ThreadChooser(most, torch.set_num_threads if team is None else team.resize)
            yield chooser.step if requested is None else lambda: None, team
    finally:
        torch.set_num_threads(before)
