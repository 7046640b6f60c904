"""Loops: a number of bars at a tempo, whose end flows into their beginning.

The model has no notion of a loop, but the beginning is music that must follow the end. So pieces are sampled that begin
a bar early, this bar is dropped, the piece stays whose beginning follows its end best, and its end is sampled anew so
that the beginning follows, as a section is filled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..config import ModelConfig
from ..generation.following import following_nats
from ..generation.generate import OnStep, generate
from ..generation.request import Request
from ..lm.language_model import LMModel
from ..times import Meter
from .fill import AHEAD, Filled, fill, fill_steps, seeds_of, shifted


@dataclass(frozen=True)
class LoopLength:
    """The length of a loop: exact in seconds, rounded to whole frames and to whole samples.

    >>> LoopLength.of(4, Meter(120.0), frame_rate=50, sample_rate=32000)
    LoopLength(seconds=Fraction(8, 1), frames=400, samples=256000, cents=0.0)
    >>> LoopLength.of(4, Meter(90.0), frame_rate=50, sample_rate=32000).samples
    341333

    Attributes:
        seconds: exact.
        frames: the nearest whole number, of the codes.
        samples: the nearest whole number, of the sound.
        cents: how far the pitch moves, in hundredths of a semitone, where the frames are played in that many samples.
    """

    seconds: Fraction
    frames: int
    samples: int
    cents: float

    @classmethod
    def of(cls, bars: float, meter: Meter, *, frame_rate: int, sample_rate: int) -> LoopLength:
        """Return the length of some bars.

        Raises:
            ValueError: the loop is shorter than a second.
        """
        seconds = meter.beats(Fraction(str(bars)) * meter.beats_per_bar)
        if seconds < 1:
            raise ValueError(
                f"{bars:g} bars of {meter.beats_per_bar} at {meter.bpm:g} bpm are {float(seconds):.3g} seconds; "
                "allowed is a loop of at least 1 second, so raise the bars or lower the bpm."
            )
        frames, samples = round(seconds * frame_rate), round(seconds * sample_rate)
        cents = 1200 * math.log2(frames * sample_rate / (frame_rate * samples))
        return cls(seconds, frames, samples, cents)


def loop(
    lm: LMModel,
    config: ModelConfig,
    request: Request,
    frames: int,
    bar: int,
    *,
    piece: Tensor | None = None,
    candidates: int = 8,
    rounds: int = 3,
    listen: Callable[[Tensor], list[float]] | None = None,
    on_step: OnStep | None = None,
    device: torch.device | str = "cpu",
    use_cuda_graphs: bool | None = None,
) -> Filled:
    """Sample a loop, or make one of a piece.

    Args:
        lm: the language model.
        config: the model's numbers.
        request: one item; its duration is not read.
        frames: length of the loop.
        bar: frames in a bar: so much is sampled before the loop, and at most so much of its end anew.
        piece: codes `[1, K, T]` to make the loop of, from their first frame on, instead of sampling some.
        candidates: how many are sampled side by side.
        rounds: how often the end of the best candidate is sampled anew.
        listen: returns the roughness of each of some loops `[n, K, frames]`; see `fill`.
        on_step: called after every step, with the steps of all parts together.
        device: where to compute.
        use_cuda_graphs: see `generate`.

    Returns:
        The loop `[1, K, frames]`; the cross entropies are those of its beginning after its end.

    Raises:
        ValueError: a number is out of range, or the request does not fit the model.
    """
    if piece is not None and piece.shape[2] < frames:
        raise ValueError(
            f"the piece is {piece.shape[2] / config.frame_rate:g} s long, shorter than the loop of "
            f"{frames / config.frame_rate:g} s; allowed is a piece of at least this length, so take fewer bars."
        )
    behind = min(frames, round(2 * AHEAD * config.frame_rate))
    end = max(1, min(bar, frames // 4))
    how: dict[str, Any] = {"device": device, "use_cuda_graphs": use_cuda_graphs}
    known = torch.zeros(1, config.num_codebooks, frames + behind, dtype=torch.long)
    known[:, :, frames - end : frames] = -1
    ending = replace(request, known=known, seeds=seeds_of(request.item_seeds[0], 1, 2)[1:])
    ending = _lasting(ending, config, frames + behind)
    later = fill_steps(config, ending, candidates, rounds)
    if piece is None:
        # A melody keeps its time; any other loop begins with music that has begun before.
        lead = 0 if any(melody is not None for melody in request.melodies) else bar
        seeds = seeds_of(request.item_seeds[0], 0, candidates)
        first = _lasting(request.repeated(seeds), config, lead + frames)
        earlier = first.steps(config)
        report = None if on_step is None else shifted(on_step, 0, earlier + later)
        pieces = generate(lm, config, first, on_step=report, **how)[:, :, lead:]
    else:
        pieces, earlier = piece[:, :, :frames], 0
    turns = torch.cat([pieces, pieces[:, :, :behind]], dim=2)
    found = following_nats(lm, config, ending, turns, frames, round(AHEAD * config.frame_rate), device=device)
    best = turns[int(found.argmin())][None]
    filled = fill(
        lm,
        config,
        replace(ending, known=torch.where(known < 0, known, best)),
        candidates=candidates,
        rounds=rounds,
        listen=None if listen is None else lambda codes: listen(codes[:, :, :frames]),
        on_step=None if on_step is None else shifted(on_step, earlier, earlier + later),
        **how,
    )
    return replace(filled, codes=filled.codes[:, :, :frames], first=float(found[0]))


def _lasting(request: Request, config: ModelConfig, frames: int) -> Request:
    """The request with the duration of these frames."""
    return replace(request, params=replace(request.params, duration=frames / config.frame_rate))
