"""Descriptions to T5 states. The T5 encoder and its tokenizer come from transformers (Raffel et al. 2020)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..environment import imported, torch_defaults
from .condition import TextCondition
from .tokenizer import unknown_words

logger = logging.getLogger("musicgen")

_NAMED = 8


class TextEncoder(nn.Module):
    """A T5 encoder with its tokenizer. Never run it in float16: T5's activations overflow there."""

    def __init__(self, t5_config: Mapping[str, Any], tokenizer: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"the text encoder's dtype is {dtype}; allowed are float32 and bfloat16 (T5 overflows).")
        T5Config, T5EncoderModel = imported("transformers", "T5Config", "T5EncoderModel")
        self.tokenizer = tokenizer
        self.t5 = T5EncoderModel(T5Config(**t5_config)).to(dtype)

    @property
    def width(self) -> int:
        """Size of a state."""
        return int(self.t5.config.d_model)

    @torch.no_grad()
    @torch_defaults()
    def encode(self, descriptions: Sequence[str | None]) -> TextCondition:
        """Encode a batch; None and texts without any word, such as "", become the null condition.

        Words that the tokenizer does not know are told in the log.

        Returns float32 states `[B, n, C]` on the encoder's device, padded to the longest text.
        """
        if not descriptions:
            raise ValueError("no description was given; give at least one, which may be empty.")
        texts = ["" if text is None or text.isspace() else text for text in descriptions]
        for note in filter(None, map(self.unknown, texts)):
            logger.warning(note)
        # One by one: in a padded batch the rounding of a row would depend on its neighbours.
        rows = [self._encode_one(text) for text in texts]
        states = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([row.shape[0] if text else 0 for row, text in zip(rows, texts, strict=True)])
        # MusicGen was trained with the empty text as the null condition, although T5 gives it an end token.
        mask = torch.arange(states.shape[1]) < lengths[:, None]
        return TextCondition(states, mask.to(states.device))

    def unknown(self, description: str) -> str:
        """Return a sentence naming the words of a description that the tokenizer does not know, or ""."""
        words = unknown_words(self.tokenizer, description)
        if not words:
            return ""
        named = ", ".join(words[:_NAMED]) + (f" and {len(words) - _NAMED} more" if len(words) > _NAMED else "")
        return (
            f"The text encoder does not know these words, so the music will not follow them: {named}. Use other, "
            "English words."
        )

    def _encode_one(self, text: str) -> Tensor:
        tokens = self.tokenizer([text], return_tensors="pt", padding=True)
        device = next(self.t5.parameters()).device
        mask = tokens["attention_mask"].to(device)
        return self.t5(input_ids=tokens["input_ids"].to(device), attention_mask=mask).last_hidden_state[0].float()
