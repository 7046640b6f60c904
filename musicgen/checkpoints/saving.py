"""From modules to a checkpoint: any loaded model becomes one file that loads anywhere, without another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..conditioning.tokenizer import tokenizer_text
from ..model import MusicGen
from .layouts import single_file
from .loading import LM_DTYPES, Components


def save_checkpoint(
    model: Components | MusicGen,
    path: str | Path,
    dtype: torch.dtype = torch.float32,
    *,
    weights: Mapping[str, Mapping[str, Tensor]] | None = None,
    on_bytes: Callable[[int, int], None] | None = None,
) -> None:
    """Write a model to `path` as one `.safetensors` file, which replaces one that is there.

    dtype: of the language model. The text encoder keeps its own, codec and style condition are float32; where
    dtype is the model's own, loading gives back the same bits. weights: state dicts under `lm`, `text_encoder`,
    `codec` and `style` to write in place of the modules' own, of the same names and shapes. on_bytes: called
    with bytes written and bytes in all; what it raises cancels. Never holds a second copy of the model. MERT,
    which a style model may hear through, is not written. Raises ValueError on another dtype or suffix, and when
    the file cannot be written.
    """
    path = Path(path)
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
        single_file.write(path, model.config, tokenizer_text(model.text_encoder.tokenizer), tensors, on_bytes)
    except OSError as error:
        size = sum(entry.nbytes for entry in tensors) / 1e9
        raise ValueError(
            f"{path} could not be written ({error.strerror or error}); it takes {size:.1f} GB in a folder "
            "that can be written to."
        ) from error
