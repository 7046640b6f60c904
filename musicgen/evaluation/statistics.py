"""Mean and covariance of embeddings, added up piece by piece in float64, and a fixed random share of them.

Memory depends on the width of an embedding alone, and not on the number of files.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_KEPT = 10_000
"""Most embeddings of one set that are kept for the measures that need embeddings themselves."""
_LARGEST = 1e150


@dataclass(frozen=True)
class Statistics:
    """A set of embeddings as a normal distribution. count: 0 where a file does not say how many there were."""

    mean: Tensor
    """float64 `[D]`."""
    covariance: Tensor
    """float64 `[D, D]`, divided by N - 1."""
    count: int = 0

    @property
    def width(self) -> int:
        """D, the width of an embedding."""
        return self.mean.shape[0]


def check_embeddings(embeddings: Tensor, name: str, least: int = 2) -> Tensor:
    """Return embeddings `[N, D]` in float64.

    Raises:
        ValueError: another shape, fewer than `least` embeddings, or numbers that are not finite or would overflow.
    """
    if embeddings.dim() != 2 or len(embeddings) < least:
        raise ValueError(f"{name} have shape {list(embeddings.shape)}; allowed is [N, D] with N of at least {least}.")
    # A distance sums squares in float64, which overflow from 1e154 on.
    largest = float(embeddings.double().abs().max()) if embeddings.numel() else 0.0
    if not largest < _LARGEST:
        raise ValueError(
            f"{name} hold NaN or numbers up to {largest:g}; allowed are finite numbers below 1e150. "
            "Leave out the sounds that they come from."
        )
    return embeddings.double()


def statistics_of(embeddings: Tensor, name: str = "the embeddings") -> Statistics:
    """Return the statistics of embeddings `[N, D]`, N of at least 2."""
    numbers = check_embeddings(embeddings, name)
    return Statistics(numbers.mean(dim=0), torch.atleast_2d(torch.cov(numbers.t())), len(numbers))


class RunningStatistics:
    """Add embeddings file by file (Chan et al. 1979), and keep a random share of them (reservoir, Vitter 1985).

    >>> running = RunningStatistics()
    >>> running.add(torch.tensor([[0.0], [2.0]]))
    >>> running.add(torch.tensor([[4.0]]))
    >>> running.statistics().mean, running.statistics().covariance
    (tensor([2.], dtype=torch.float64), tensor([[4.]], dtype=torch.float64))
    """

    def __init__(self, kept: int = MAX_KEPT, seed: int = 0) -> None:
        """Start with nothing.

        Args:
            kept: most embeddings to keep.
            seed: chooses which ones are kept.
        """
        self.count = 0
        self.files = 0
        self._most = kept
        self._generator = torch.Generator().manual_seed(seed)
        self._mean = torch.zeros(0, dtype=torch.float64)
        self._scatter = torch.zeros(0, 0, dtype=torch.float64)
        self._kept = torch.zeros(0, 0)
        self._owners = torch.zeros(kept, dtype=torch.int64)

    def add(self, embeddings: Tensor, name: str = "the embeddings") -> None:
        """Add the embeddings `[n, D]` of one file.

        Raises:
            ValueError: numbers that are not finite, or another width than before.
        """
        numbers = check_embeddings(embeddings, name, least=1)
        if not self.count:
            width = numbers.shape[1]
            self._mean, self._scatter = numbers.new_zeros(width), numbers.new_zeros(width, width)
            self._kept = torch.zeros(self._most, width)
        elif numbers.shape[1] != len(self._mean):
            raise ValueError(f"{name} are {numbers.shape[1]} wide and the others {len(self._mean)}; use one model.")
        added, mean = len(numbers), numbers.mean(dim=0)
        centred, step, total = numbers - mean, mean - self._mean, self.count + added
        self._scatter += centred.t() @ centred + torch.outer(step, step) * (self.count * added / total)
        self._mean += step * (added / total)
        self._keep(embeddings)
        self.count, self.files = total, self.files + 1

    def _keep(self, embeddings: Tensor) -> None:
        """Replace kept embeddings so that each of all so far is kept with the same probability."""
        room = max(0, min(self._most - self.count, len(embeddings)))
        first = self.count
        self._kept[first : first + room] = embeddings[:room].float()
        self._owners[first : first + room] = self.files
        rest = embeddings[room:]
        if len(rest):
            places = torch.arange(first + room + 1, first + len(embeddings) + 1, dtype=torch.float64)
            drawn = (torch.rand(len(rest), generator=self._generator, dtype=torch.float64) * places).long()
            for row in torch.nonzero(drawn < self._most).flatten().tolist():
                self._kept[drawn[row]] = rest[row].float()
                self._owners[drawn[row]] = self.files

    @property
    def kept(self) -> Tensor:
        """The kept embeddings, float32 `[n, D]`: all of them as long as they fit."""
        return self._kept[: min(self.count, self._most)]

    @property
    def owners(self) -> Tensor:
        """The number of the file, from 0, that each kept embedding is from: int64 `[n]`."""
        return self._owners[: min(self.count, self._most)]

    def statistics(self, name: str = "the embeddings") -> Statistics:
        """Return mean and covariance of everything that was added.

        Raises:
            ValueError: there are fewer than 2 embeddings.
        """
        if self.count < 2:
            raise ValueError(f"{name} are {self.count}; a covariance needs at least 2, so give more or longer sounds.")
        return Statistics(self._mean.clone(), self._scatter / (self.count - 1), self.count)
