"""The numbers that describe a model, as frozen dataclasses.

They have no defaults, because they come from a checkpoint. This module computes nothing more than
rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a stack of layers."""

    dim: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    cross_attention: bool
    """True if the text is fused by cross-attention, False if every condition is prepended."""
    max_period: float = field(default=10000.0, kw_only=True)
    """The longest wavelength of the sinusoidal positions, in units of 2 pi positions."""
    positional_scale: float = field(default=1.0, kw_only=True)
    """Factor of the sinusoidal positions."""

    def __post_init__(self) -> None:
        if self.dim % self.num_heads or self.dim % 2:
            raise ValueError(
                f"a transformer's width {self.dim} must be even and divisible by its {self.num_heads} attention heads; "
                "the checkpoint's configuration is damaged."
            )


@dataclass(frozen=True)
class LMConfig(TransformerConfig):
    """Shape of the language model over EnCodec codes."""

    num_codebooks: int
    card: int
    text_dim: int
    text_projection: bool
    """False if the text states are as wide as the model and are used without a projection."""
    chroma_dim: int | None
    style_dim: int | None
    text_length: int | None = None
    """Rows that a prepended text always takes: a longer one is cut, and zeros follow a shorter one, as transformers
    makes them of a text that is padded to `max_length`. None: as many as the text has tokens."""
    chroma_projection: bool = True
    """False if the chroma is as wide as the model and is used without a projection."""

    @property
    def special_token_id(self) -> int:
        """Index of the token in cells where the pattern has no code."""
        return self.card


@dataclass(frozen=True)
class CodecConfig:
    """Shape of the EnCodec model (Defossez et al. 2022), in the words of the `encodec` package."""

    sample_rate: int
    channels: int
    dimension: int
    n_filters: int
    n_residual_layers: int
    ratios: tuple[int, ...]
    kernel_size: int
    last_kernel_size: int
    residual_kernel_size: int
    dilation_base: int
    compress: int
    lstm: int
    causal: bool
    pad_mode: str
    true_skip: bool
    trim_right_ratio: float
    num_codebooks: int
    card: int

    @property
    def hop_length(self) -> int:
        """Audio samples per frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> int:
        """Frames per second."""
        return math.ceil(self.sample_rate / self.hop_length)


@dataclass(frozen=True)
class ChromaConfig:
    """The melody condition: a one-hot chromagram (section 3.3 of the MusicGen paper)."""

    sample_rate: int
    n_fft: int
    hop_length: int
    num_chroma: int
    chroma_length: int
    """Frames in the prefix; shorter melodies are repeated, longer ones cut."""
    win_length: int | None = None
    """Samples that the window of a frame covers, at most n_fft; None: n_fft."""
    one_hot: bool = True
    """True if only the loudest pitch class of a frame counts."""
    norm: float | None = None
    """Order of the norm that each frame is divided by; None: that of the largest entry."""


RELEASED_CHROMA = ChromaConfig(sample_rate=32000, n_fft=16384, hop_length=4096, num_chroma=12, chroma_length=235)
"""The settings that every released melody model uses."""
RELEASED_STRIDE = 0.6
"""extend_stride of the released models, as a share of their window."""


@dataclass(frozen=True)
class StyleConfig(TransformerConfig):
    """The style condition (Rouard et al. 2024): a transformer over audio features, quantised and thinned out."""

    features: str
    """The kind of features: `mert` for states of MERT, `encodec` for codes of an EnCodec model."""
    feature_dim: int
    """Width of a MERT state, or the number of entries in one EnCodec codebook."""
    feature_codebooks: int
    """Number of EnCodec codebooks to read; 1 for MERT."""
    sample_rate: int
    """Sample rate of the audio that the features are computed from."""
    num_codebooks: int
    card: int
    eval_q: int
    """Number of codebooks that the quantiser uses by default; fewer make the style vaguer."""
    stride: int
    """One token is made for every `stride` states."""
    excerpt_length: float
    min_excerpt: float
    max_excerpt: float
    """Seconds of audio that a style is taken from; the other two fields are the range used in training."""


@dataclass(frozen=True)
class PatternConfig:
    """The codebook pattern that a checkpoint was trained with, where its delays alone do not tell it.

    Args:
        kind: `delay`, `unroll`, `coarse_first` or `music_lm`, as audiocraft names them.
        delays: one per codebook for `delay` and `unroll`, one per codebook after the first for `coarse_first`.
        flattening: of `unroll`, the inner column of each codebook.
        flatten_first: of `delay`, the frames at the start that are flattened.
        empty_initial: of `delay`, the empty columns after column 0.
        group_by: of `music_lm`, the codebooks in a group.
    """

    kind: str
    delays: tuple[int, ...] = ()
    flattening: tuple[int, ...] = ()
    flatten_first: int = 0
    empty_initial: int = 0
    group_by: int = 2


@dataclass(frozen=True)
class ModelConfig:
    """All numbers of a checkpoint."""

    name: str
    lm: LMConfig
    codec: CodecConfig
    text_encoder: Mapping[str, Any]
    """Fields of a transformers `T5Config`."""
    chroma: ChromaConfig | None
    style: StyleConfig | None
    audio_channels: int
    """1, or 2 for stereo models, whose codebooks alternate left and right."""
    delays: tuple[int, ...]
    """The delay pattern that the checkpoint was trained with, one number per codebook."""
    window: float
    """Seconds of music that the model was trained on at a time."""
    extend_stride: float
    """Seconds from one window of a long piece to the next, unless the request names another number."""
    patterns: tuple[str, ...] = ()
    """Codebook patterns that the checkpoint was trained on beside its own, by their names."""
    pattern: PatternConfig | None = None
    """The pattern that the checkpoint was trained with; None is that of its delays."""

    @property
    def sample_rate(self) -> int:
        """Samples per second of the decoded audio."""
        return self.codec.sample_rate

    @property
    def frame_rate(self) -> int:
        """Frames of codes per second."""
        return self.codec.frame_rate

    @property
    def num_codebooks(self) -> int:
        """K, the number of codebooks of all channels together."""
        return self.lm.num_codebooks

    @property
    def card(self) -> int:
        """Entries in one codebook."""
        return self.lm.card
