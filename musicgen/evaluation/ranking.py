"""Rank the pieces of a batch by how well each keeps the wanted tempo, key, melody and words; broken ones come last.

A score is the mean of up to four parts from 0 to 1, each an absolute measure of one piece alone, so that it is the
same in every batch. A gate finds silence, codes that repeat without end, and clipped sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..audio import resample
from ..conditioning.melody import Melody, chroma_of
from ..environment import torch_defaults
from .asked import Key, key_name
from .batch import OnItem, Sounds
from .report import short
from .rhythm import onset_autocorrelation, tempo_fit, tempo_found
from .sound import clipped_share, longest_repetition, silent_seconds
from .tonality import key_fit, key_of, pitch_classes

if TYPE_CHECKING:
    from .embedders.clap import Clap

CLAP, MELODY, TEMPO, KEY = PARTS = ("CLAP", "melody", "tempo", "key")

MOST_SILENT = 0.25
"""Share of the seconds of a piece that may be silent."""
MOST_REPEATED = 2.0
"""Seconds for which the codes may repeat a stretch of half a second or less."""
MOST_CLIPPED = 1e-3
"""Share of the samples that may be at full scale or beyond."""
_REPEATED_STRETCH = 0.5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The wishes that pieces are measured by.

    Attributes:
        caption: description for the CLAP score; empty for none.
        bpm: beats per minute; None for any tempo.
        key: pitch class of the tonic and mode; None for any key.
        melodies: one for all pieces or one for each; empty for none.
    """

    caption: str = ""
    bpm: float | None = None
    key: Key | None = None
    melodies: Sequence[Melody] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for a tempo that cannot be measured."""
        if self.bpm is not None and not 30.0 <= self.bpm <= 300.0:
            raise ValueError(f"bpm is {self.bpm:g}; allowed are 30 to 300 beats per minute, which can be measured.")


@dataclass(frozen=True)
class Ranked:
    """The result of :func:`rank_batch`, item by item in the order of the batch.

    Attributes:
        scores: mean of the parts, 0 for a piece with a fault; 1 where nothing measurable was asked.
        parts: the values from 0 to 1 by name, of :data:`PARTS`.
        found: tempo and key that were measured, as words.
        faults: why a piece comes last; empty for a sound piece.
        order: the items from the best to the worst; equal ones stay in the order of the batch.
        notes: a sentence for each thing that was not measured.
    """

    scores: tuple[float, ...]
    parts: dict[str, tuple[float, ...]]
    found: tuple[str, ...]
    faults: tuple[str, ...]
    order: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Return a line for each piece, the best first, then the notes."""
        lines = []
        for place, item in enumerate(self.order, start=1):
            parts = [f"{name} {short(values[item])}" for name, values in self.parts.items()]
            told = ", ".join([*parts, *filter(None, [self.found[item]])])
            fault = f" (last: {self.faults[item]})" if self.faults[item] else ""
            lines.append(f"{place}. piece {item + 1}: {short(self.scores[item])}{': ' if told else ''}{told}{fault}")
        return "\n".join([*lines, *self.notes])


