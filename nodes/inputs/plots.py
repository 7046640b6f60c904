"""The pictures of a plot, from the values of the sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...musicgen.conditioning.melody import Melody, extract_melody
from ...musicgen.config import PatternConfig
from ...musicgen.generation.patterns import Pattern, named_pattern, trained_pattern, trained_pattern_name
from ...musicgen.plots import codes_plot, loudness_plot, melody_plot, pattern_plot, spectrogram_plot, waveform_plot
from ...musicgen.plots.canvas import Look
from ..sockets import MAX_HEARD_SECONDS, MelodyBatch, Tokens
from .sound import read_audio

CODES, PATTERN, MELODY = "codes", "pattern", "melody"
_SOUND = {"spectrogram": spectrogram_plot, "waveform": waveform_plot, "loudness": loudness_plot}
PLOTS = (CODES, PATTERN, MELODY, *_SOUND)


def read_plot(
    plot: str,
    look: Look,
    *,
    tokens: Tokens | None,
    audio: Mapping[str, Any] | None,
    melody: MelodyBatch | None,
    node_id: str | None,
) -> Tensor:
    """The pictures [B, H, W, 3] of one kind of plot, one for each item."""
    if plot in (CODES, PATTERN):
        if tokens is None:
            raise ValueError(f"the plot {plot} draws tokens, and none are connected; connect them, or choose another.")
        return torch.stack(_of_tokens(plot, tokens, look))
    if plot == MELODY and melody is not None:
        return torch.stack([_of_melody(item, look) for item in melody.items])
    if audio is None:
        other = " or a melody" if plot == MELODY else ""
        raise ValueError(
            f"the plot {plot} draws audio{other}, and none is connected; connect it, or choose another plot."
        )
    waveform, rate = read_audio(audio, node_id, MAX_HEARD_SECONDS)
    if plot == MELODY:
        return torch.stack([_of_melody(extract_melody(item, rate), look) for item in waveform])
    return torch.stack([_SOUND[plot](item, rate, look) for item in waveform])


def _of_melody(melody: Melody, look: Look) -> Tensor:
    return melody_plot(melody.chroma, melody.tune.seconds, look)


def _of_tokens(plot: str, tokens: Tokens, look: Look) -> list[Tensor]:
    if plot == CODES:
        return [codes_plot(codes, tokens["card"], tokens["frame_rate"], look) for codes in tokens["codes"]]
    return [pattern_plot(*_pattern(tokens), look)]


def _pattern(tokens: Tokens) -> tuple[str, Callable[[int], Pattern]]:
    """The name of the pattern in which tokens were sampled, and a function that builds it for some frames."""
    recipe, name, channels = tokens["recipe"], tokens["pattern"], tokens["audio_channels"]
    if recipe is None:
        raise ValueError(
            "these tokens were encoded from a recording, so no pattern sampled them; connect tokens from MusicGen "
            "Sample Tokens, or choose another plot."
        )
    delays, trained = recipe["delays"], recipe["trained"]
    if name is not None:
        return name, lambda frames: named_pattern(name, frames, delays, channels)
    config = trained and PatternConfig(**{key: _tupled(value) for key, value in trained.items()})
    own = trained_pattern_name(delays, channels, config) or "delays of the model"
    return own, lambda frames: trained_pattern(frames, delays, config)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
