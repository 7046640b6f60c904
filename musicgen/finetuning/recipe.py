"""The recipe of a training: every number that decides its result, with the songs and the model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .adapters import ATTENTION, TARGETS

DTYPES = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Recipe:
    """The settings of a training.

    Args:
        steps: of the optimiser.
        learning_rate: the highest; it rises over the warm-up and falls along half a cosine to a tenth.
        warmup: steps of the rise.
        batch: pieces at once.
        accumulate: batches whose gradients make one step.
        seconds: length of the part of a piece that a step learns from, 0 for whole pieces.
        drop_text: share of the pieces that are learned without their caption, so that guidance keeps working.
        drop_melody: share of the pieces that are learned without their melody, by melody models.
        weight_decay: of AdamW.
        clip: longest gradient; longer ones are shortened.
        dtype: number format of the model meanwhile; factors and sums stay in float32.
        recompute: gradient checkpointing: less memory, a third more time.
        judge_every: steps between two looks at the held-out songs, 0 for a tenth of the steps.
        patience: looks without a better loss after which the training ends, 0 to go on to the last step.
        ema: decay of the moving average of the weights that becomes the result; 0 for the weights themselves.
        seed: of every random number.
        rank: of a LoRA.
        alpha: of a LoRA, 0 for its rank.
        targets: the layers that a LoRA changes.
        full: train all weights of the language model in place of a LoRA.
    """

    steps: int = 300
    learning_rate: float = 1e-3
    warmup: int = 20
    batch: int = 4
    accumulate: int = 1
    seconds: float = 0.0
    drop_text: float = 0.1
    drop_melody: float = 0.2
    weight_decay: float = 0.0
    clip: float = 1.0
    dtype: str = "fp32"
    recompute: bool = False
    judge_every: int = 0
    patience: int = 0
    ema: float = 0.0
    seed: int = 0
    rank: int = 16
    alpha: float = 0.0
    targets: str = ATTENTION
    full: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be trained with, each in a sentence."""
        for name, least, most in (
            ("steps", 1, 10_000_000),
            ("warmup", 0, 1_000_000),
            ("batch", 1, 1024),
            ("accumulate", 1, 1024),
            ("judge_every", 0, 10_000_000),
            ("patience", 0, 1000),
            ("rank", 1, 4096),
            ("seed", 0, 2**63 - 1),
        ):
            self._require(name, isinstance(getattr(self, name), int), least, most)
        for name, low, high in (
            ("seconds", 0.0, 3600.0),
            ("drop_text", 0.0, 1.0),
            ("drop_melody", 0.0, 1.0),
            ("weight_decay", 0.0, 1.0),
            ("ema", 0.0, 0.99999),
            ("alpha", 0.0, 1e6),
        ):
            self._require(name, True, low, high)
        rate = self.learning_rate
        if not (_is_number(rate) and 0.0 < rate <= 0.1):
            raise ValueError(f"learning rate is {rate}; allowed is a number above 0 and up to 0.1, such as 0.001.")
        if not (_is_number(self.clip) and self.clip > 0.0):
            raise ValueError(f"clip is {self.clip}; allowed is a number above 0, such as 1.")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}; allowed are {', '.join(DTYPES)}.")
        if self.targets not in TARGETS:
            raise ValueError(f"targets is {self.targets!r}; allowed are {', '.join(TARGETS)}.")

    def _require(self, name: str, right_kind: bool, low: float, high: float) -> None:
        value = getattr(self, name)
        if not (right_kind and _is_number(value) and low <= value <= high):
            raise ValueError(f"{name} is {value}; allowed is {low:g} to {high:g}.")

    @property
    def scale(self) -> float:
        """alpha, or the rank in its place."""
        return self.alpha or float(self.rank)

    @property
    def interval(self) -> int:
        """Steps between two looks at the held-out songs."""
        return self.judge_every or max(1, math.ceil(self.steps / 10))

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0.

        >>> recipe = Recipe(steps=100, warmup=10, learning_rate=1e-3)
        >>> [round(recipe.rate(step), 6) for step in (0, 9, 55, 100)]
        [0.0001, 0.001, 0.00055, 0.0001]
        """
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0))))

    def settings(self) -> dict[str, Any]:
        """The recipe as JSON and checkpoints hold it."""
        return asdict(self)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
