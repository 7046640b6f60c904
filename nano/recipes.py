"""The sizes and recipes of what is shipped, and of the miniature that only shows that it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from musicgen.config import CodecConfig, LMConfig
from musicgen.training.codec import CodecRecipe

from .lm import LMRecipe
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
    card=256,
)


@dataclass(frozen=True)
class Plan:
    """All numbers of one training, from songs to models."""

    seconds: float
    songs: int
    held_out: int
    judged_songs: int
    judge_every: int
    codec: CodecConfig
    codec_recipe: CodecRecipe
    codec_songs: int
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
    )


_TEXT = TextShape()
NANO = Plan(
    seconds=10.0,
    songs=6000,
    held_out=250,
    judged_songs=16,
    judge_every=500,
    codec=NANO_CODEC,
    codec_recipe=CodecRecipe(),
    codec_songs=3000,
    text=_TEXT,
    lms={
        "text": _lm(128, 4, 4, _TEXT, card=256, melody=False),
        "melody": _lm(128, 4, 4, _TEXT, card=256, melody=True),
    },
    lm_recipes={
        "text": (LMRecipe(steps=6000),),
        "melody": (
            LMRecipe(steps=4500, phases=((0.6, 200, 8), (0.85, 300, 5), (1.0, 500, 3))),
            # Once a model copies well, it hardly listens to its melody: now half of the clips go unread.
            LMRecipe(
                steps=3600,
                phases=((0.7, 150, 9), (0.9, 300, 4), (1.0, 500, 2)),
                learning_rate=2e-3,
                text_first=(0, 0),
                blind=0.5,
                seed=2,
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
    ema=0.9,
)
MINIATURE = Plan(
    seconds=10.0,
    songs=8,
    held_out=4,
    judged_songs=2,
    judge_every=30,
    codec=replace(NANO_CODEC, n_filters=2, dimension=16, card=64),
    codec_recipe=CodecRecipe(steps=60, autoencoder_steps=30, batch=2, frames=25, warmup=5),
    codec_songs=8,
    text=_TINY_TEXT,
    lms={name: _lm(32, 2, 4, _TINY_TEXT, card=64, melody=name == "melody") for name in ("text", "melody")},
    lm_recipes={"text": (_TINY_LM,), "melody": (_TINY_LM, replace(_TINY_LM, steps=20, text_first=(0, 0), seed=2))},
)
