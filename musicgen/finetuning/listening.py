"""Two sounds of one seed and one description in the midst of a training: without the LoRA, and with it so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..codec.encodec import EnCodec
from ..conditioning.condition import TextCondition
from ..config import ModelConfig
from ..generation.generate import generate
from ..generation.params import GenerationParams
from ..generation.request import Request
from .adapters import AdaptedLM

LENGTH = 8.0
"""Seconds of a sound, at most the model's window."""


@dataclass
class Listener:
    """Makes the sounds.

    Args:
        adapted: the model in training.
        config: its numbers.
        codec: decodes the codes.
        states: of the description, `[n, C]`.
        device: where the model is.
        seed: of both sounds.
        cfg_coef: guidance of both sounds.
    """

    adapted: AdaptedLM
    config: ModelConfig
    codec: EnCodec
    states: Tensor
    device: torch.device
    seed: int = 0
    cfg_coef: float = 3.0
    _without: Tensor | None = None

    def __call__(self) -> tuple[list[Tensor], int]:
        """Return the sounds `[C, L]` without and with the LoRA, and their sample rate."""
        if self._without is None:
            self.adapted.set_strength(0.0)
            try:
                self._without = self._sound()
            finally:
                self.adapted.set_strength(1.0)
        return [self._without, self._sound()], self.config.sample_rate

    @torch.no_grad()
    def _sound(self) -> Tensor:
        states = self.states if len(self.states) else self.states.new_zeros(1, self.config.lm.text_dim)
        mask = torch.full((1, len(states)), bool(len(self.states)))
        params = GenerationParams(min(LENGTH, self.config.window), self.cfg_coef, seed=self.seed)
        request = Request(params=params, positive=[TextCondition(states[None], mask)], batch_size=1)
        codes = generate(
            self.adapted.lm,
            self.config,
            request,
            device=self.device,
            use_cuda_graphs=False,
            use_compiled_steps=False,
        )
        return self.codec.decode(codes)[0].float().cpu()
