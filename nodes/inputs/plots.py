"""The picture of a plot, from the values of the sockets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...musicgen.conditioning.melody import extract_melody
from ...musicgen.evaluation.rhythm import log_mel
from ...musicgen.images import chroma_image, codes_image, spectrogram_image
from ..sockets import MAX_HEARD_SECONDS, MelodyBatch, Tokens
from .sound import read_audio


def read_plot(
    plot: str,
    *,
    tokens: Tokens | None,
    audio: Mapping[str, Any] | None,
    melody: MelodyBatch | None,
    node_id: str | None,
) -> Tensor:
    """The pictures [B, H, W, 3] of one kind of plot."""
    if plot in ("codes", "pattern"):
        if tokens is None:
            raise ValueError(f"the plot {plot} draws tokens, and none are connected; connect them, or choose another.")
        return torch.stack([codes_image(codes, tokens["card"]) for codes in tokens["codes"]])
    if plot == "melody" and melody is not None:
        return torch.stack([chroma_image(item.chroma) for item in melody.items])
    if audio is None:
        raise ValueError(f"the plot {plot} draws audio, and none is connected; connect it, or choose another plot.")
    waveform, rate = read_audio(audio, node_id, MAX_HEARD_SECONDS)
    if plot == "melody":
        return torch.stack([chroma_image(extract_melody(item, rate).chroma) for item in waveform])
    return torch.stack([spectrogram_image(mel) for mel in log_mel(waveform.mean(dim=1), rate)])
