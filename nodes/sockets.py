"""This pack's own sockets: their types and the small objects that they carry.

Handles hold a ComfyUI ModelPatcher, never a bare module, so that the host may move the weights.
Nothing here computes; `inputs.py` checks the values from the sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

from comfy_api.latest import io
from torch import Tensor

from ..musicgen.conditioning.melody import Melody
from ..musicgen.config import ModelConfig

ModelSocket = io.Custom("MUSICGEN_MODEL")
TextEncoderSocket = io.Custom("MUSICGEN_TEXT_ENCODER")
CodecSocket = io.Custom("MUSICGEN_CODEC")
MelodySocket = io.Custom("MUSICGEN_MELODY")
StyleSocket = io.Custom("MUSICGEN_STYLE")
TokensSocket = io.Custom("MUSICGEN_TOKENS")
GuidanceSocket = io.Custom("MUSICGEN_GUIDANCE")
"""Carries `Schedules`: numbers of the sampler that change over time."""
LongFormSocket = io.Custom("MUSICGEN_LONG_FORM")
SongsSocket = io.Custom("MUSICGEN_SONGS")
LoraSocket = io.Custom("LORA_MODEL")
"""Core's own: a dict of a LoRA's tensors by name, which Save LoRA Weights saves."""
LossSocket = io.Custom("LOSS_MAP")
"""Core's own: a dict with the losses of all steps as a list under `loss`, which Plot Loss Graph draws."""
PlayerSocket = io.Custom("AUDIO_UI")
"""The frontend's audio player, a widget that the host fills from a node's output and that sends nothing."""

CATEGORY = "audio/MusicGen"
TEXT_KEY = "musicgen_text"
"""The description in the options of a CONDITIONING, for the recipe of a piece; core nodes that blend two keep one."""
SPAN_KEY = "musicgen_span"
"""The fields of a condition's `Span`, its time in seconds, in the options of a CONDITIONING."""
WEIGHT_KEY = "musicgen_weight"
"""The factor of a condition among those that weighted words make, in the options of a CONDITIONING."""
MAX_SECONDS = 3600.0
"""Longest sound that the nodes make, encode and decode; only the sound itself takes memory by its length."""
MAX_HEARD_SECONDS = 300.0
"""Longest recording that a melody or a style is extracted from; it is analysed as a whole."""


@dataclass(frozen=True)
class StyleHandle:
    """The style conditioner of a style model. fingerprint: identity of its codebooks."""

    patcher: Any
    fingerprint: str


@dataclass(frozen=True)
class ModelHandle:
    """A language model: on MUSICGEN_MODEL. codec: fingerprint of the codec whose codes it samples.

    style: of a style model, else None. parts: text encoder and codec from the same loader.
    weights: fingerprint of the weights as they were loaded. loras: names and strengths of the LoRAs in the patcher.
    """

    patcher: Any
    config: ModelConfig
    codec: str
    name: str
    style: StyleHandle | None = None
    parts: tuple[TextEncoderHandle, CodecHandle] | None = None
    weights: str = ""
    loras: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class TextEncoderHandle:
    """A T5 encoder with its tokenizer: on MUSICGEN_TEXT_ENCODER."""

    patcher: Any
    name: str


@dataclass(frozen=True)
class CodecHandle:
    """An EnCodec model: on MUSICGEN_CODEC. fingerprint: identity of its codebooks."""

    patcher: Any
    fingerprint: str
    name: str


@dataclass(frozen=True)
class MelodyBatch:
    """One melody per batch item: on MUSICGEN_MELODY."""

    items: tuple[Melody, ...]


@dataclass(frozen=True)
class StyleBatch:
    """Style tokens [n, dim] per batch item: on MUSICGEN_STYLE.

    conditioner: fingerprint of the conditioner that made them. model: name of its model.
    """

    items: tuple[Tensor, ...]
    conditioner: str
    model: str


@dataclass(frozen=True)
class LongForm:
    """How a piece of several windows is made: on MUSICGEN_LONG_FORM.

    window, overlap: seconds, None for the model's own. tries, tolerance: of the guard. rests: whether the piece should
    end on the chord of its key. even: whether the decoder holds the level. fade_in, fade_out: seconds.
    """

    window: float | None
    overlap: float | None
    tries: int
    tolerance: float
    rests: bool
    even: bool
    fade_in: float
    fade_out: float


class _MayLoop(TypedDict, total=False):
    loop: bool


class Tokens(_MayLoop):
    """Codes and all that a decoder needs to know about them: on MUSICGEN_TOKENS.

    codes: int64 [B, K, T] on the CPU. codec: fingerprint of the codec they belong to. model: name of
    the model they come from. num_samples: exact length of the sound, None for all of its frames.
    pattern and seed: how they were sampled, None where they were encoded from a recording.
    recipe: how they were made, as JSON: model, LoRAs, description, numbers, pattern.
    loop: whether the end flows into the beginning; num_samples is then within a frame of the codes' length.
    """

    codes: Tensor
    frame_rate: int
    sample_rate: int
    audio_channels: int
    card: int
    codec: str
    model: str
    num_samples: int | None
    pattern: str | None
    seed: int | None
    recipe: dict[str, Any] | None