@torch.no_grad()
@torch_defaults()
def rank_batch(
    sounds: Sounds,
    asked: Asked,
    *,
    codes: Tensor | None = None,
    frame_rate: int = 50,
    clap: Clap | None = None,
    on_item: OnItem | None = None,
) -> Ranked:
    """Score each piece of a batch by the wishes, and put them in order.

    Args:
        sounds: the pieces.
        asked: the wishes.
        codes: their codes `[B, K, T]`, for the gate against repetition; None leaves it out.
        frame_rate: frames per second of the codes.
        clap: a CLAP model, for the caption.
        on_item: called after each piece with the number done and of all; an exception from it cancels.

    Raises:
        ValueError: the number of melodies is neither 1 nor that of the pieces, or the codes are of another number.
    """
    count = len(sounds.audio)
    if len(asked.melodies) not in (0, 1, count):
        raise ValueError(f"{len(asked.melodies)} melodies came with {count} pieces; allowed are 1 or {count}.")
    if codes is not None and len(codes) != count:
        raise ValueError(f"{len(codes)} items of codes came with {count} pieces of sound; allowed is one for each.")
    rows: list[dict[str, float]] = []
    found, faults = [], []
    for item in range(count):
        piece, melody = (
            sounds.audio[item],
            asked.melodies[min(item, len(asked.melodies) - 1)] if asked.melodies else None,
        )
        row, words = _measured(piece, sounds.sample_rate, asked, melody, clap)
        rows.append(row)
        found.append(words)
        faults.append(_fault(piece, sounds.sample_rate, None if codes is None else codes[item], frame_rate))
        if on_item is not None:
            on_item(item + 1, count)
    scores = [
        0.0 if fault else sum(row.values()) / len(row) if row else 1.0 for row, fault in zip(rows, faults, strict=True)
    ]
    order = sorted(range(count), key=lambda item: (bool(faults[item]), -scores[item]))
    parts = {name: tuple(row[name] for row in rows) for name in PARTS if rows and name in rows[0]}
    notes = () if parts else ("nothing that can be measured was asked, so only broken pieces are put last.",)
    return Ranked(tuple(scores), parts, tuple(found), tuple(faults), tuple(order), notes)


def _measured(
    piece: Tensor, rate: int, asked: Asked, melody: Melody | None, clap: Clap | None
) -> tuple[dict[str, float], str]:
    """The parts of the score of a piece `[C, L]`, and the tempo and key that it has, in words."""
    mono, row, words = piece.mean(dim=0, keepdim=True), {}, []
    if clap is not None and asked.caption:
        # Cosines of music and its own description lie around a half, so half is as good as whole.
        row[CLAP] = min(1.0, max(0.0, 2 * float(clap.score(mono, rate, [asked.caption]))))
    if melody is not None:
        row[MELODY] = melody_agreement(mono[0], rate, melody)
    if asked.bpm is not None:
        curve = onset_autocorrelation(mono, rate)
        row[TEMPO] = float(tempo_fit(curve, asked.bpm))
        words.append(f"{float(tempo_found(curve)):.0f} bpm")
    if asked.key is not None:
        row[KEY] = float(key_fit(pitch_classes(mono, rate), *asked.key).clamp_min(0.0))
        words.append(key_name(key_of(mono, rate)[0]))
    return row, ", ".join(words)


def melody_agreement(wave: Tensor, sample_rate: int, melody: Melody) -> float:
    """Return the mean cosine of the chroma of a mono wave `[L]` and of a melody, which repeats, frame by frame.

    Both are one-hot in the released models, and then this is audiocraft's chroma cosine: the share of frames in which
    the loudest pitch class is the same.
    """
    config = melody.config
    ours = chroma_of(resample(wave, sample_rate, config.sample_rate), config)
    # The frame centred on the very end does not count.
    frames = max(1, -(-round(len(wave) * config.sample_rate / sample_rate) // config.hop_length))
    theirs = melody.fitted(frames)
    return float(torch.cosine_similarity(ours[:frames], theirs, dim=-1, eps=1e-12).mean())


def _fault(piece: Tensor, rate: int, codes: Tensor | None, frame_rate: int) -> str:
    """The reason why a piece `[C, L]` is broken; empty if it is not."""
    seconds = piece.shape[1] / rate
    silent = float(silent_seconds(piece.mean(dim=0), rate))
    if silent > MOST_SILENT * seconds:
        return f"silent for {silent:.1f} of {seconds:.1f} s"
    if codes is not None:
        repeated = longest_repetition(codes, round(_REPEATED_STRETCH * frame_rate)) / frame_rate
        if repeated > MOST_REPEATED:
            return f"the same codes again and again for {repeated:.1f} s"
    clipped = float(clipped_share(piece).max())
    if clipped > MOST_CLIPPED:
        return f"{100 * clipped:.1f} % of the samples are at full scale or beyond"
    return ""
