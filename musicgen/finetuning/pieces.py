"""Cut whole songs into pieces: windows of one length that overlap, without those that are silent.

Pieces keep their level: the model learns how loud the music is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

SILENT_DB = -60.0
"""Pieces whose level is below this are left out, and so is silence at both ends of a song."""
SHORTEST = 1.0
"""Seconds of the shortest piece that is kept."""
_BLOCK = 0.05


@dataclass(frozen=True)
class Cut:
    """A piece of a song: its first sample, their number, and its level in dB of full scale."""

    start: int
    length: int
    level: float


def level_db(audio: Tensor) -> float:
    """Return the level of audio in dB of full scale, by its mean square.

    >>> import torch
    >>> round(level_db(torch.full((1, 100), 0.1)))
    -20
    """
    return 10.0 * math.log10(max(float(audio.double().pow(2).mean()), 1e-12))


def cut_song(audio: Tensor, sample_rate: int, seconds: float, overlap: float) -> list[Cut]:
    """Cut a song into pieces.

    A song shorter than a piece is one piece. The last piece ends where the song does, so that endings are heard whole.

    Args:
        audio: `[C, L]`.
        sample_rate: samples per second.
        seconds: length of a piece.
        overlap: share of a piece that the next one repeats, 0 to 0.9.

    Raises:
        ValueError: the overlap or the length is out of range.
    """
    if not 0.0 <= overlap <= 0.9:
        raise ValueError(f"the overlap of pieces is {overlap:g}; allowed is 0 to 0.9.")
    if not seconds >= SHORTEST:
        raise ValueError(f"the length of a piece is {seconds:g} s; allowed is {SHORTEST:g} s or more.")
    first, last = _sounding(audio, sample_rate)
    length = round(seconds * sample_rate)
    if last - first < round(SHORTEST * sample_rate):
        return []
    hop = max(1, round(length * (1.0 - overlap)))
    starts = list(range(first, max(first + 1, last - length + 1), hop))
    # The rest at the end becomes a piece that ends there, where it is long enough.
    if starts[-1] + length < last - round(SHORTEST * sample_rate):
        starts.append(max(first, last - length))
    cuts = [Cut(start, min(length, last - start), 0.0) for start in starts]
    levels = [level_db(audio[:, cut.start : cut.start + cut.length]) for cut in cuts]
    found = [Cut(cut.start, cut.length, level) for cut, level in zip(cuts, levels, strict=True)]
    return [cut for cut in found if cut.level >= SILENT_DB]


def _sounding(audio: Tensor, sample_rate: int) -> tuple[int, int]:
    """The samples between which a song sounds; equal where it never does."""
    block = max(1, round(_BLOCK * sample_rate))
    count = audio.shape[1] // block
    if not count:
        return 0, 0
    power = audio[:, : count * block].reshape(audio.shape[0], count, block).double().pow(2).mean(dim=(0, 2))
    loud = (power >= 10.0 ** (SILENT_DB / 10.0)).nonzero()
    if not len(loud):
        return 0, 0
    end = int(loud[-1]) + 1
    return int(loud[0]) * block, audio.shape[1] if end == count else end * block
