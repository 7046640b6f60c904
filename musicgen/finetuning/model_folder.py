"""A trained language model as a folder: the base model's own folder with other weights, or one file.

A base in the layout of Hugging Face gives a folder in the same layout, with the tokenizer, the codec and all settings
of the base, which transformers reads too. Any other base gives the single file that the loader reads.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from ..checkpoints.layouts.huggingface import is_checkpoint, lm_recipes
from ..checkpoints.saving import save_checkpoint
from ..config import ModelConfig
from ..environment import imported
from ..model import MusicGen
from ..writing import UnwritableError, write_file

SINGLE = "model.safetensors"


def save_model(model: MusicGen, base: Path, state: Mapping[str, Tensor], out: Path) -> Path:
    """Write a model with other weights of its language model as a folder, whole or not at all.

    Args:
        model: the base model as it was loaded.
        base: where it was loaded from.
        state: the weights of the language model by our names.
        out: the folder, which must not exist.

    Raises:
        UnwritableError: the folder exists or cannot be written; an OSError whose text is a sentence.
    """
    if out.exists():
        raise UnwritableError(None, f"{out} exists; choose another name.")
    out.parent.mkdir(parents=True, exist_ok=True)
    made = out.parent / f".musicgen-{secrets.token_hex(8)}.model"
    made.mkdir()
    try:
        files = sorted(base.glob("*.safetensors")) if base.is_dir() and is_checkpoint(base) else []
        if files:
            _copy_folder(base, files, _stored(model.config, state), made)
        else:
            save_checkpoint(model, made / SINGLE, weights={"lm": state})
        os.rename(made, out)
        return out
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _stored(config: ModelConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the names of the Hugging Face layout."""
    named: dict[str, Tensor] = {}
    for ours, recipe in lm_recipes(config).items():
        parts = state[ours].chunk(len(recipe.sources))
        named |= dict(zip(recipe.sources, parts, strict=True))
    return named


def _copy_folder(base: Path, files: list[Path], named: dict[str, Tensor], made: Path) -> None:
    load_file, save = imported("safetensors.torch", "load_file", "save")
    for path in base.iterdir():
        if path.is_file() and path.suffix not in (".safetensors", ".bin"):
            shutil.copyfile(path, made / path.name)
    for path in files:
        stored = load_file(path)
        # Each tensor keeps the number format of the base.
        changed = {name: named[name].to(old.dtype).contiguous() for name, old in stored.items() if name in named}
        data = save({**stored, **changed}, metadata={"format": "pt"})
        write_file(made / path.name, partial(_put, data), len(data))


def _put(data: bytes, file: BinaryIO) -> None:
    file.write(data)
