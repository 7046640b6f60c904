"""Numbers of a request that change over time: written as text, resolved to one number for each cell of a pattern.

A schedule is a list of points. A value holds until the next point; a point may name a glide, in which the number moves
to its value along a straight line. Times are seconds of the whole piece, a prompt included, so they are the same in
every window of a long piece. The numbers become tensors before decoding, so that recorded steps read them as data.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..decoding.engine import SamplingParams
from ..times import Meter, parse_length, parse_time, show_time
from .params import GenerationParams

FORM = "a number, or times with numbers such as '0s 3, 10s 6, 20s ~4s 1', where ~4s lets the number glide for 4 s"
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)"
_POINT = re.compile(rf"(?:(?P<place>[^~]+?)\s*(?:~\s*(?P<glide>[^~]+?))?(?:\s*[:=]\s*|\s+))?(?P<value>{_NUMBER})")
_OF_PARAMS = ("cfg_coef", "temperature", "top_k", "top_p", "cfg_coef_beta")


@dataclass(frozen=True)
class Point:
    """From `seconds` on the number moves to `value`, for `glide` seconds; 0 changes it at once."""

    seconds: float
    value: float
    glide: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """A number over time.

    >>> schedule = Schedule((Point(0.0, 3.0), Point(10.0, 6.0, glide=2.0)))
    >>> schedule.at(torch.tensor([0.0, 9.9, 11.0, 12.0, 30.0]), before=1.0)
    tensor([3.0000, 3.0000, 4.5000, 6.0000, 6.0000])
    """

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        """Raise ValueError without a point, or where a point begins before the one before it has arrived."""
        if not self.points:
            raise ValueError(f"a schedule has no value; allowed is {FORM}.")
        for last, point in pairwise(self.points):
            if point.seconds < last.seconds + max(last.glide, 1e-9):
                raise ValueError(
                    f"a value begins at {show_time(point.seconds)}, before the one at {show_time(last.seconds)} has "
                    f"{'arrived' if last.glide else 'begun'}; write later times after earlier ones, and shorter glides."
                )

    def at(self, seconds: Tensor, before: float) -> Tensor:
        """Return the number at each time, of the same shape; `before` holds until the first point."""
        result, last = torch.full_like(seconds, before), before
        for point in self.points:
            moving = (seconds - point.seconds) / point.glide if point.glide else torch.ones_like(seconds)
            # Rounding a frame's time must not move a change by a frame.
            begun = seconds >= point.seconds - 1e-6
            value = last + (point.value - last) * moving.clamp(0.0, 1.0)
            result = torch.where(begun, value, result)
            last = point.value
        return result

    def constant(self, before: float) -> float | None:
        """Return the one value of the whole piece, None if there are several."""
        values = {point.value for point in self.points} | ({before} if self.points[0].seconds > 0 else set())
        return values.pop() if len(values) == 1 and (self.points[0].glide == 0 or before in values) else None


def parse_schedule(text: str, meter: Meter | None = None) -> Schedule | None:
    """Read a schedule from text; None for an empty one.

    >>> parse_schedule("3").points
    (Point(seconds=0.0, value=3.0, glide=0.0),)
    >>> parse_schedule("0s 3, bar 3 ~1 bar: 6", Meter(120.0)).points[1]
    Point(seconds=4.0, value=6.0, glide=2.0)

    Args:
        text: points on lines of their own, or with commas or semicolons between them.
        meter: tempo and metre, needed for bars and beats only.

    Raises:
        ValueError: a part of the text is no point, or the points are out of order.
    """
    parts = [part.strip() for part in re.split(r"[,;\n]", text) if part.strip()]
    points = []
    for part in parts:
        match = _POINT.fullmatch(part)
        if match is None or (match["place"] is None and len(parts) > 1):
            raise ValueError(f"{part!r} is not a value over time; allowed is {FORM}.")
        seconds = 0.0 if match["place"] is None else parse_time(match["place"], meter)
        glide = 0.0 if match["glide"] is None else parse_length(match["glide"], meter)
        points.append(Point(seconds, float(match["value"]), glide))
    return Schedule(tuple(points)) if points else None


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """The numbers of a request that follow a schedule; None leaves a number to `GenerationParams`.

    Attributes:
        cfg_coef: guidance.
        temperature: temperature of drawing.
        top_k: number of likeliest codes to draw from, rounded where it glides.
        top_p: share of likeliest codes to draw from; where it is 0, top_k counts.
        cfg_coef_beta: how much more the description weighs than the melody or style alone; 1 guides by both at once.
        lead_strength: how much of the melody or style counts, beside the description alone: 0 none, 1 all of it,
            more than 1 exaggerates it.
    """

    cfg_coef: Schedule | None = None
    temperature: Schedule | None = None
    top_k: Schedule | None = None
    top_p: Schedule | None = None
    cfg_coef_beta: Schedule | None = None
    lead_strength: Schedule | None = None

    @property
    def given(self) -> dict[str, Schedule]:
        """The schedules that were given, by name."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: schedule for name, schedule in found.items() if schedule is not None}

    def folded(self, params: GenerationParams) -> tuple[GenerationParams, Schedules]:
        """Return params with the schedules that are constant, and the rest, so that a constant costs nothing."""
        rest = self.given
        for name, schedule in self.given.items():
            base = 1.0 if name == "lead_strength" else _base(params, name)
            constant = schedule.constant(base)
            if constant is None or (name == "lead_strength" and constant != 1.0):
                continue
            del rest[name]
            if name in _OF_PARAMS:
                params = _with(params, name, constant)
        return params, Schedules(**rest)

    def check(self, params: GenerationParams) -> None:
        """Raise ValueError for a value out of its range, or a time beyond the end of the piece."""
        for name, schedule in self.given.items():
            for point in schedule.points:
                if name == "lead_strength" and not (math.isfinite(point.value) and point.value >= 0):
                    raise ValueError(f"the strength of the melody is {point.value:g}; allowed is at least 0.")
                if name in _OF_PARAMS:
                    _with(params, name, point.value)
                if point.seconds >= params.duration:
                    raise ValueError(
                        f"{name} has a value at {show_time(point.seconds)}, beyond the piece of "
                        f"{show_time(params.duration)}; make the piece longer, or take that value out."
                    )
        points = () if self.top_k is None else self.top_k.points
        if any(point.glide for point in points) and any(point.value == 0 for point in points):
            raise ValueError("top_k glides to or from 0, which means all tokens; let it change at once there.")

    def resolve(self, params: GenerationParams, seconds: Tensor) -> Numbers:
        """Return the numbers at the time of each cell, `[K, S]`; those without a schedule stay numbers."""

        def at(name: str) -> float | Tensor:
            schedule: Schedule | None = getattr(self, name)
            base = 1.0 if name == "lead_strength" else _base(params, name)
            return base if schedule is None else schedule.at(seconds, base)

        top_k = at("top_k")
        return Numbers(
            cfg_coef=at("cfg_coef"),
            temperature=at("temperature"),
            top_k=top_k.round().long() if isinstance(top_k, Tensor) else params.top_k,
            top_p=at("top_p"),
            cfg_coef_beta=at("cfg_coef_beta"),
            lead_strength=at("lead_strength"),
        )


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The numbers of one window: each is a number, or a tensor `[K, S]` with one number for each cell."""

    cfg_coef: float | Tensor
    temperature: float | Tensor
    top_k: int | Tensor
    top_p: float | Tensor
    cfg_coef_beta: float | Tensor
    lead_strength: float | Tensor

    def drawing(self, device: torch.device) -> SamplingParams:
        """Return the settings for drawing codes, on a device."""
        top_k = self.top_k.to(device) if isinstance(self.top_k, Tensor) else self.top_k
        return SamplingParams(on_device(self.temperature, device), top_k, on_device(self.top_p, device))


def _with(params: GenerationParams, name: str, value: float) -> GenerationParams:
    changes: dict[str, Any] = {name: value}
    return replace(params, **changes)


def _base(params: GenerationParams, name: str) -> float:
    value = getattr(params, name)
    return 1.0 if value is None else float(value)


def at_step(values: float | Tensor, step: int | Tensor) -> float | Tensor:
    """Return a number as it is, and of `[K, S]` the column of a step as `[K, 1]`.

    >>> at_step(3.0, 1), at_step(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    (3.0, tensor([[2.]]))
    """
    if not isinstance(values, Tensor):
        return values
    # Select by a tensor on the device, since a Python number would make the CPU wait for the GPU.
    return values.index_select(1, step) if isinstance(step, Tensor) else values[:, step : step + 1]


def on_device(values: float | Tensor, device: torch.device) -> float | Tensor:
    """Return a number as it is, and a tensor on a device."""
    return values.to(device) if isinstance(values, Tensor) else values
