"""The numbers that describe a model and a request, as frozen dataclasses.

Numbers of a model have no defaults: they come from its checkpoint. Numbers of a request
(:class:`GenerationParams`) carry the defaults of the MusicGen paper. Nothing here computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a stack of layers."""

    dim: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    cross_attention: bool
    """True: the text is fused by cross-attention. False: every condition is prepended."""

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
    """False: the text states are used as they are, being as wide as the model."""
    chroma_dim: int | None
    style_dim: int | None

    @property
    def special_token_id(self) -> int:
        """Index of the token that stands where the pattern has no code."""
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
    """Frames of the prefix; shorter melodies are tiled, longer ones cut."""


RELEASED_CHROMA = ChromaConfig(sample_rate=32000, n_fft=16384, hop_length=4096, num_chroma=12, chroma_length=235)
"""The chromagram of every released melody model."""
RELEASED_STRIDE = 0.6
"""The share of their window that MusicGen's models move on by in a long piece."""


@dataclass(frozen=True)
class StyleConfig(TransformerConfig):
    """The style condition (Rouard et al. 2024): a transformer over audio features, quantised and thinned out."""

    features: str
    """What the features are: `mert`, states of MERT, or `encodec`, the codes of an EnCodec model."""
    feature_dim: int
    """Width of a MERT state, or how many codes a codebook has."""
    feature_codebooks: int
    """Codebooks that are read of an EnCodec model; 1 for MERT."""
    sample_rate: int
    """Of the sound that the features are made of."""
    num_codebooks: int
    card: int
    eval_q: int
    """Codebooks that the quantiser uses unless a request names another number: fewer are a vaguer style."""
    stride: int
    """One state in so many becomes a token."""
    excerpt_length: float
    min_excerpt: float
    max_excerpt: float
    """Seconds of sound that the style is heard in: by default, and the range of the training."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything a checkpoint says about itself."""

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
    """Seconds that the windows of a long piece move on by, unless the request says otherwise."""

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
        """K, codebooks of all channels together."""
        return self.lm.num_codebooks

    @property
    def card(self) -> int:
        """Entries in one codebook."""
        return self.lm.card


@dataclass(frozen=True)
class GenerationParams:
    """One request. The defaults are those of Copet et al. 2023, section 4.

    duration: seconds of total output, a prompt included. cfg_coef: guidance, 1 turns it off.
    top_p > 0 takes the place of top_k; top_k 0 keeps every code. use_sampling False or
    temperature 0 takes the likeliest code. seed: item i of a batch draws from seed + i.
    pattern: a name of `patterns.PATTERN_NAMES`; None means the checkpoint's own. window and
    extend_stride, in seconds: pieces longer than the window are sampled window after window,
    each moved on by extend_stride and continuing what the two share; None means the checkpoint's
    own window (30 s for the released models), moved on by the checkpoint's own share of it (3/5).
    cfg_coef_beta: with a style, how much more the description weighs than the style alone (double
    guidance of Rouard et al. 2024, typically 5); None or 1 guides by both together.
    """

    duration: float
    cfg_coef: float = 3.0
    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    use_sampling: bool = True
    seed: int = 0
    pattern: str | None = None
    window: float | None = None
    extend_stride: float | None = None
    cfg_coef_beta: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where a number is not finite or outside its range."""
        for name in ("top_k", "seed"):
            object.__setattr__(self, name, int(getattr(self, name)))
        self._require("duration", 0.0, math.inf, open_low=True, unit=" seconds")
        self._require("cfg_coef", -math.inf, math.inf)
        if self.cfg_coef_beta is not None:
            self._require("cfg_coef_beta", -math.inf, math.inf)
        self._require("temperature", 0.0, math.inf)
        self._require("top_k", 0, math.inf)
        self._require("top_p", 0.0, 1.0)
        for name in ("window", "extend_stride"):
            if getattr(self, name) is not None:
                self._require(name, 0.0, math.inf, open_low=True, unit=" seconds")

    def _require(self, name: str, low: float, high: float, *, open_low: bool = False, unit: str = "") -> None:
        value = getattr(self, name)
        ok = math.isfinite(value) and (low < value if open_low else low <= value) and value <= high
        if not ok:
            bound = f"above {low:g}" if open_low else f"at least {low:g}"
            upper = f" and at most {high:g}" if math.isfinite(high) else ""
            allowed = f"{bound}{upper}" if math.isfinite(low) else "a finite number"
            raise ValueError(f"{name} is {value}; allowed is {allowed}{unit}.")
