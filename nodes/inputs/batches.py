"""Items of a batch: which ones are meant, and the batch of only these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...musicgen.audio import shown
from ..sockets import Tokens
from .sound import field

_MARK = re.compile(r"(-?\d+)(?:\s*-\s*(-?\d+))?")


def pick_items(index: int, marked: str, tokens: Tokens | None, audio: Mapping[str, Any] | None) -> list[int]:
    """The items that a user means, counted from 0. index and marked count from 1, or back from -1."""
    if tokens is None and audio is None:
        raise ValueError("MusicGen Pick has nothing to pick from; connect tokens, audio or both.")
    sizes = [] if tokens is None else [tokens["codes"].shape[0]]
    sizes += [] if audio is None else [field(audio, "waveform").shape[0]]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"the tokens hold {sizes[0]} pieces and the audio {sizes[1]}; allowed is the same number, so connect the "
            "sound that was decoded from these tokens."
        )
    numbers = _marked_numbers(marked) if marked.strip() else [index]
    return [_item(number, sizes[0]) for number in numbers]


def _marked_numbers(marked: str) -> list[int]:
    numbers: list[int] = []
    for mark in marked.replace(";", ",").split(","):
        match = _MARK.fullmatch(mark.strip())
        if match is None:
            raise ValueError(
                f"marked is {marked!r}; allowed are numbers of pieces with commas between them, such as 2 or 1, 3 or "
                "2-4, and nothing to pick by the index."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        numbers += range(first, last + 1) if last >= first else range(first, last - 1, -1)
    return numbers


def _item(number: int, size: int) -> int:
    if number == 0 or not -size <= number <= size:
        raise ValueError(
            f"piece {number} was picked from a batch of {size}; allowed are 1 to {size}, and -1 to -{size} from the "
            "end."
        )
    return number - 1 if number > 0 else size + number


def pick_tokens(tokens: Tokens, items: list[int]) -> Tokens:
    """The tokens of some items, in this order. A single item keeps the seed that makes it alone."""
    seed = tokens["seed"]
    if seed is not None and items != list(range(items[0], items[0] + len(items))):
        seed = None  # no single seed samples these
    elif seed is not None:
        seed = (seed + items[0]) % 2**64
    recipe = tokens["recipe"] and {**tokens["recipe"], "seed": seed}
    return {**tokens, "codes": tokens["codes"][items], "seed": seed, "recipe": recipe}


def pick_audio(audio: Mapping[str, Any], items: list[int]) -> dict[str, Any]:
    """The sound of some items, in this order."""
    waveform = field(audio, "waveform")
    if waveform.dim() != 3:
        raise ValueError(f"the audio's waveform is {shown(waveform)}; allowed is [batch, channels, samples].")
    return {"waveform": waveform[items], "sample_rate": field(audio, "sample_rate")}
