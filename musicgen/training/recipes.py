"""The sizes and recipes of what is shipped, and of the miniature that only shows that it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..config import CodecConfig, LMConfig
from .codec import NANO_CODEC, CodecRecipe
from .lm import LMRecipe
from .networks import TextShape


@dataclass(frozen=True)
class Plan:
    """All numbers of one training, from songs to models."""

    seconds: float
    songs: int
    loops: int
    """Songs that repeat their first bar, for the language model only."""
    held_out: int
    judged_songs: int
    judge_every: int
    codec: CodecConfig
    codec_recipe: CodecRecipe
    codec_songs: int
    text: TextShape
    lms: dict[str, LMConfig]
    lm_recipes: dict[str, LMRecipe]


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
    )


_TEXT = TextShape()
NANO = Plan(
    seconds=10.0,
    songs=3500,
    loops=2000,
    held_out=250,
    judged_songs=16,
    judge_every=300,
    codec=NANO_CODEC,
    codec_recipe=CodecRecipe(steps=8000, bfloat16=False),
    codec_songs=2000,
    text=_TEXT,
    lms={
        "text": _lm(128, 4, 4, _TEXT, card=512, melody=False),
        "melody": _lm(128, 4, 4, _TEXT, card=512, melody=True),
    },
    lm_recipes={
        "text": LMRecipe(steps=3500, batch=8, long_from=0.85, loops=(0, 0.8)),
        "melody": LMRecipe(steps=3500, batch=6, long_from=0.85, loops=(0, 0.8)),
    },
)
_TINY_TEXT = TextShape(width=16, layers=1, heads=2, ffn=32)
_TINY_LM = LMRecipe(steps=60, batch=2, frames=(50, 100), warmup=5, learning_rate=5e-3, ema=0.9, bfloat16=False)
MINIATURE = Plan(
    seconds=10.0,
    songs=8,
    loops=8,
    held_out=4,
    judged_songs=2,
    judge_every=30,
    codec=replace(NANO_CODEC, n_filters=2, dimension=16, card=64),
    codec_recipe=CodecRecipe(steps=60, autoencoder_steps=30, batch=2, frames=25, warmup=5, bfloat16=False),
    codec_songs=8,
    text=_TINY_TEXT,
    lms={name: _lm(32, 2, 2, _TINY_TEXT, card=64, melody=name == "melody") for name in ("text", "melody")},
    lm_recipes={"text": _TINY_LM, "melody": _TINY_LM},
)
