"""A LoRA on disk as PEFT keeps it: a folder with the factors, their configuration, and a page about their origin.

The facts of the training stand in the header of the safetensors file too, so that they stay with it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ..environment import imported
from ..lora.names import PEFT_CONFIG, PEFT_FILES
from ..writing import Numbered, UnwritableError, write_file
from .adapters import PREFIX, TARGETS, TrainedLora

PAGE = "README.md"
_FACTS = ("caption", "base_model", "base_weights", "base_licence", "dataset", "recipe")
_META, _RELEASED = "cc-by-nc-4.0", r"facebook/|musicgen-(stereo-|style|melody|small|medium|large)|audiogen"
_OWN, _BUNDLED = "mit", r"musicgen-nano"


def licence_of(name: str) -> str:
    """Return the licence of a model's weights by its name, `unknown` where the name does not tell it.

    >>> licence_of("facebook/musicgen-small"), licence_of("bundled/musicgen-nano"), licence_of("mine")
    ('cc-by-nc-4.0', 'mit', 'unknown')
    """
    if re.search(_BUNDLED, name):
        return _OWN
    return _META if re.search(_RELEASED, name) else "unknown"


def save_adapter(lora: TrainedLora, target: Path | Numbered) -> Path:
    """Write a LoRA as PEFT's folder, whole or not at all, and return the folder.

    Args:
        lora: the factors and the facts about them.
        target: the folder, which must not exist, or a numbered name, whose first free number is taken.

    Raises:
        UnwritableError: the folder exists or cannot be written; an OSError whose text is a sentence.
    """
    folder = (target.path(target.first) if isinstance(target, Numbered) else target).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f".musicgen-{secrets.token_hex(8)}.lora"
        made.mkdir()
    except OSError as error:
        raise UnwritableError(
            error.errno, f"{folder} cannot hold a LoRA ({error.strerror or error}); choose another folder."
        ) from error
    try:
        (save,) = imported("safetensors.torch", "save")
        data = save(lora.factors(), metadata=_header(lora))
        files = {PEFT_FILES[0]: data, PEFT_CONFIG: _config(lora), PAGE: _page(lora)}
        for name, content in files.items():
            write_file(made / name, partial(_put, content), len(content))
        return _take(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _take(made: Path, target: Path | Numbered) -> Path:
    """Let a whole folder take its name; a folder that is there with files in it keeps its own."""
    number = target.first if isinstance(target, Numbered) else 0
    while True:
        path = target.path(number) if isinstance(target, Numbered) else target
        if not path.exists():
            try:
                os.rename(made, path)
                return path
            except OSError:
                if not path.exists():
                    raise
        if not isinstance(target, Numbered):
            raise UnwritableError(None, f"{path} exists; choose another name.")
        number += 1


def _header(lora: TrainedLora) -> dict[str, str]:
    """The facts as safetensors keeps them: texts by name."""
    facts = {name: lora.about[name] for name in _FACTS if name in lora.about}
    texts = {name: each if isinstance(each, str) else json.dumps(each) for name, each in facts.items()}
    return {"format": "pt", **texts}


def _config(lora: TrainedLora) -> bytes:
    """PEFT's configuration; fields that are left out have its own defaults."""
    modules = {name.removeprefix(PREFIX).split(".lora_")[0].rpartition(".")[2] for name in lora.factors()}
    values: dict[str, Any] = {
        "peft_type": "LORA",
        "base_model_name_or_path": lora.about.get("base_model"),
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "target_modules": [name for name in TARGETS["all linear"] if name in modules],
        "task_type": None,
        "use_dora": False,
        "use_rslora": False,
    }
    return (json.dumps(values, indent=2) + "\n").encode()


def _page(lora: TrainedLora) -> bytes:
    """The model card."""
    about: Mapping[str, Any] = lora.about
    licence, base = about.get("base_licence", "unknown"), about.get("base_model", "unknown")
    lines = [
        "---",
        "library_name: peft",
        f"license: {licence if licence != 'unknown' else 'other'}",
        f"base_model: {json.dumps(base)}",
        "tags: [musicgen, lora]",
        "---",
        f"# {lora.name}",
        "",
        f"A LoRA of rank {lora.rank} and alpha {lora.alpha:g} for {base}, trained on the songs of {lora.name}.",
        "",
        f"- **Caption**: {about.get('caption', '')}",
        f"- **Licence of the base model**: {licence}. It binds this LoRA and its music as it binds the model.",
        f"- **Recipe**: `{json.dumps(about.get('recipe', {}))}`",
        f"- **Result**: {about.get('result', '')}",
    ]
    return ("\n".join(lines) + "\n").encode()
