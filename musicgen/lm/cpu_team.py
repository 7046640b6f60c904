"""A team of threads that run one piece of machine code together; the caller is one of them.

The helpers wait for work without using the processor, and end when the team is closed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import torch

Action = Callable[[int, int], None]


class Team:
    """Up to `most` threads, the caller among them. While it is open, torch keeps to one thread.

    torch's own threads spin for some milliseconds after each parallel section, on the cores that the
    team wants. size: how many threads take part from the next run on.
    """

    def __init__(self, most: int) -> None:
        self.most = self.size = most
        self._before: int | None = None
        self._queues: list[SimpleQueue[tuple[Action, int] | None]] = []
        self._threads: list[threading.Thread] = []

    def resize(self, size: int) -> None:
        """Let so many threads take part, at most `most`."""
        self.size = min(size, self.most)

    def __enter__(self) -> Team:
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)
        return self

    def give_back(self) -> None:
        """Give torch its threads back, and run nothing more: the ordinary step goes on."""
        if self._before is not None:
            torch.set_num_threads(self._before)

    def __exit__(self, *_: object) -> None:
        """End the helpers, and give torch its threads back."""
        for queue in self._queues:
            queue.put(None)
        for thread in self._threads:
            thread.join()
        self._queues, self._threads = [], []
        if self._before is not None:
            torch.set_num_threads(self._before)
            self._before = None

    def run(self, action: Action) -> None:
        """Call `action(thread, threads)` in every thread. The actions wait for each other: there is no other end."""
        size = self.size
        while len(self._threads) < size - 1:
            self._add_helper()
        for queue in self._queues[: size - 1]:
            queue.put((action, size))
        action(0, size)

    @contextmanager
    def lend_to_torch(self) -> Iterator[None]:
        """Let torch have as many threads as the team."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.size)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _add_helper(self) -> None:
        queue: SimpleQueue[tuple[Action, int] | None] = SimpleQueue()
        number = len(self._threads) + 1

        def work() -> None:
            while (task := queue.get()) is not None:
                action, threads = task
                action(number, threads)

        thread = threading.Thread(target=work, name=f"musicgen-step-{number}", daemon=True)
        thread.start()
        self._queues.append(queue)
        self._threads.append(thread)
