"""The names of the measures that folders are judged by, and the models that they listen with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ..model import MusicGen
from .embedders.clap import Clap, ClapOpening
from .embedders.encodec import EncodecCodes, EncodecStates
from .embedders.listener import Listener
from .embedders.mert import MertStates
from .embedders.tags import TagClassifier
from .embedders.vggish import Vggish
from .embedders.weights import find_weights
from .listening import ChromaFrames, SoundFacts

EMBEDDINGS = ("clap", "mert", "encodec", "vggish")
OF_EMBEDDINGS = ("fad", "fad-inf", "fad-song", "kad", "neighbours")
OTHERS = ("kl", "clap-score", "chroma", "likelihood", "memorisation", "health", "duplicates")
_OF_MODEL = ("encodec", "codes")
PAIRED = ("kl", "chroma")
"""Measures of each candidate and the reference of the same file name."""


@dataclass(frozen=True)
class Measure:
    """One measure. embedding: the model whose embeddings it compares, for those of :data:`OF_EMBEDDINGS`."""

    kind: str
    embedding: str | None = None

    def __str__(self) -> str:
        """The name as it is written in options."""
        return self.kind if self.embedding is None else f"{self.kind}:{self.embedding}"


def parse_measure(name: str) -> Measure:
    """Return the measure of a name such as `fad:vggish`, `kad` (by CLAP) or `kl`.

    >>> parse_measure("kad")
    Measure(kind='kad', embedding='clap')

    Raises:
        ValueError: there is no such measure.
    """
    kind, _, embedding = name.partition(":")
    if kind in OTHERS and not embedding:
        return Measure(kind)
    if kind in OF_EMBEDDINGS and (not embedding or embedding in EMBEDDINGS):
        return Measure(kind, embedding or "clap")
    raise ValueError(
        f"measure {name!r} does not exist; allowed are {', '.join(OTHERS)}, and {', '.join(OF_EMBEDDINGS)} each with "
        f"an embedding, as in fad:vggish: {', '.join(EMBEDDINGS)}."
    )


@dataclass
class Ears:
    """The models that measures listen with, each loaded when it is first needed.

    Attributes:
        given: paths of weights by name: clap, mert, vggish, tags.
        search: folders of models, each with a folder for every kind of weights.
        model: a MusicGen model, for its codec and for likelihoods.
        hop: seconds between the windows of CLAP.
        device: where to compute.
    """

    given: Mapping[str, Path] = field(default_factory=dict)
    search: Sequence[Path] = ()
    model: MusicGen | None = None
    hop: float = 1.0
    device: torch.device | str = "cpu"
    _loaded: dict[str, Listener] = field(default_factory=dict, repr=False)
    _of_model: dict[str, Listener] = field(default_factory=dict, repr=False, init=False)

    def listener(self, name: str) -> Listener:
        """Return a listener by its name.

        Raises:
            FileNotFoundError: its weights are not at hand; the sentence says which files to put where.
            ValueError: its weights are damaged, or a MusicGen model is needed and none was given.
        """
        loaded = self._of_model if name in _OF_MODEL else self._loaded
        if name not in loaded:
            loaded[name] = self._load(name)
        return loaded[name]

    def with_model(self, model: MusicGen) -> Ears:
        """Return the same ears with another MusicGen model; both share all other listeners."""
        return replace(self, model=model)

    def why_not(self, measure: Measure) -> str | None:
        """Return why a measure cannot be taken for lack of a model, without loading any; None where it can."""
        try:
            for name in needed(measure):
                if name in _OF_MODEL:
                    self.need_model(name)
                elif name not in ("facts", "chroma"):
                    find_weights("clap" if name == "clap-opening" else name, self.given.get(name), self.search)
        except (FileNotFoundError, ValueError) as error:
            return str(error)
        return None

    def need_model(self, name: str) -> MusicGen:
        """Return the MusicGen model, or raise ValueError where none was given."""
        if self.model is None:
            raise ValueError(
                f"{name} comes from a MusicGen model, and none was given; give --model, such as models/musicgen-nano."
            )
        return self.model

    def _load(self, name: str) -> Listener:
        if name in ("facts", "chroma"):
            return SoundFacts() if name == "facts" else ChromaFrames()
        if name in _OF_MODEL:
            codec = self.need_model(name).codec
            return EncodecStates(codec) if name == "encodec" else EncodecCodes(codec)
        if name == "clap-opening":
            clap = self.listener("clap")
            assert isinstance(clap, Clap)
            return ClapOpening(clap)
        path = find_weights(name, self.given.get(name), self.search)
        if name == "clap":
            return Clap(path, hop=self.hop, device=self.device)
        if name == "mert":
            return MertStates(path, device=self.device)
        return Vggish(path, device=self.device) if name == "vggish" else TagClassifier(path, device=self.device)


def needed(measure: Measure) -> tuple[str, ...]:
    """Return the names of the listeners that a measure needs."""
    if measure.embedding is not None:
        return (measure.embedding,)
    own = {"kl": "tags", "clap-score": "clap-opening", "chroma": "chroma", "likelihood": "codes"}
    if measure.kind == "memorisation":
        return ("codes",)
    return (own[measure.kind],) if measure.kind in own else ("facts",)
