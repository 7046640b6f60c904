"""T5's tokenizer: read from a `tokenizer.json` or a `spiece.model`, and written as text into a single file."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..environment import imported
from ..free_memory import require_memory

_TABLES = 40
"""Bytes of a tokenizer in memory for each character of its file; 34 were measured with 32,000 pieces."""
_TOKENIZER_FILES = ("tokenizer.json", "spiece.model")


def load_tokenizer(folder: Path) -> Any:
    """The T5 tokenizer of a checkpoint folder: `tokenizer.json`, else `spiece.model`."""
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise FileNotFoundError(
            f"{folder} holds neither {_TOKENIZER_FILES[0]} nor {_TOKENIZER_FILES[1]}; "
            "copy the tokenizer files of the model's repository into it."
        )
    try:
        return _read_tokenizer(folder)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"the tokenizer files in {folder} cannot be read ({error}); fetch them again.") from error


def _read_tokenizer(folder: Path) -> Any:
    path = folder / _TOKENIZER_FILES[0]
    if not path.is_file():
        return SentencePieceTokenizer((folder / _TOKENIZER_FILES[1]).read_bytes())
    data = path.read_bytes()
    return _fast_tokenizer(data.decode(json.detect_encoding(data)))


def _fast_tokenizer(text: str) -> Any:
    (Tokenizer,) = imported("tokenizers", "Tokenizer")
    (PreTrainedTokenizerFast,) = imported("transformers", "PreTrainedTokenizerFast")
    # The package ends the process where it gets no memory for its tables.
    require_memory(_TABLES * len(text), "a tokenizer was loaded")
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
    # Padding and truncation belong to the last call, not to the tokenizer.
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return {"tokenizer": json.dumps({**state, "padding": None, "truncation": None}, ensure_ascii=False)}


def restore_tokenizer(text: Mapping[str, str], where: str | Path) -> Any:
    """The tokenizer that :func:`tokenizer_text` wrote; ValueError naming `where` if it cannot be read."""
    try:
        if "spiece" in text:
            return SentencePieceTokenizer(base64.b64decode(text["spiece"], validate=True))
        return _fast_tokenizer(text["tokenizer"])
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"the tokenizer in {where} cannot be read ({error}); save the model again.") from error


def unknown_parts(tokenizer: Any, text: str) -> list[str]:
    """The parts of a text, in order, that a tokenizer turns into its unknown token.

    A script that its vocabulary does not hold becomes one such token, whatever the words are.
    """
    if isinstance(tokenizer, SentencePieceTokenizer):
        parts = tokenizer.unknown_pieces(text)
    else:
        read = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        pairs = zip(read["input_ids"], read["offset_mapping"], strict=True)
        parts = [text[start:stop] for token, (start, stop) in pairs if token == tokenizer.unk_token_id]
    return [part.strip() for part in parts if part.strip()]


class SentencePieceTokenizer:
    """T5's tokenizer from its `spiece.model` alone; transformers would want protobuf for that."""

    def __init__(self, model: bytes) -> None:
        (SentencePieceProcessor,) = imported("sentencepiece", "SentencePieceProcessor")
        self.model = SentencePieceProcessor(model_proto=model)

    def unknown_pieces(self, text: str) -> list[str]:
        """The pieces of a text that the model does not know, as they are written."""
        pieces: list[str] = self.model.encode(text, out_type=str)
        return [piece for piece in pieces if self.model.piece_to_id(piece) == self.model.unk_id()]

    def __call__(self, texts: Sequence[str], **options: object) -> dict[str, Tensor]:
        """Ids with their end token and the attention mask, both `[B, n]`, padded on the right with id 0."""
        rows = [torch.tensor([*self.model.encode(text), self.model.eos_id()]) for text in texts]
        masks = [torch.ones_like(row) for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        return {"input_ids": pad(rows, batch_first=True), "attention_mask": pad(masks, batch_first=True)}
