"""Songs as codes: what the language model reads. Made once by the codec as it is shipped."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from musicgen.codec.encodec import EnCodec
from musicgen.training.resume import ProgressLog, write_atomically

from .corpus.notes import SongPlan
from .corpus.score_marks import piano_roll
from .corpus.songs import write_score
from .corpus.store import NANO_CHROMA, SongStore


@torch.no_grad()
def round_to_half(codec: EnCodec) -> EnCodec:
    """Give a codec, in place, the weights that it has once stored in float16 with weight normalisation."""
    for module in codec.model.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            direction = module.weight.half().float()
            norm = direction.flatten(1).norm(dim=1).view(-1, 1, 1)
            module.weight.copy_(direction * (norm.half().float() / norm.clamp_min(1e-12)))
            if module.bias is not None:
                module.bias.copy_(module.bias.half().float())
    for name, tensor in codec.model.state_dict().items():
        if ".lstm." in name or name.endswith(".embed"):
            tensor.copy_(tensor.half().float())
    return codec


class TokenStore:
    """Codes uint16 `[N, K, T]`, the plan of each song, the chroma `[N, F]` of its melody, and its score `[N, T]`."""

    def __init__(self, codes: np.ndarray, labels: list[dict[str, Any]], chroma: np.ndarray) -> None:
        self.codes, self.chroma = codes, chroma
        self.chroma_length = NANO_CHROMA.chroma_length
        self.plans = [read_plan(about) for about in labels]
        frames = codes.shape[2]
        self.rolls = np.stack([piano_roll(*write_score(about["seed"], frames), frames) for about in labels])

    def cut(self, frames: int) -> TokenStore:
        """The same songs, but only so many frames of each."""
        part = copy(self)
        part.codes, part.rolls = self.codes[:, :, :frames], self.rolls[:, :frames]
        return part

    def of_tempi(self, beat_frames: tuple[int, ...]) -> TokenStore:
        """Only the songs whose beats have these numbers of frames; all songs for no numbers."""
        rows = [row for row, plan in enumerate(self.plans) if not beat_frames or plan.beat_frames in beat_frames]
        part = copy(self)
        part.codes, part.chroma, part.rolls = self.codes[rows], self.chroma[rows], self.rolls[rows]
        part.plans = [self.plans[row] for row in rows]
        return part

    def __len__(self) -> int:
        return len(self.codes)


def read_plan(about: dict[str, Any]) -> SongPlan:
    """A song's plan from its stored labels."""
    fields = {name: value for name, value in about.items() if name != "seed"}
    return SongPlan(**{**fields, "progression": tuple(fields["progression"])})


def tokenise_songs(codec: EnCodec, songs: SongStore, folder: Path, name: str) -> TokenStore:
    """Encode all songs, going on where an earlier run stopped; the codes lie in `folder` as `<name>-<part>.npy`.

    codec: as :func:`round_to_half` leaves it.
    """
    parts, size = [], 250
    progress = ProgressLog(f"tokens ({name})", len(songs))
    for first in range(0, len(songs), size):
        path = folder / f"{name}-{codec.fingerprint}-{first // size:04d}.npy"
        last = min(first + size, len(songs))
        if not path.is_file():
            # One by one: several at once do not fit into a processor's cache, and take longer.
            codes = np.concatenate([_encode(codec, songs[at : at + 1]) for at in range(first, last)])
            write_atomically(path, lambda file, codes=codes: np.save(file, codes))
        parts.append(np.load(path)[: last - first])
        progress.update(last)
    return TokenStore(np.concatenate(parts), songs.labels, songs.chroma)


def _encode(codec: EnCodec, audio: np.ndarray) -> np.ndarray:
    batch = torch.from_numpy(audio.astype(np.float32))[:, None]
    return codec.encode(batch, codec.sample_rate).cpu().numpy().astype(np.uint16)
