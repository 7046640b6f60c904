"""The sizes and recipes of the shipped models, and of the miniature that only shows that it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from musicgen.config import CodecConfig, LMConfig
from musicgen.training.codec import CodecRecipe
from musicgen.training.decoder import DecoderRecipe

from .corpus.genres import TEMPI
from .lm_recipe import LMRecipe
from .networks import TextShape

NANO_CODEC = CodecConfig(
    sample_rate=16000,
    channels=1,
    dimension=64,
    n_filters=8,
    n_residual_layers=1,
    ratios=(5, 4, 4, 4),
    kernel_size=7,
    last_kernel_size=7,
    residual_kernel_size=3,
    dilation_base=2,
    compress=2,
    lstm=1,
    causal=False,
    pad_mode="reflect",
    true_skip=True,
    trim_right_ratio=1.0,
    num_codebooks=4,
    card=512,
)


@dataclass(frozen=True)
class Plan:
    """All numbers of one training, from songs to models."""

    seconds: float
    """Length of a song."""
    window: float
    """Length of music that the models are said to know."""
    songs: int
    steady_songs: int
    held_out: int
    judged_songs: int
    judge_every: int
    codec: CodecConfig
    codec_recipe: CodecRecipe
    decoder_recipe: DecoderRecipe
    codec_songs: int
    codec_begins: Path | None
    """A model folder whose codec the training begins with: one that knows waves already needs some 2,000 steps less."""
    text: TextShape
    lms: dict[str, LMConfig]
    lm_recipes: dict[str, tuple[LMRecipe, ...]]
    """Courses: each begins with the weights that the one before it ended with."""


def _lm(dim: int, layers: int, heads: int, text: TextShape, *, card: int, melody: bool) -> LMConfig:
    return LMConfig(
        dim=dim,
        num_layers=layers,
        num_heads=heads,
        ffn_dim=4 * dim,
        num_codebooks=4,
        card=card,
        cross_attention=not melody,
        text_dim=text.width,
        text_projection=True,
        chroma_dim=12 if melody else None,
        style_dim=None,
        text_length=TEXT_LENGTH if melody else None,
    )


TEXT_LENGTH = 40
"""Rows of the text in a melody model's prefix: the place of a code is then the same behind any caption."""
_TEXT = TextShape()
_PHASES = ((0.5, 300, 6), (0.8, 400, 5), (1.0, 500, 4))
"""Clips in which most loops come back: with clips of 150 frames the heads that copy had nothing to copy, and the later
frames of long clips were no easier than the first."""
_STEADY_WEIGHTS = (1.8, 1.1, 0.6, 0.5)
_STEADY_OPENINGS = ((150, 2.0), (25, 1.5), (4, 3.0))
FEW_TEMPI = (46, 40, 34, 30, 26, 22, 18)
"""Frames of a beat in seven tempi that are a seventh apart: 65 75 88 100 115 136 167 beats per minute."""
_ALL_PATTERNS = (
    ("delay", 0.5),
    ("parallel", 0.1),
    ("partial_delay", 0.1),
    ("flatten", 0.1),
    ("partial_flatten", 0.1),
    ("coarse_first", 0.1),
)
"""Half of the batches keep the model good at its default."""
NANO = Plan(
    seconds=16.0,
    window=10.0,
    songs=3000,
    steady_songs=4000,
    held_out=250,
    judged_songs=16,
    judge_every=500,
    codec=NANO_CODEC,
    codec_recipe=CodecRecipe(steps=7500, learning_rate=3e-3),
    decoder_recipe=DecoderRecipe(stop=2383),
    codec_songs=3000,
    codec_begins=Path(__file__).parents[1] / "models" / "musicgen-nano",
    text=_TEXT,
    lms={
        "text": _lm(128, 4, 4, _TEXT, card=512, melody=False),
        "melody": _lm(128, 4, 4, _TEXT, card=512, melody=True),
    },
    lm_recipes={
        "text": (
            LMRecipe(steps=6000, stop=3600, phases=_PHASES, text_first=(1500, 48)),
            # Long clips, and every pattern: windows of long pieces, and the sampler's choice, are like them.
            LMRecipe(
                steps=5600,
                stop=3500,
                phases=((0.4, 200, 9), (0.7, 350, 5), (1.0, 500, 4)),
                text_first=(0, 0),
                patterns=_ALL_PATTERNS,
                learning_rate=2e-3,
                seed=2,
            ),
            LMRecipe(
                steps=5000,
                stop=1381,
                phases=((0.3, 350, 5), (1.0, 500, 4)),
                text_first=(0, 0),
                patterns=_ALL_PATTERNS,
                learning_rate=2e-3,
                decay=0.5,
                first_weights=(1.6, 1.1, 0.7, 0.6),
                seed=4,
            ),
            LMRecipe(
                steps=2200,
                phases=((1.0, 500, 4),),
                text_first=(0, 0),
                patterns=_ALL_PATTERNS,
                learning_rate=1.8e-3,
                decay=0.8,
                first_weights=(1.5, 1.1, 0.75, 0.65),
                seed=5,
            ),
            # Steady songs: a loop comes back code for code.
            LMRecipe(
                steady=True,
                steps=8000,
                stop=3502,
                phases=((0.45, 300, 6), (0.75, 400, 5), (1.0, 500, 4)),
                text_first=(0, 0),
                learning_rate=2e-3,
                first_weights=_STEADY_WEIGHTS,
                blind=0.3,
                openings=_STEADY_OPENINGS,
                seed=6,
            ),
            # The beat counts twenty times, and is told by the words' tempo alone where nothing is read ...
            LMRecipe(
                steady=True,
                steps=6000,
                phases=((0.5, 200, 9), (0.75, 300, 6), (1.0, 500, 4)),
                text_first=(0, 0),
                learning_rate=2e-3,
                first_weights=_STEADY_WEIGHTS,
                blind=0.35,
                openings=_STEADY_OPENINGS,
                rhythm=20.0,
                seed=7,
            ),
            # ... and where only parts are read.
            LMRecipe(
                steady=True,
                tempi=FEW_TEMPI,
                steps=5000,
                phases=((0.35, 300, 6), (0.7, 400, 5), (1.0, 500, 4)),
                text_first=(0, 0),
                learning_rate=2e-3,
                decay=0.5,
                first_weights=_STEADY_WEIGHTS,
                blind=0.2,
                hidden=0.6,
                openings=_STEADY_OPENINGS,
                rhythm=20.0,
                seed=8,
            ),
        ),
        "melody": (
            LMRecipe(
                steps=3200, phases=_PHASES, text_first=(0, 0), drop_melody=0.1, drop_all=0.1, learning_rate=2e-3, seed=3
            ),
        ),
    },
)
_TINY_TEXT = TextShape(width=16, layers=1, heads=2, ffn=32)
_TINY_LM = LMRecipe(
    steps=60,
    phases=((0.5, 50, 2), (1.0, 100, 2)),
    warmup=5,
    learning_rate=5e-3,
    text_first=(40, 16),
    ema=0.9,
)
MINIATURE = Plan(
    seconds=4.0,
    window=10.0,
    songs=8,
    steady_songs=6,
    held_out=4,
    judged_songs=2,
    judge_every=30,
    codec=replace(NANO_CODEC, n_filters=2, dimension=16, card=64),
    codec_recipe=CodecRecipe(steps=60, autoencoder_steps=30, batch=2, frames=25, warmup=5),
    decoder_recipe=DecoderRecipe(n_filters=4, steps=6, batch=2, frames=25, warmup=5),
    codec_songs=8,
    codec_begins=None,
    text=_TINY_TEXT,
    lms={name: _lm(32, 2, 4, _TINY_TEXT, card=64, melody=name == "melody") for name in ("text", "melody")},
    lm_recipes={
        "text": (
            _TINY_LM,
            replace(_TINY_LM, steps=20, text_first=(0, 0), steady=True, tempi=tuple(TEMPI), rhythm=20.0, hidden=0.6),
        ),
        "melody": (_TINY_LM, replace(_TINY_LM, steps=20, text_first=(0, 0), seed=2)),
    },
)
