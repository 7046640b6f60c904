"""From modules to a checkpoint: any loaded model becomes one file that loads anywhere, without another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..codec.encodec import EnCodec
from ..conditioning.style import StyleConditioner
from ..conditioning.text import TextEncoder
from ..conditioning.tokenizer import tokenizer_text
from ..config import ModelConfig
from ..free_memory import told_shortage
from ..lm.language_model import LMModel
from ..writing import Numbered
from .layouts import single_file
from .loading import LM_DTYPES


class ModelParts(Protocol):
    """The networks of a model and its configuration, as `Components` and `MusicGen` both hold them."""

    @property
    def config(self) -> ModelConfig:
        """The numbers of the model."""
        ...

    @property
    def lm(self) -> LMModel:
        """The language model."""
        ...

    @property
    def text_encoder(self) -> TextEncoder:
        """T5 and its tokenizer."""
        ...

    @property
    def codec(self) -> EnCodec:
        """The codec."""
        ...

    @property
    def style(self) -> StyleConditioner | None:
        """The style condition of a style model."""
        ...


@told_shortage("a model was saved")
def save_checkpoint(
    model: ModelParts,
    path: str | Path | Numbered,
    dtype: torch.dtype = torch.float32,
    *,
    weights: Mapping[str, Mapping[str, Tensor]] | None = None,
    on_bytes: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a model as one `.safetensors` file, whole or not at all, and return its path.

    Where dtype is the model's own, loading gives back the same bits. A second copy of the model is never held.
    MERT, the feature model of some style models, is not written.

    Args:
        model: the parts of a model, such as a loaded `MusicGen`.
        path: the file to write, in place of one that is there; or a numbered name, whose first free number is taken.
        dtype: of the language model. The text encoder keeps its own, codec and style condition are float32.
        weights: state dicts under `lm`, `text_encoder`, `codec` and `style` to write in place of the modules' own,
            with the same names and shapes.
        on_bytes: called with the bytes written and the bytes in all; an exception from it cancels.

    Raises:
        ValueError: on another dtype or suffix, and when the file cannot be written.
    """
    target = path if isinstance(path, Numbered) else Path(path)
    path = target.path(target.first) if isinstance(target, Numbered) else target
    if dtype not in LM_DTYPES:
        raise ValueError(f"dtype is {dtype}; allowed are float32, bfloat16 and float16.")
    if path.suffix.lower() != single_file.SUFFIX:
        raise ValueError(f"the file is to be named {path.name!r}; allowed are names that end in {single_file.SUFFIX}.")
    own: dict[str, Any] = {"lm": model.lm, "text_encoder": model.text_encoder.t5, "codec": model.codec.model}
    if model.style is not None:
        own["style"] = model.style
    parts = {part: (weights or {}).get(part) or module.state_dict() for part, module in own.items()}
    tensors = single_file.entries(**parts, dtype=dtype)
    try:
        return single_file.write(target, model.config, tokenizer_text(model.text_encoder.tokenizer), tensors, on_bytes)
    except OSError as error:
        raise ValueError(str(error)) from error
