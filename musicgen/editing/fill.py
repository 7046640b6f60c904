"""Sample a section of a piece anew, so that it fits the music before and behind it.

The model samples from left to right, so a section follows the music before it by itself. To fit the music behind it,
several candidates are sampled, and the one after which the true continuation is likeliest stays. Further rounds sample
the last part of it anew, shorter each time, since the end of the section decides most of the seam. Each choice is an
importance sample of the model's own distribution of the section between both sides, cut to the likeliest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config import ModelConfig
from ..generation.following import following_nats
from ..generation.generate import OnStep, StepProgress, generate
from ..generation.request import Request
from ..lm.language_model import LMModel

AHEAD = 1.0
"""Seconds of the music behind a section that its candidates are judged by."""
HEARD = 4
"""Candidates of the last round that are heard, the likeliest ones."""

_TAIL = 1.0
"""Seconds at the end of a section that the second round samples anew at most; each further round takes half."""


@dataclass(frozen=True)
class Filled:
    """A piece with its section sampled anew.

    Attributes:
        codes: int64 `[1, K, T]`.
        nats: cross entropy of the music behind the section, in nats a code, after the chosen candidate; None where
            no music is behind it.
        first: the same after the first candidate, as plain sampling gives it.
    """

    codes: Tensor
    nats: float | None
    first: float | None


def fill(
    lm: LMModel,
    config: ModelConfig,
    request: Request,
    *,
    candidates: int = 8,
    rounds: int = 3,
    listen: Callable[[Tensor], list[float]] | None = None,
    on_step: OnStep | None = None,
    device: torch.device | str = "cpu",
    use_cuda_graphs: bool | None = None,
) -> Filled:
    """Sample the unknown codes of one piece so that they fit the known ones behind them.

    Args:
        lm: the language model.
        config: the model's numbers.
        request: one item with known codes; the unknown ones stand in one range of frames.
        candidates: how many are sampled side by side in each round; 1 is plain sampling.
        rounds: how often the end of the best candidate is sampled anew.
        listen: returns the roughness of each of some pieces `[n, K, T]`; in the last round the smoothest of the
            likeliest candidates stays, if it fits no worse than the first one. None chooses by likelihood alone.
        on_step: called after every step, with the steps of all rounds together.
        device: where to compute.
        use_cuda_graphs: see `generate`.

    Raises:
        ValueError: a number is out of range, or the request does not fit the model.
    """
    if request.known is None or request.batch_size != 1:
        raise ValueError("a fill needs one piece with known codes; allowed is a request of one item with `known`.")
    if candidates < 1 or rounds < 0:
        raise ValueError(f"candidates is {candidates}, rounds {rounds}; allowed is at least 1 and at least 0.")
    request.checked(config)
    section = _Section.of(request, config, candidates, rounds)
    count, total, done = section.candidates, fill_steps(config, request, candidates, rounds), 0
    best, nats, start = request.known, None, None
    for number, tail in enumerate(section.tails):
        gap = section.request(request, best, tail).repeated(seeds_of(request.item_seeds[0], number, count))
        report = None if on_step is None else shifted(on_step, done, total)
        made = generate(lm, config, gap, on_step=report, device=device, use_cuda_graphs=use_cuda_graphs)
        done += gap.steps(config)
        pieces = made if number == 0 else torch.cat([best, made])
        if not section.has_followers:
            return Filled(pieces, None, None)
        found = following_nats(lm, config, request, pieces, section.stop, _ahead(config), device=device)
        start = float(found[0]) if start is None else start
        chosen = int(found.argmin())
        if listen is not None and number == len(section.tails) - 1 and len(pieces) > 1:
            likeliest = found.argsort(stable=True)[:HEARD].tolist()
            heard = [index for index in likeliest if float(found[index]) <= start]
            rough = listen(pieces[heard])
            chosen = heard[min(range(len(heard)), key=rough.__getitem__)]
        best, nats = pieces[chosen : chosen + 1], float(found[chosen])
    return Filled(best, nats, start)


def before(request: Request, codes: Tensor, frames: int, config: ModelConfig) -> Request:
    """Return the request for music before a piece.

    A model that samples from left to right has nothing to begin with there. So the piece's own beginning stands before
    the gap as well, and the gap is a section between the two; cut the first `primed_frames` off what `fill` returns.

    Args:
        request: one item; its duration and known codes are not read.
        codes: the piece, `[1, K, T]`.
        frames: how many to sample before it.
        config: the model's numbers.
    """
    primed = codes[:, :, : primed_frames(codes, config)]
    unknown = torch.full((1, codes.shape[1], frames), -1)
    known = torch.cat([primed, unknown, codes], dim=2)
    params = replace(request.params, duration=known.shape[2] / config.frame_rate)
    return replace(request, params=params, known=known)


def primed_frames(codes: Tensor, config: ModelConfig) -> int:
    """Return how many frames of a piece stand before the gap of `before`: as many as two windows of a piece share."""
    return min(codes.shape[2], round((config.window - config.extend_stride) * config.frame_rate))


def fill_steps(config: ModelConfig, request: Request, candidates: int, rounds: int) -> int:
    """Count the steps that `fill` takes for a request."""
    section = _Section.of(request, config, candidates, rounds)
    return sum(section.request(request, section.unknown.int(), tail).steps(config) for tail in section.tails)


def _ahead(config: ModelConfig) -> int:
    return round(AHEAD * config.frame_rate)


@dataclass(frozen=True)
class _Section:
    """The unknown part of a piece, and how many frames at its end each round samples.

    Attributes:
        unknown: bool `[1, K, T]`.
        stop: first frame behind the section.
        tails: frames at its end, a number for each round, all of them in the first.
        candidates: how many are sampled in each round.
    """

    unknown: Tensor
    stop: int
    tails: list[int]
    candidates: int

    @classmethod
    def of(cls, request: Request, config: ModelConfig, candidates: int, rounds: int) -> _Section:
        assert request.known is not None
        unknown = request.known < 0
        frames = torch.nonzero(unknown[0].any(dim=0))[:, 0]
        first, stop = int(frames[0]), int(frames[-1]) + 1
        chooses = stop < unknown.shape[2] and candidates > 1
        tails = tails_of(stop - first, config.frame_rate, rounds if chooses else 0)
        return cls(unknown, stop, tails, candidates if chooses else 1)

    @property
    def has_followers(self) -> bool:
        """Whether music is behind the section."""
        return self.stop < self.unknown.shape[2]

    def request(self, request: Request, codes: Tensor, tail: int) -> Request:
        """The request for the unknown codes among the last `tail` frames; the others are those of `codes`."""
        later = torch.arange(self.unknown.shape[2]) >= self.stop - tail
        return replace(request, known=torch.where(self.unknown & later, -1, codes))


def tails_of(frames: int, frame_rate: int, rounds: int) -> list[int]:
    """Return how many frames at the end of a section each round samples: all of them, then fewer and fewer.

    >>> tails_of(200, 50, 3)
    [200, 50, 25, 12]
    """
    tail = min(round(_TAIL * frame_rate), -(-frames // 2))
    return [frames, *(max(1, tail >> number) for number in range(rounds))]


def seeds_of(seed: int, number: int, count: int) -> list[int]:
    """Return the seeds of a round's candidates; the first candidate of round 0 has the seed itself."""
    found = []
    for index in range(count):
        digest = hashlib.sha256(f"{seed} {number} {index}".encode()).digest()
        found.append(seed if number == index == 0 else int.from_bytes(digest[:8], "little"))
    return found


def shifted(on_step: OnStep, done: int, total: int) -> OnStep:
    """Return a function that reports the steps of a part as steps of the whole, of which `done` came before it."""
    return lambda progress: on_step(StepProgress(done + progress.step, total, progress.codes))
