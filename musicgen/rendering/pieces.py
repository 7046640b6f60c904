"""One piece of a catalogue: everything that decides its sound, and a digest that changes when the sound would."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..generation.params import GenerationParams

AS_IT_IS, UNCLIPPED = "as it is", "avoid clipping"
LEVELS = (UNCLIPPED, AS_IT_IS)
"""Levels by name; a number is a loudness in LUFS."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One piece: a row of a catalogue with one seed.

    Args:
        id: its name in the output, without a suffix.
        line: the line of its row in the catalogue.
        model: path of the model; empty where a ComfyUI graph has it.
        dtype: number format of the language model, one of `DTYPES`.
        description: the text; empty for none.
        negative: the text to guide away from; empty for none.
        melody: path of a recording whose melody to follow; empty for none.
        prompt: path of a recording to continue; empty for none.
        style: path of a recording whose style to take up; empty for none.
        loras: path and strength of each LoRA.
        params: duration, seed, and the other numbers.
        level: one of `LEVELS`, or a loudness in LUFS.
        format: one of `FORMATS`.
        sources: a digest of each file that the piece is made from, by the name of the column.
        columns: the row's columns that rendering does not know.
    """

    id: str
    line: int
    model: str
    dtype: str
    description: str
    negative: str = ""
    melody: str = ""
    prompt: str = ""
    style: str = ""
    loras: tuple[tuple[str, float], ...] = ()
    params: GenerationParams
    level: str | float = UNCLIPPED
    format: str = "flac"
    sources: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Length of the piece."""
        return self.params.duration

    def recipe(self) -> dict[str, Any]:
        """Return everything that decides the sound, in numbers and texts; paths are replaced by digests of files."""
        numbers = {name: value for name, value in vars(self.params).items() if value is not None}
        texts = {"description": self.description, "negative": self.negative}
        if not self.model:  # a graph has the model and all other numbers
            return {**texts, "duration": self.seconds, "seed": self.params.seed, **self.sources}
        return {
            **{name: text for name, text in texts.items() if text},
            **numbers,
            "dtype": self.dtype,
            "level": self.level,
            "format": self.format,
            **self.sources,
        }

    def digest(self) -> str:
        """Return a digest of the recipe: two pieces with the same one sound the same."""
        text = json.dumps(self.recipe(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def group(self) -> tuple[Any, ...]:
        """Return everything that pieces must have in common to be sampled side by side."""
        numbers = tuple(value for name, value in vars(self.params).items() if name != "seed")
        kinds = (bool(self.negative), bool(self.melody), bool(self.style), self.sources.get("prompt_frames", 0))
        return (self.model, self.dtype, self.loras, numbers, kinds)
