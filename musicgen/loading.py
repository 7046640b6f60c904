"""From a checkpoint to modules: built without memory, filled tensor by tensor, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoints import huggingface, single_file
from .checkpoints.tensors import Recipe, StoredTensors, check_tensors
from .codec import EnCodec
from .conditioning.text import TextEncoder, load_tokenizer, restore_tokenizer
from .config import ModelConfig
from .lm import LMModel

_T5_FIRST_NAME, _T5_SECOND_NAME = "shared.weight", "encoder.embed_tokens.weight"
LM_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Components:
    """The three networks of a model and its configuration."""

    config: ModelConfig
    lm: LMModel
    text_encoder: TextEncoder
    codec: EnCodec


def load_components(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    text_dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    operations: Any = nn,
) -> Components:
    """Load a text, melody or stereo model: a folder in the Hugging Face layout, or a single file.

    dtype: of the language model. text_dtype: of T5, float32 or bfloat16. The codec is always
    float32. operations: where the language model's leaves come from. Every stored tensor must be
    known and every wanted one present and of the right shape. Raises FileNotFoundError and
    ValueError saying what is wrong with which file.
    """
    path = Path(path)
    if dtype not in LM_DTYPES:
        raise ValueError(f"dtype is {dtype}; allowed are float32, bfloat16 and float16.")
    single = single_file.is_checkpoint(path)
    layout: Any = single_file if single else huggingface
    layout.read_config(path)  # before the weights: its errors tell more than theirs
    tokenizer = restore_tokenizer(single_file.read_tokenizer(path), path) if single else load_tokenizer(path)
    with StoredTensors(path) as stored:
        found = stored.shapes()
        config = layout.read_config(path, found)
        plan, lm, text_encoder, codec = _build(config, path, tokenizer, dtype, text_dtype, operations)
        shapes = {"lm": plan.state_dict(), "text": text_encoder.t5.state_dict(), "codec": codec.model.state_dict()}
        recipes = {
            "lm": single_file.lm_recipes(shapes["lm"]) if single else huggingface.lm_recipes(config),
            "text": layout.text_recipes(shapes["text"], found),
            "codec": layout.codec_recipes(shapes["codec"], found),
        }
        wanted = [(recipe, shapes[part][name].shape) for part in recipes for name, recipe in recipes[part].items()]
        check_tensors(path, found, wanted, layout.ignored_names(found))
        filled = {part: _read(recipes[part], shapes[part], stored, device) for part in recipes}
    # T5 uses one embedding under two names.
    filled["text"][_T5_SECOND_NAME] = filled["text"][_T5_FIRST_NAME]
    _add_training_state(filled["codec"], shapes["codec"], device)
    for module, part in ((lm, "lm"), (text_encoder.t5, "text"), (codec.model, "codec")):
        module.load_state_dict(filled[part], strict=True, assign=True)
        module.eval().requires_grad_(False)
    # One parameter, so that moving the encoder does not make two of it.
    text_encoder.t5.encoder.embed_tokens.weight = text_encoder.t5.shared.weight
    return Components(config, lm, text_encoder, codec)


def _build(
    config: ModelConfig, path: Path, tokenizer: Any, dtype: torch.dtype, text_dtype: torch.dtype, operations: Any
) -> tuple[LMModel, LMModel, TextEncoder, EnCodec]:
    """The modules, without memory. The first is the language model in plain layers, to read shapes off: the
    host's layers may have no parameters before they are loaded."""
    try:
        with torch.device("meta"):
            plan = LMModel(config.lm, nn, device="meta", dtype=dtype)
            lm = LMModel(config.lm, operations, device="meta", dtype=dtype)
            text_encoder = TextEncoder(config.text_encoder, tokenizer, text_dtype)
            codec = EnCodec(config.codec, config.audio_channels)
    except Exception as error:
        reason = f"{type(error).__name__} {error}".splitlines()[0]
        where = path if path.is_file() else path / huggingface.CONFIG_FILE
        raise ValueError(f"{where} describes no model that can be built: {reason}.") from error
    return plan, lm, text_encoder, codec


def _read(
    recipes: Mapping[str, Recipe], shapes: Mapping[str, Tensor], stored: StoredTensors, device: torch.device | str
) -> dict[str, Tensor]:
    """Make each parameter, one after the other: there is never a second copy of the model."""
    made = {}
    for name, recipe in recipes.items():
        made[name] = torch.empty(shapes[name].shape, dtype=shapes[name].dtype, device=device)
        stored.make(recipe, made[name])
    return made


def _add_training_state(made: dict[str, Tensor], shapes: Mapping[str, Tensor], device: torch.device | str) -> None:
    """What only training the codebooks reads; the package's modules have a place for it."""
    for name in shapes.keys() - made.keys():
        is_average = name.endswith("embed_avg")
        made[name] = made[name.removesuffix("_avg")] if is_average else torch.ones(shapes[name].shape, device=device)
