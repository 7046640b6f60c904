"""The numbers of one request, checked when they are set. This module computes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class GenerationParams:
    """The numbers of one request. The defaults are those of Copet et al. 2023, section 4.

    Attributes:
        duration: length of the output in seconds, including a prompt.
        cfg_coef: strength of classifier-free guidance; 1 turns it off.
        temperature: divides the logits; 0 takes the likeliest code.
        top_k: draw from the k likeliest codes; 0 keeps every code.
        top_p: draw from the likeliest codes up to this share, 0 to 1; above 0 it replaces top_k.
        use_sampling: False takes the likeliest code.
        seed: item i of a batch draws from seed + i.
        pattern: one of `PATTERN_NAMES`; None for the checkpoint's own.
        window: seconds sampled at a time; a longer piece is sampled window after window. None for
            the checkpoint's own, 30 s for the released models.
        extend_stride: seconds from the start of one window to the start of the next, which continues
            the part that both share. None for the checkpoint's own share of the window, 3/5.
        cfg_coef_beta: with a style, how much more the description weighs than the style alone, in
            the double guidance of Rouard et al. 2024 (typically 5); None or 1 guides by both at once.
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
        """Raise ValueError if a number is not finite or out of its range."""
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
