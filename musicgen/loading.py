"""From a checkpoint to modules: built without memory, filled tensor by tensor, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoints import huggingface
from .checkpoints.tensors import Recipe, StoredTensors, check_tensors
from .codec import EnCodec
from .conditioning.text import TextEncoder, load_tokenizer
from .config import ModelConfig
from .lm import LMModel

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
    """Load the model folder `path` in the Hugging Face layout (text, melody or stereo).

    dtype: of the language model. text_dtype: of T5, float32 or bfloat16. The codec is always
    float32. operations: where the language model's leaves come from. Every stored tensor must be
    known and every wanted one present and of the right shape. Raises FileNotFoundError and
    ValueError saying what is wrong with which file.
    """
    folder = Path(path)
    if dtype not in LM_DTYPES:
        raise ValueError(f"dtype is {dtype}; allowed are float32, bfloat16 and float16.")
    config = huggingface.read_config(folder)
    tokenizer = load_tokenizer(folder)
    with torch.device("meta"):
        lm = LMModel(config.lm, operations, device="meta", dtype=dtype)
        text_encoder = TextEncoder(config.text_encoder, tokenizer, text_dtype)
        codec = EnCodec(config.codec, config.audio_channels)
    with StoredTensors(folder) as stored:
        shapes = stored.shapes()
        # T5 stores its embedding once and uses it under two names.
        text_names = text_encoder.t5.state_dict().keys() - {"encoder.embed_tokens.weight"}
        parts = [
            (lm, huggingface.lm_recipes(config)),
            (text_encoder.t5, huggingface.text_recipes(text_names)),
            (codec.model, huggingface.codec_recipes(codec.model.state_dict(), shapes)),
        ]
        wanted = [(recipe, m.state_dict()[name].shape) for m, recipes in parts for name, recipe in recipes.items()]
        check_tensors(folder, shapes, wanted, huggingface.ignored_names(shapes))
        for module, recipes in parts:
            _fill(module, recipes, stored, device)
    _share_embedding(text_encoder)
    _settle_codebooks(codec, device)
    for module in (lm, text_encoder, codec):
        _require_filled(folder, module)
        module.eval().requires_grad_(False)
    return Components(config, lm, text_encoder, codec)


def _fill(module: nn.Module, recipes: Mapping[str, Recipe], stored: StoredTensors, device: torch.device | str) -> None:
    """Give each parameter memory and fill it, one after the other: there is never a second copy of the model."""
    expected: dict[str, Tensor] = module.state_dict()
    for name, recipe in recipes.items():
        out = torch.empty(expected[name].shape, dtype=expected[name].dtype, device=device)
        stored.make(recipe, out)
        _assign(module, name, out)


def _assign(module: nn.Module, name: str, value: Tensor) -> None:
    *path, leaf = name.split(".")
    owner = module.get_submodule(".".join(path))
    if leaf in owner._buffers:
        owner._buffers[leaf] = value
    else:
        setattr(owner, leaf, nn.Parameter(value, requires_grad=False))


def _share_embedding(text_encoder: TextEncoder) -> None:
    t5 = text_encoder.t5
    t5.encoder.embed_tokens.weight = t5.shared.weight


def _settle_codebooks(codec: EnCodec, device: torch.device | str) -> None:
    """The codebooks' training state, which inference never reads, takes no memory worth naming."""
    for layer in codec.model.quantizer.vq.layers:
        codebook = layer._codebook
        codebook.inited = torch.ones(1, device=device)
        codebook.cluster_size = torch.ones(1, device=device).expand(codec.config.card)
        codebook.embed_avg = codebook.embed


def _require_filled(folder: Path, module: nn.Module) -> None:
    empty = [name for name, tensor in module.state_dict().items() if tensor.is_meta]
    if empty:
        raise ValueError(f"{folder}: {len(empty)} parameters were not filled, first {', '.join(empty[:5])}.")
