"""What every layout is translated into: the numbers of a model, and how each network's parameters are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import ModelConfig
from .tensors import Recipe, StoredTensors


@dataclass(frozen=True)
class Part:
    """One network: its stored tensors, recipes for our parameter names, and stored names that are not needed."""

    stored: StoredTensors
    recipes: Callable[[Iterable[str]], dict[str, Recipe]]
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Checkpoint:
    """A model as it lies on disk, open for reading.

    tokenizer: the folder of T5's tokenizer, or the tokenizer itself as text. settings: what an
    audiocraft file says about itself, as plain nested dictionaries with references resolved; empty
    in other layouts.
    """

    where: Path
    config: ModelConfig
    tokenizer: Path | Mapping[str, str]
    lm: Part
    text: Part
    codec: Part
    settings: Mapping[str, Any] = field(default_factory=dict)

    def parts(self) -> dict[str, Part]:
        """The three networks by name."""
        return {"lm": self.lm, "text": self.text, "codec": self.codec}
