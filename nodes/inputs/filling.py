"""A fill or a loop from the values of the sockets: requests, the run over the items of a batch, and the new tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...musicgen.editing.codes import Range
from ...musicgen.editing.fill import Filled, fill, fill_steps, primed_frames
from ...musicgen.editing.fill import before as music_before
from ...musicgen.editing.loop import LoopLength, loop
from ...musicgen.editing.seams import loop_listener, section_listener
from ...musicgen.generation.generate import StepProgress
from ...musicgen.generation.params import GenerationParams
from ...musicgen.generation.request import Request
from ...musicgen.images import codes_image
from ...musicgen.times import Meter, show_time
from ..host import patchers, progress
from ..host.running import ready_to_sample
from ..sockets import MAX_SECONDS, CodecHandle, MelodyBatch, ModelHandle, StyleBatch, Tokens
from .conditions import read_request
from .editing import check_piece, edited, read_ranges, unknown_in
from .parts import check_codec
from .recipes import recipe_of
from .tokens import read_prompt, sampled_tokens

Listen = Callable[[Tensor], list[float]]


@dataclass(frozen=True)
class Conditions:
    """The model, the conditions, and the numbers of sampling, as they come from the sockets."""

    model: ModelHandle
    positive: Sequence[Sequence[Any]]
    negative: Sequence[Sequence[Any]] | None
    melody: MelodyBatch | None
    style: StyleBatch | None
    numbers: dict[str, Any]

    def request(self, seconds: float, batch_size: int, pattern: str | None = None) -> Request:
        """One request for all items."""
        params = GenerationParams(seconds, pattern=pattern, **self.numbers)
        return read_request(
            self.model,
            params,
            batch_size,
            positive=self.positive,
            negative=self.negative,
            melody=self.melody,
            style=self.style,
            prompt=None,
        )


@dataclass(frozen=True)
class Choice:
    """How a seam is chosen, and the node that shows it."""

    candidates: int
    rounds: int
    codec: CodecHandle | None
    node_id: str | None

    def listener(self, make: Callable[[Any], Listen]) -> Listen | None:
        """The function that hears seams, where a codec is connected and whole on its device."""
        if self.codec is None:
            return None
        if not patchers.is_whole(self.codec.patcher):
            progress.say(self.node_id, "Likelihood alone chooses the seam: the codec does not fit beside the model.")
            return None
        return make(self.codec.patcher.model)

    @property
    def told(self) -> dict[str, Any]:
        """The numbers, for a recipe."""
        return {"candidates": self.candidates, "rounds": self.rounds, "heard": self.codec is not None}

    def reporter(self, steps: int, model: ModelHandle) -> progress.StepReporter:
        """Called after every step, with its progress."""
        return progress.StepReporter(steps, lambda codes: codes_image(codes[0], model.config.card))

    @contextmanager
    def ready(self, request: Request, model: ModelHandle) -> Iterator[dict[str, Any]]:
        """Bring the model to its device, and yield the arguments of `fill` and `loop` beside the request."""
        if self.codec is not None:
            check_codec(self.codec, model)
        request = request.select([0]).repeated(range(self.candidates))
        memory = request.bytes(model.config, model.patcher.model.dtype.itemsize)
        with ready_to_sample(model, memory, self.node_id, self.codec) as how:
            yield {"candidates": self.candidates, "rounds": self.rounds, **how}


@dataclass(frozen=True)
class _Job:
    """One section of one item: its request, its frames there, and how many to cut off the front of the result."""

    request: Request
    first: int
    stop: int
    primed: int = 0


def fill_tokens(
    tokens: Tokens, conditions: Conditions, choice: Choice, *, sections: str, before: float, kept: int, meter: Meter
) -> tuple[Tokens, str]:
    """Tokens with sections sampled anew, and lines that tell how well they fit."""
    model, config = conditions.model, conditions.model.config
    batch, count, total = tokens["codes"].shape
    codes = read_prompt(tokens, model, batch)
    assert codes is not None
    parts: list[Range] = sorted(read_ranges(sections, tokens, meter, apart=True))
    new = round(before * config.frame_rate)
    check_piece(parts, new, kept, count)
    if new and conditions.melody is not None:
        raise ValueError(
            f"{before:g} seconds of music before the piece would move its melody; set them to 0, or disconnect the "
            "melody."
        )
    if not parts and not new:
        parts = [(0, total)]
    names = [f"{show_time(a / config.frame_rate)} - {show_time(b / config.frame_rate)}" for a, b in parts]
    # Music before the piece comes last, since it moves all places.
    parts, names = parts + [(-new, 0)] * bool(new), names + [f"{before:g} s before"] * bool(new)
    whole = conditions.request(total / config.frame_rate, batch, tokens["pattern"])

    def job(item: int, piece: Tensor, part: Range) -> _Job:
        alone = whole.select([item])
        if part[0] >= 0:
            return _Job(replace(alone, known=unknown_in(piece, part, kept)), *part)
        primed = primed_frames(piece, config)
        return _Job(music_before(alone, piece, new, config), primed, primed + new, primed)

    steps = [fill_steps(config, job(0, codes[:1], part).request, choice.candidates, choice.rounds) for part in parts]
    reporter, rows, lines, done = choice.reporter(batch * sum(steps), model), [], [], 0
    with choice.ready(whole, model) as how:
        for item in range(batch):
            piece = codes[item : item + 1]
            for part, name, count in zip(parts, names, steps, strict=True):
                asked = job(item, piece, part)
                listen = choice.listener(partial(section_listener, first=asked.first, stop=asked.stop))
                report = partial(_forward, reporter, done, batch * sum(steps))
                filled = fill(model.patcher.model, config, asked.request, listen=listen, on_step=report, **how)
                piece, done = filled.codes[:, :, asked.primed :], done + count
                lines.append(f"{name}: {_fit(filled)}")
            rows.append(piece)
    told = {"fill": sections, "before": before, "kept_codebooks": kept, **choice.told, **conditions.numbers}
    samples, hop = tokens["num_samples"], config.sample_rate // config.frame_rate
    made = edited(tokens, torch.cat(rows), told, num_samples=None if samples is None else samples + new * hop)
    return made, "\n".join(lines)


def read_loop(bars: float, meter: Meter, model: ModelHandle) -> tuple[LoopLength, int]:
    """The length of a loop, and the frames in a bar."""
    config = model.config
    length = LoopLength.of(bars, meter, frame_rate=config.frame_rate, sample_rate=config.sample_rate)
    if length.seconds > MAX_SECONDS:
        raise ValueError(
            f"{bars:g} bars of {meter.beats_per_bar} at {meter.bpm:g} bpm are {float(length.seconds):.0f} seconds; "
            f"allowed is a loop of at most {MAX_SECONDS:.0f} seconds, so lower the bars."
        )
    return length, max(1, round(meter.bar * config.frame_rate))


def loop_tokens(
    conditions: Conditions, choice: Choice, length: LoopLength, bar: int, *, batch_size: int, piece: Tokens | None
) -> tuple[Tokens, str]:
    """Loops as tokens, one for each item, and lines that tell their length and how well they turn."""
    model, config = conditions.model, conditions.model.config
    codes = None if piece is None else read_prompt(piece, model, batch_size)
    pattern = None if piece is None else piece["pattern"]
    seconds = length.frames / config.frame_rate
    whole = conditions.request(seconds, batch_size, pattern)
    lasting = replace(whole, params=replace(whole.params, duration=(length.frames + bar) / config.frame_rate))
    reporter, rows = choice.reporter(1, model), []
    lines = [f"{float(length.seconds):.6g} s, {length.samples} samples, pitch moved by {length.cents:+.1f} cents"]
    with choice.ready(lasting, model) as how:
        for item in range(batch_size):

            def report(step: StepProgress, item: int = item) -> None:
                reporter(StepProgress(item * step.total + step.step, batch_size * step.total, step.codes))

            made = loop(
                model.patcher.model,
                config,
                whole.select([item]),
                length.frames,
                bar,
                piece=None if codes is None else codes[item : item + 1],
                listen=choice.listener(loop_listener),
                on_step=report,
                **how,
            )
            rows.append(made.codes)
            lines.append(f"loop {item + 1}: {_fit(made)}")
    recipe = recipe_of(model, whole.params, whole, conditions.positive, conditions.negative, conditions.style)
    recipe["loop"] = {
        "seconds": float(length.seconds),
        "bar_frames": bar,
        "of_a_piece": piece is not None,
        **choice.told,
    }
    tokens = sampled_tokens(torch.cat(rows), model, whole.params, seconds, recipe)
    return {**tokens, "num_samples": length.samples, "loop": True}, "\n".join(lines)


def _fit(filled: Filled) -> str:
    if filled.nats is None or filled.first is None:
        return "sampled; nothing follows that it must fit"
    return f"what follows costs {filled.nats:.2f} nats a code, {filled.first:.2f} after the first candidate"


def _forward(report: Callable[[Any], None], done: int, total: int, step: StepProgress) -> None:
    report(StepProgress(done + step.step, total, step.codes))
