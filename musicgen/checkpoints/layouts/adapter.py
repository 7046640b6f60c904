"""Adapters (LoRA) in the place of a model, recognised so that the loader can say so. They are read in `lora/`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..files.regular import is_there

_CONFIG = "adapter_config.json"
_FILES = (_CONFIG, "adapter_model.safetensors", "adapter_model.bin")
_NAMES = re.compile(r"[._]lora[._]|[._]lora_[AB]|lora_(up|down)|hada_w|lokr_w|\.ia3_")


def is_adapter_folder(folder: Path) -> bool:
    """Whether a folder, or one within it, holds an adapter as PEFT saves it."""
    if not folder.is_dir():
        return False
    inner = [path for path in folder.iterdir() if path.is_dir()]
    return any(is_there(place / name) for place in (folder, *inner) for name in _FILES)


def are_adapter_names(names: Iterable[str]) -> bool:
    """Whether tensors are named like those of an adapter.

    Example:
        >>> are_adapter_names(["base_model.model.decoder.lm_heads.0.lora_A.weight"])
        True
    """
    return any(_NAMES.search(name) for name in names)


def refusal(path: Path) -> ValueError:
    """The error of a loader that was given an adapter."""
    return ValueError(
        f"{path} holds a LoRA (an adapter) and not a model's weights; move it to models/loras and add it to the model "
        "that it was trained on, with MusicGen LoRA Loader or read_lora."
    )
