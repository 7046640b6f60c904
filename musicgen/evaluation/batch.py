"""Measure a batch of pieces in memory, item by item, beside a reference and a description."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..audio import resample
from ..environment import torch_defaults
from .frechet import FrechetReference
from .maps import embedding_map
from .memorisation import nearest_neighbours
from .report import Figure, short
from .rhythm import pulse_strength
from .sound import is_silent, samples_beyond_full_scale
from .statistics import statistics_of
from .tonality import chroma_cosine

if TYPE_CHECKING:
    from .embedders.clap import Clap
    from .embedders.listener import Listener

FAD, LIKENESS, CHROMA, CLAP, PULSE = NUMBERS = ("fad", "likeness", "chroma cosine", "CLAP score", "pulse")
"""Figures of one item; a lower `fad` is better, and a higher value of each other one."""
OnItem = Callable[[int, int], None]


@dataclass(frozen=True)
class Sounds:
    """A batch of pieces, `[B, C, L]`, and their sample rate."""

    audio: Tensor
    sample_rate: int


@dataclass(frozen=True)
class Measured:
    """The result for a batch.

    Attributes:
        figures: of the whole batch.
        numbers: one figure per item by name, of :data:`NUMBERS`.
        notes: a sentence for each figure that lacks something.
        picture: `[H, W, 3]`: the embeddings of the batch and of the reference.
    """

    figures: tuple[Figure, ...]
    numbers: dict[str, tuple[float, ...]]
    notes: tuple[str, ...]
    picture: Tensor

    def text(self) -> str:
        """Return the figures as lines: the whole batch, then each item, then the notes."""
        lines = ["; ".join(f"{figure.name} {figure}" for figure in self.figures)]
        for item in range(len(next(iter(self.numbers.values())))):
            parts = [f"{name} {short(values[item])}" for name, values in self.numbers.items()]
            lines.append(f"item {item + 1}: {', '.join(parts)}")
        return "\n".join([*lines, *self.notes])

    def ranking(self, name: str) -> list[int]:
        """Return the items, counted from 0, from the best to the worst by one of their numbers.

        Raises:
            ValueError: the number was not measured.
        """
        if name not in self.numbers:
            raise ValueError(
                f"{name} was not measured; allowed are {', '.join(self.numbers)}. fad, likeness and chroma cosine need "
                "a reference, and CLAP score needs a caption and the weights of CLAP."
            )
        values = self.numbers[name]
        return sorted(range(len(values)), key=lambda item: values[item] if name == FAD else -values[item])


@torch.no_grad()
@torch_defaults()
def measure_batch(
    sounds: Sounds,
    *,
    listener: Listener | None = None,
    reference: Sounds | None = None,
    captions: Sequence[str] = (),
    clap: Clap | None = None,
    on_item: OnItem | None = None,
) -> Measured:
    """Measure each piece of a batch.

    Args:
        sounds: the pieces.
        listener: embeds pieces and reference for the distance, the likeness and the picture.
        reference: recordings to compare with; item i is compared with recording i (the last one, where there are
            fewer) for the chroma, and with all of them for the rest.
        captions: one description for all pieces, or one for each.
        clap: a CLAP model for the CLAP score.
        on_item: called after each piece with the number done and of all; an exception from it cancels.

    Raises:
        ValueError: the number of captions is neither 1 nor that of the pieces.
    """
    audio, rate = sounds.audio, sounds.sample_rate
    count = len(audio)
    if captions and len(captions) not in (1, count):
        raise ValueError(f"{len(captions)} captions came with {count} pieces; allowed are 1 or {count}.")
    mono = audio.mean(dim=1)
    numbers: dict[str, tuple[float, ...]] = {}
    notes: list[str] = []
    if mono.shape[1] >= rate:
        numbers[PULSE] = tuple(pulse_strength(mono, rate).tolist())
    figures: list[Figure] = []
    ours: list[Tensor] = []
    theirs: list[Tensor] = []
    if listener is not None:
        theirs = [] if reference is None else [_rows(listener, item, reference.sample_rate) for item in reference.audio]
        for done, item in enumerate(audio, start=1):
            ours.append(_rows(listener, item, rate))
            if on_item is not None:
                on_item(done, count)
        figures += _distances(listener.name, ours, theirs, numbers, notes)
    if reference is not None:
        numbers[CHROMA] = tuple(_chroma(mono[item], rate, reference, item) for item in range(count))
        figures.append(Figure(CHROMA, "mean", numbers[CHROMA]))
    if clap is not None and captions:
        texts = list(captions) * (count // len(captions))
        numbers[CLAP] = tuple(clap.score(mono, rate, texts).tolist())
        figures.append(Figure(CLAP, "mean", numbers[CLAP]))
    figures.append(_share("silent", is_silent(audio).all(dim=1)))
    figures.append(_share("beyond full scale", (samples_beyond_full_scale(audio) > 0).any(dim=1)))
    if not numbers:
        numbers[PULSE] = tuple(0.0 for _ in range(count))
        notes.append("the pieces are shorter than a second, so nothing but silence and full scale was measured.")
    return Measured(tuple(figures), numbers, tuple(notes), embedding_map(ours, theirs))


def _share(name: str, values: Tensor) -> Figure:
    return Figure(name, "share", tuple(values.float().tolist()))


def _rows(listener: Listener, item: Tensor, rate: int) -> Tensor:
    return listener.listen(resample(item.mean(dim=0).cpu(), rate, listener.sample_rate).contiguous()).float()


def _distances(
    name: str, ours: list[Tensor], theirs: list[Tensor], numbers: dict[str, tuple[float, ...]], notes: list[str]
) -> list[Figure]:
    """The distance of all items, each item's own, and the likeness to the nearest recording."""
    if not theirs:
        return []
    together = torch.cat(theirs)
    means = [torch.stack([rows.mean(dim=0) for rows in each]) for each in (ours, theirs)]
    numbers[LIKENESS] = tuple(nearest_neighbours(*means).cosines.tolist())
    if len(together) < 2 or min(len(rows) for rows in ours) < 2:
        notes.append(f"a Frechet distance needs two embeddings of each sound, and {name} made one; give longer sounds.")
        return [Figure(LIKENESS, "mean", numbers[LIKENESS])]
    reference = FrechetReference(statistics_of(together))
    numbers[FAD] = tuple(reference.distance_to(rows) for rows in ours)
    whole = reference.distance_to(torch.cat(ours))
    return [Figure(f"{FAD} ({name})", "value", (whole,)), Figure(LIKENESS, "mean", numbers[LIKENESS])]


def _chroma(wave: Tensor, rate: int, reference: Sounds, item: int) -> float:
    other = reference.audio[min(item, len(reference.audio) - 1)].mean(dim=0)
    other = resample(other, reference.sample_rate, rate)
    return float(chroma_cosine(wave[None], other[None], rate))
