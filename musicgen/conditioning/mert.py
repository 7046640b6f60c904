"""MERT (Li et al. 2024), the feature model of a style condition: HuBERT (Hsu et al. 2021) trained on music.

It runs in transformers' class for HuBERT; only the names and numbers come from MERT's checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..environment import imported


class Mert(nn.Module):
    """MERT as a feature model: sound at 24 kHz to the last states, 75 a second.

    fields: of a transformers `HubertConfig`.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__()
        HubertConfig, HubertModel = imported("transformers", "HubertConfig", "HubertModel")
        self.hubert = HubertModel(HubertConfig(**fields))

    def fold_weight_norm(self) -> None:
        """Turn the one normalised weight into a plain one, once it is loaded."""
        nn.utils.parametrize.remove_parametrizations(self.hubert.encoder.pos_conv_embed.conv, "weight")

    def forward(self, wave: Tensor) -> Tensor:
        """Mono sound `[B, L]` -> states `[B, frames, width]`."""
        # Some versions of transformers draw from the global generator here, in evaluation too.
        with torch.random.fork_rng(devices=[wave.device] if wave.is_cuda else []):
            states: Tensor = self.hubert(wave).last_hidden_state
        return states
