"""Descriptions to T5 states. The T5 encoder and its tokenizer come from transformers (Raffel et al. 2020)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .condition import TextCondition

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model")


class TextEncoder(nn.Module):
    """A T5 encoder with its tokenizer. Never run it in float16: T5's activations overflow there."""

    def __init__(self, t5_config: Mapping[str, Any], tokenizer: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"the text encoder's dtype is {dtype}; allowed are float32 and bfloat16 (T5 overflows).")
        from transformers import T5Config, T5EncoderModel

        self.tokenizer = tokenizer
        self.t5 = T5EncoderModel(T5Config(**t5_config)).to(dtype)

    @property
    def width(self) -> int:
        """Size of a state."""
        return int(self.t5.config.d_model)

    @torch.no_grad()
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


def load_tokenizer(folder: Path) -> Any:
    """The T5 tokenizer of a checkpoint folder: `tokenizer.json`, else `spiece.model`."""
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise FileNotFoundError(
            f"{folder} holds neither {_TOKENIZER_FILES[0]} nor {_TOKENIZER_FILES[1]}; "
            "copy the tokenizer files of the model's repository into it."
        )
    try:
        return _read_tokenizer(folder)
    except Exception as error:
        raise ValueError(f"the tokenizer files in {folder} cannot be read ({error}); fetch them again.") from error


def _read_tokenizer(folder: Path) -> Any:
    path = folder / _TOKENIZER_FILES[0]
    if not path.is_file():
        return SentencePieceTokenizer((folder / _TOKENIZER_FILES[1]).read_bytes())
    return _fast_tokenizer(path.read_text(encoding="utf-8"))


def _fast_tokenizer(text: str) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    # The file as it stands. T5's own class reads tokenizer_config.json as well, whose form changes between
    # versions of transformers, and newer ones put their own normalizer in place of the file's.
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(text),
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="right",
    )


def tokenizer_text(tokenizer: Any) -> dict[str, str]:
    """A tokenizer as text: a tokenizer.json under `tokenizer`, or a spiece.model in base64 under `spiece`."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        return {"spiece": base64.b64encode(tokenizer.model.serialized_model_proto()).decode()}
    # Padding and truncation are what the last call asked for, not a part of the tokenizer.
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return {"tokenizer": json.dumps({**state, "padding": None, "truncation": None}, ensure_ascii=False)}


def restore_tokenizer(text: Mapping[str, str], where: str | Path) -> Any:
    """The tokenizer that :func:`tokenizer_text` wrote; ValueError naming `where` if it cannot be read."""
    try:
        if "spiece" in text:
            return SentencePieceTokenizer(base64.b64decode(text["spiece"], validate=True))
        return _fast_tokenizer(text["tokenizer"])
    except Exception as error:
        raise ValueError(f"the tokenizer in {where} cannot be read ({error}); save the model again.") from error


class SentencePieceTokenizer:
    """T5's tokenizer from its `spiece.model` alone; transformers would want protobuf for that."""

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self.model = SentencePieceProcessor(model_proto=model)

    def __call__(self, texts: Sequence[str], **options: object) -> dict[str, Tensor]:
        """Ids with their end token and the attention mask, both `[B, n]`, padded on the right with id 0."""
        rows = [torch.tensor([*self.model.encode(text), self.model.eos_id()]) for text in texts]
        masks = [torch.ones_like(row) for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        return {"input_ids": pad(rows, batch_first=True), "attention_mask": pad(masks, batch_first=True)}
