"""How many threads decode on a CPU: as many as torch has, fewer where that turns out quicker.

A step is hundreds of short parallel sections, each as slow as its slowest thread. Where other work
wants the cores, two threads may take several times as long as one. So now and then a few steps are
taken with half or twice as many threads, and what was quicker stays. Codes do not depend on it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

VARIABLE = "MUSICGEN_THREADS"
_TRIAL_STEPS = 3
_PAUSE_STEPS = 250
_GAIN = 0.9


def requested_threads() -> int | None:
    """The number that the environment variable MUSICGEN_THREADS asks for, None without it. Raises ValueError."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise ValueError(f"{VARIABLE} is {text!r}; allowed are 1 to 1024, or nothing to let the quickest be found.")
    return int(text)


class ThreadChooser:
    """Told of every step, it tries other numbers of threads and keeps the quickest.

    most: threads to begin with, and never to exceed. use: makes a number the one in force. clock: seconds.
    """

    def __init__(
        self,
        most: int,
        use: Callable[[int], None] = torch.set_num_threads,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.most, self.current = most, most
        self._use, self._clock = use, clock
        self._began: float | None = None
        self._trying = most
        self._queue: list[int] = []
        self._samples: dict[int, list[float]] = {}
        self._wait = 1  # the first step makes what later ones find made

    def step(self) -> None:
        """A step is over."""
        now = self._clock()
        taken = None if self._began is None else now - self._began
        self._began = now
        if self.most == 1 or taken is None:
            return
        if self._wait:
            self._wait -= 1
            if not self._wait:
                self._queue = [n for n in (self.current, self.current // 2, 2 * self.current) if 1 <= n <= self.most]
                self._samples = {}
                self._next()
            return
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
def chosen_threads(device: torch.device) -> Iterator[Callable[[], None]]:
    """Yield what is to be called after every step; torch's number of threads is afterwards what it was before.

    Only a CPU has any choice. Raises ValueError where the environment asks for an impossible number.
    """
    if device.type != "cpu":
        yield lambda: None
        return
    requested, before = requested_threads(), torch.get_num_threads()
    try:
        if requested is not None:
            torch.set_num_threads(requested)
            yield lambda: None
        else:
            yield ThreadChooser(before).step
    finally:
        torch.set_num_threads(before)
