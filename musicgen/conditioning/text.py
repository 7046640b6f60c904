"""Descriptions to T5 states. The T5 encoder and its tokenizer come from transformers (Raffel et al. 2020)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..environment import imported, torch_defaults
from ..free_memory import told_shortage
from .condition import TextCondition
from .tokenizer import unknown_parts

logger = logging.getLogger("musicgen")

_MOST_NAMED, _LONGEST = 5, 60


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
    @told_shortage("descriptions were encoded")
    @torch_defaults()
    def encode(self, descriptions: Sequence[str | None]) -> TextCondition:
        """Encode a batch; None and a text of white space alone become the null condition.

        Returns float32 states `[B, n, C]` on the encoder's device, padded to the longest text. Words that the
        tokenizer does not know are reported in the log; see :meth:`warnings`.
        """
        if not descriptions:
            raise ValueError("no description was given; give at least one, which may be empty.")
        # One by one: in a padded batch the rounding of a row would depend on its neighbours.
        for warning in self.warnings(descriptions):
            logger.warning(warning)
        texts = ["" if text is None or _is_blank(text) else text for text in descriptions]
        rows = [self._encode_one(text) for text in texts]
        states = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([row.shape[0] if text else 0 for row, text in zip(rows, texts, strict=True)])
        # MusicGen was trained with the empty text as the null condition, although T5 gives it an end token.
        mask = torch.arange(states.shape[1]) < lengths[:, None]
        return TextCondition(states, mask.to(states.device))

    def warnings(self, descriptions: Sequence[str | None]) -> list[str]:
        """Sentences for the user about descriptions that the tokenizer cannot read, wholly or in part; none if it can.

        Single signs that it does not know, such as an emoji beside words, are passed over.
        """
        found = (self._warning(text) for text in dict.fromkeys(descriptions) if text and not _is_blank(text))
        return [warning for warning in found if warning]

    def _warning(self, text: str) -> str | None:
        parts = unknown_parts(self.tokenizer, text)
        rest = text
        for part in parts:
            rest = rest.replace(part, "", 1)
        letters = [part for part in parts if any(sign.isalnum() for sign in part)]
        words = [word for word in dict.fromkeys(text.split()) if any(part in word for part in letters)]
        if not parts or (not words and any(sign.isalnum() for sign in rest)):
            return None
        if not any(sign.isalnum() for sign in rest):
            return (
                f"the text encoder cannot read the description {_shortened(text)}: its tokenizer knows none of it, so "
                "every such description gives the same music; describe the music in English."
            )
        listed = ", ".join(_shortened(word) for word in words[:_MOST_NAMED])
        more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
        return (
            f"the text encoder cannot read {listed}{more} in the description {_shortened(text)}, which its tokenizer "
            "does not know; use other words, in English."
        )

    def _encode_one(self, text: str) -> Tensor:
        tokens = self.tokenizer([text], return_tensors="pt", padding=True)
        device = next(self.t5.parameters()).device
        mask = tokens["attention_mask"].to(device)
        return self.t5(input_ids=tokens["input_ids"].to(device), attention_mask=mask).last_hidden_state[0].float()


def _is_blank(text: str) -> bool:
    """Whether a text has nothing but white space and invisible signs."""
    return not any(sign.isprintable() and not sign.isspace() for sign in text)


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
