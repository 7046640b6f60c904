"""The form that every layout is translated into: the numbers of a model, and how each network's parameters are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import ModelConfig
from .files.tensors import Recipe, StoredTensors


@dataclass(frozen=True)
class Part:
    """One network: its stored tensors, recipes for our parameter names, and stored names that are not needed."""

    stored: StoredTensors
    recipes: Callable[[Iterable[str]], dict[str, Recipe]]
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True)
class MertFiles:
    """A MERT, which style models hear through: fields of a transformers `HubertConfig`, its tensors, and its settings
    that are not known here."""

    config: Mapping[str, Any]
    part: Part
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk, open for reading.

    tokenizer: the folder of T5's tokenizer, or the tokenizer itself as text. settings: those in an
    audiocraft file, as plain nested dictionaries with references resolved; empty
    in other layouts. style: the style condition of a style model. mert: its feature model, or
    None where that is not at hand, and then without_mert is the remedy. unknown: settings that are not
    known here, each as its place, name and value.
    """

    where: Path
    config: ModelConfig
    tokenizer: Path | Mapping[str, str]
    lm: Part
    text: Part
    codec: Part
    settings: Mapping[str, Any] = field(default_factory=dict)
    style: Part | None = None
    mert: MertFiles | None = None
    without_mert: str = ""
    unknown: tuple[str, ...] = ()

    def parts(self) -> dict[str, Part]:
        """The networks by name, but for MERT, which is a model of its own."""
        parts = {"lm": self.lm, "text": self.text, "codec": self.codec, "style": self.style}
        return {name: part for name, part in parts.items() if part is not None}
