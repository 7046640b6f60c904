"""Descriptions to T5 states. The T5 encoder and its tokenizer come from transformers (Raffel et al. 2020)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..environment import imported, torch_defaults
from .condition import TextCondition


class TextEncoder(nn.Module):
    """A T5 encoder with its tokenizer. Never run it in float16: T5's activations overflow there."""

    def __init__(self, t5_config: Mapping[str, Any], tokenizer: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"the text encoder's dtype is {dtype}; allowed are float32 and bfloat16 (T5 overflows).")
        T5Config, T5EncoderModel = imported("transformers", "T5Config", "T5EncoderModel")
        self.tokenizer = tokenizer
        self.t5 = T5EncoderModel(T5Config(**t5_config)).to(dtype)

    def with_weights(self, state: Mapping[str, Tensor]) -> TextEncoder:
        """An encoder with the same tokenizer and these weights of T5, which are taken and not copied."""
        copied = copy.copy(self)
        copied._modules = dict(self._modules)
        with torch.device("meta"):
            copied.t5 = type(self.t5)(self.t5.config)
        copied.t5.load_state_dict(state, strict=True, assign=True)
        # One parameter under two names, so that moving the encoder does not make two of it.
        copied.t5.encoder.embed_tokens.weight = copied.t5.shared.weight
        return copied.eval().requires_grad_(False)

    @property
    def width(self) -> int:
        """Size of a state."""
        return int(self.t5.config.d_model)

    @torch.no_grad()
    @torch_defaults()
    def encode(self, descriptions: Sequence[str | None]) -> TextCondition:
        """Encode a batch; None and "" become the null condition.

        Returns float32 states `[B, n, C]` on the encoder's device, padded to the longest text.
        """
        if not descriptions:
            raise ValueError("no description was given; give at least one, which may be empty.")
        # One by one: in a padded batch the rounding of a row would depend on its neighbours.
        rows = [self._encode_one(text or "") for text in descriptions]
        states = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([row.shape[0] if text else 0 for row, text in zip(rows, descriptions, strict=True)])
        # MusicGen was trained with the empty text as the null condition, although T5 gives it an end token.
        mask = torch.arange(states.shape[1]) < lengths[:, None]
        return TextCondition(states, mask.to(states.device))

    def _encode_one(self, text: str) -> Tensor:
        tokens = self.tokenizer([text], return_tensors="pt", padding=True)
        device = next(self.t5.parameters()).device
        mask = tokens["attention_mask"].to(device)
        return self.t5(input_ids=tokens["input_ids"].to(device), attention_mask=mask).last_hidden_state[0].float()
