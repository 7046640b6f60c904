"""Edits of tokens: times, codebooks and operations as text, and the tokens that come out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from torch import Tensor

from ...musicgen.editing.codes import (
    Range,
    check_codebooks,
    equal_sections,
    exchange,
    join,
    keep,
    remove,
    repeat,
    reverse_sections,
)
from ...musicgen.times import Meter, parse_length, parse_range, show_time
from ..sockets import CodecHandle, Tokens
from .tokens import read_tokens

KEEP, REMOVE, REPEAT, REVERSE = "keep ranges", "remove ranges", "repeat", "reverse sections"
JOIN, MIX, DROP = "join", "mix codebooks", "drop codebooks"
OPERATIONS = (KEEP, REMOVE, REPEAT, REVERSE, JOIN, MIX, DROP)

_MARK = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")


def seconds_of(tokens: Tokens) -> float:
    """The length of the sound that tokens stand for."""
    samples, frames = tokens["num_samples"], tokens["codes"].shape[2]
    return frames / tokens["frame_rate"] if samples is None else samples / tokens["sample_rate"]


def read_ranges(text: str, tokens: Tokens, meter: Meter, *, apart: bool) -> list[Range]:
    """Ranges of time, one in each line, as frames. apart: whether they must not overlap."""
    whole, rate, total = seconds_of(tokens), tokens["frame_rate"], tokens["codes"].shape[2]
    spans = [parse_range(line, meter, duration=whole) for line in text.splitlines() if line.strip()]
    for start, end in spans:
        if end > whole + 1 / rate:
            raise ValueError(
                f"the range {show_time(start)} - {show_time(end)} ends beyond the piece, which lasts "
                f"{show_time(whole)}; allowed are ranges within it, so write an earlier end, or the word end."
            )
    ordered = sorted(spans)
    for (first, middle), (last, end) in pairwise(ordered) if apart else ():
        if last < middle - 1e-9:
            raise ValueError(
                f"the ranges {show_time(first)} - {show_time(middle)} and {show_time(last)} - {show_time(end)} "
                "overlap; allowed are ranges that do not, so move one of them."
            )
    frames = [(round(start * rate), min(total, round(end * rate))) for start, end in spans]
    for (start, end), (low, high) in zip(spans, frames, strict=True):
        if high <= low:
            raise ValueError(
                f"the range {start:g} s - {end:g} s is shorter than a frame; allowed is at least {1 / rate:g} s."
            )
    return frames


def read_codebooks(text: str, count: int) -> list[int]:
    """Numbers of codebooks such as `1-2, 4`, counted from 1 -> counted from 0."""
    numbers: list[int] = []
    for mark in filter(None, (part.strip() for part in text.replace(";", ",").split(","))):
        match = _MARK.fullmatch(mark)
        if match is None:
            raise ValueError(f"codebooks is {text!r}; allowed are numbers from 1 to {count}, such as 1-2 or 3, 4.")
        numbers += range(int(match[1]) - 1, int(match[2] or match[1]))
    check_codebooks(numbers, count)
    return sorted(set(numbers))


def edit_tokens(
    operation: str,
    tokens: Tokens,
    *,
    ranges: str,
    repeats: int,
    codebooks: str,
    meter: Meter,
    other: Tokens | None,
    codec: CodecHandle | None,
) -> Tokens:
    """Tokens after an operation."""
    codes, count = tokens["codes"], tokens["codes"].shape[1]

    def spans(*, apart: bool = True) -> list[Range]:
        return read_ranges(ranges, tokens, meter, apart=apart)

    steps: dict[str, Callable[[], Tensor]] = {
        KEEP: lambda: keep(codes, spans(apart=False)),
        REMOVE: lambda: remove(codes, spans()),
        REPEAT: lambda: repeat(keep(codes, spans(apart=False)) if ranges.strip() else codes, repeats),
        REVERSE: lambda: reverse_sections(codes, _sections(ranges, tokens, meter)),
        JOIN: lambda: join([codes, _second(tokens, other, operation)["codes"]]),
        MIX: lambda: exchange(
            codes, _second(tokens, other, operation)["codes"], read_codebooks(codebooks, count), spans()
        ),
        DROP: lambda: exchange(codes, _neutral(tokens, codec), read_codebooks(codebooks, count), spans()),
    }
    made = steps[operation]()
    told = {"operation": operation, "ranges": ranges, "repeats": repeats, "codebooks": codebooks}
    told |= {"bpm": meter.bpm, "beats_per_bar": meter.beats_per_bar}
    is_loop = bool(tokens.get("loop")) and operation in (MIX, DROP) and made.shape == codes.shape
    samples = tokens["num_samples"] if made.shape[2] == codes.shape[2] and operation in (MIX, DROP) else None
    return edited(tokens, made, told, num_samples=samples, loop=is_loop)


def edited(
    tokens: Tokens, codes: Tensor, told: dict[str, Any], *, num_samples: int | None, loop: bool = False
) -> Tokens:
    """Tokens with other codes, whose recipe tells the edit. No seed samples them by itself."""
    recipe = tokens["recipe"] or {"model": tokens["model"]}
    recipe = {**recipe, "edits": [*recipe.get("edits", []), told]}
    made: Tokens = {**tokens, "codes": codes.clone(), "num_samples": num_samples, "seed": None, "recipe": recipe}
    if loop:
        made["loop"] = True
    else:
        made.pop("loop", None)
    return made


def _sections(text: str, tokens: Tokens, meter: Meter) -> list[Range]:
    """Sections from their ranges, or all of one length where the text is a length such as `2 bars`."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        try:
            length = Fraction(str(parse_length(lines[0], meter)))
        except ValueError:
            return read_ranges(text, tokens, meter, apart=True)
        frames, total = length * tokens["frame_rate"], tokens["codes"].shape[2]
        if frames < 1:
            raise ValueError(
                f"sections of {lines[0].strip()} are shorter than a frame; allowed is at least "
                f"{1 / tokens['frame_rate']:g} s."
            )
        edges = [round(frames * number) for number in range(int(total / frames) + 1)]
        lengths = [after - before for before, after in pairwise(edges)]
        return equal_sections(total, [*lengths, total])
    return read_ranges(text, tokens, meter, apart=True)


