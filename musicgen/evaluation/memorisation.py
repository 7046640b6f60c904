"""Memorisation: how near pieces are to the reference, by their embeddings and by their first codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..generation.params import GenerationParams
from ..model import MusicGen

FRAMES = 250
"""Frames that are compared, five seconds, as in Copet et al. 2023 (appendix)."""
APPROXIMATE = 0.8
"""Share of equal codes from which on a piece counts as an approximate copy (Carlini et al. 2023)."""
_BLOCK = 1024


@dataclass(frozen=True)
class Neighbours:
    """The nearest reference of each piece: its row, int64 `[N]`, and the cosine of both embeddings, `[N]`."""

    rows: Tensor
    cosines: Tensor


def nearest_neighbours(embeddings: Tensor, reference: Tensor, *, same: bool = False) -> Neighbours:
    """Find the nearest row of `[M, D]` for each row of `[N, D]`, by the cosine.

    Args:
        embeddings: one per piece, `[N, D]`.
        reference: one per piece of the reference, `[M, D]`.
        same: both are one set, and no piece is its own neighbour.

    Raises:
        ValueError: the widths differ, or there is nothing to compare with.
    """
    if embeddings.shape[-1] != reference.shape[-1]:
        raise ValueError(
            f"the embeddings are {embeddings.shape[-1]} wide and the reference's {reference.shape[-1]}; "
            "make both with the same model."
        )
    if len(reference) < 1 + same:
        raise ValueError(f"{len(reference)} pieces are in the reference; allowed is at least {1 + same}.")
    ours, theirs = F.normalize(embeddings.float(), dim=-1), F.normalize(reference.float(), dim=-1)
    rows, cosines = [], []
    for first in range(0, len(ours), _BLOCK):
        likeness = ours[first : first + _BLOCK] @ theirs.t()
        if same:
            place = torch.arange(len(likeness))
            likeness[place, place + first] = -2.0
        best = likeness.max(dim=1)
        rows.append(best.indices)
        cosines.append(best.values)
    return Neighbours(torch.cat(rows), torch.cat(cosines).clamp(-1, 1))


def code_match(codes: Tensor, reference: Tensor, frames: int = FRAMES) -> Tensor:
    """Return the share of the first codebook's first codes that are equal: `[B, K, T]` twice -> `[B]`.

    >>> ours, theirs = torch.tensor([[[1, 2, 3, 4]]]), torch.tensor([[[1, 2, 3, 5]]])
    >>> code_match(ours, theirs)
    tensor([0.7500])
    """
    length = min(frames, codes.shape[-1], reference.shape[-1])
    if not length:
        raise ValueError("a piece has no codes; compare pieces of at least one frame.")
    return (codes[:, 0, :length] == reference[:, 0, :length]).float().mean(dim=-1)


def closest_match(codes: Sequence[Tensor], reference: Sequence[Tensor], frames: int = FRAMES) -> Tensor:
    """Return for each piece `[K, T]` the highest :func:`code_match` with any piece of the reference: `[N]`.

    Pieces begin together: a copy that starts later is not found.
    """
    firsts = [torch.stack([_first_codes(piece, frames) for piece in pieces]) for pieces in (codes, reference)]
    best = []
    for piece in firsts[0]:
        known = (piece >= 0) & (firsts[1] >= 0)
        equal = ((piece == firsts[1]) & known).float().sum(dim=-1) / known.sum(dim=-1).clamp_min(1)
        best.append(equal.max())
    return torch.stack(best)


def _first_codes(piece: Tensor, frames: int) -> Tensor:
    """The first codebook's first codes, int64 `[frames]`, -1 beyond the piece's end."""
    row = piece[0, :frames]
    return F.pad(row, (0, frames - len(row)), value=-1)


def memorised(
    model: MusicGen, codes: Tensor, descriptions: Sequence[str | None], *, prompt_frames: int, frames: int = FRAMES
) -> Tensor:
    """Let the model continue the openings of pieces by its likeliest codes, and return how much it repeats: `[B]`.

    Copet et al. 2023, appendix: 1 is an exact copy, from 0.8 on an approximate one.

    Args:
        model: the model to test.
        codes: pieces that it was trained on, int64 `[B, K, T]`.
        descriptions: one per piece.
        prompt_frames: length of the opening that it is given, in frames.
        frames: how many of the following frames to compare.

    Raises:
        ValueError: the pieces are shorter than the prompt and one frame.
    """
    last = min(codes.shape[2], prompt_frames + frames)
    if not 0 < prompt_frames < last:
        raise ValueError(
            f"the prompt has {prompt_frames} frames of pieces of {codes.shape[2]}; allowed is 1 to {last - 1}."
        )
    params = GenerationParams(duration=last / model.frame_rate, use_sampling=False, cfg_coef=1.0)
    made = model.generate(list(descriptions), params, prompt=codes[:, :, :prompt_frames])
    return code_match(made[:, :, prompt_frames:], codes[:, :, prompt_frames:last], frames)