def _second(tokens: Tokens, other: Tokens | None, operation: str) -> Tokens:
    """The other piece, which must have the codec of the first."""
    if other is None:
        raise ValueError(f"the operation {operation!r} needs a second piece; connect tokens to other.")
    if other["codec"] != tokens["codec"] or other["codes"].shape[1] != tokens["codes"].shape[1]:
        raise ValueError(
            f"the tokens of {other['model']} on other belong to another codec than those of {tokens['model']} "
            f"({other['codec']} is not {tokens['codec']}); use two pieces of one codec, or decode one and encode it "
            "with the other's."
        )
    return other


def _neutral(tokens: Tokens, codec: CodecHandle | None) -> Tensor:
    """Codes [1, K, T] that add as little as possible to the sound."""
    if codec is None:
        raise ValueError(f"the operation {DROP!r} needs the codec of the tokens; connect it to codec.")
    read_tokens(tokens, codec)
    return codec.patcher.model.neutral_codes()[None, :, None].expand(-1, -1, tokens["codes"].shape[2])


def check_piece(sections: Sequence[Range], before: int, kept: int, count: int) -> None:
    """Refuse a fill that samples nothing, or keeps every codebook."""
    if not 0 <= kept < count:
        raise ValueError(
            f"{kept} codebooks are to be kept and the tokens have {count}; allowed are 0 to {count - 1}, so that one "
            "is left to sample."
        )
    if not sections and not before and not kept:
        raise ValueError(
            "nothing is to be sampled; name a section such as 4s - 6s, or seconds before the piece, or codebooks to "
            "keep."
        )


def unknown_in(codes: Tensor, section: Range, kept: int) -> Tensor:
    """Codes [1, K, T] with -1 in a section, in all codebooks but the lowest ones that are kept."""
    known = codes.clone()
    known[:, kept:, section[0] : section[1]] = -1
    return known
