"""Models of the released shapes with random weights, as fast as the real ones, and a text condition for them.

The weights are one block of normal numbers, laid out over and over, since drawing billions of numbers would
take longer than the measurement. `nano` is the shape of the bundled model.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from measuring import ROOT
from torch import Tensor, nn

from musicgen.checkpoints.layouts.huggingface import read_config
from musicgen.codec.encodec import EnCodec
from musicgen.conditioning.condition import TextCondition
from musicgen.config import CodecConfig, LMConfig, ModelConfig
from musicgen.lm.cpu_linear import matrices, quick_operations
from musicgen.lm.language_model import LMModel
from musicgen.lm.large_pages import LargePages

SIZES = {"small": (1024, 24), "medium": (1536, 48), "large": (2048, 48)}
NAMES = ("nano", *SIZES)
_CODEC = CodecConfig(32000, 1, 128, 64, 1, (8, 5, 4, 4), 7, 7, 3, 2, 2, 2, False, "reflect", True, 1.0, 4, 2048)
_BLOCK = 1 << 22


def released_config(size: str) -> ModelConfig:
    """Return the numbers of a text model, one of NAMES."""
    if size == "nano":
        return read_config(ROOT / "models" / "musicgen-nano")
    dim, layers = SIZES[size]
    lm = LMConfig(dim, layers, dim // 64, 4 * dim, True, 4, 2048, 768, True, None, None)
    return ModelConfig(size, lm, _CODEC, {}, None, None, 1, (0, 1, 2, 3), 30.0, 18.0)


def random_lm(
    size: str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
    *,
    fp16_exact: bool = True,
    operations: Any = nn,
) -> tuple[LMModel, ModelConfig]:
    """Build a language model with random weights.

    Args:
        size: one of NAMES.
        dtype: dtype of the weights.
        device: where to put the weights.
        seed: seed of the weights.
        fp16_exact: round the weights to float16, as in the released files.
        operations: the source of Linear, LayerNorm and Embedding.
    """
    config = released_config(size)
    with torch.device("meta"):
        lm = LMModel(config.lm, operations, dtype=dtype)
    return _filled(lm, device, seed, fp16_exact), config


def random_weights(size: str) -> dict[str, Tensor]:
    """Return a language model's weights by name, in float32 but exact in float16."""
    return random_lm(size)[0].state_dict()


def build_lm(
    size: str, weights: dict[str, Tensor], dtype: torch.dtype | None, device: torch.device | str = "cpu"
) -> LMModel:
    """Build a language model from weights, as `load_model` does for this dtype."""
    computed = torch.float32 if dtype in (None, torch.int8) else dtype
    with torch.device("meta"):
        lm = LMModel(released_config(size).lm, quick_operations(nn, int8=dtype == torch.int8), dtype=computed)
    on_cpu = torch.device(device).type == "cpu"
    narrow = matrices(lm) if dtype in (None, torch.int8) and on_cpu else ()
    pages = LargePages()
    kept = {}
    for name, w in weights.items():
        kind = torch.float16 if name in narrow else computed
        kept[name] = pages.zeros(w.shape, kind).copy_(w) if on_cpu else w.to(device, kind)
    lm.load_state_dict(kept, strict=True, assign=True)
    return lm.eval().requires_grad_(False)


def random_codec(
    size: str = "small", device: torch.device | str = "cpu", seed: int = 0, *, audio_channels: int = 1
) -> EnCodec:
    """Build the codec of a model in float32."""
    with torch.device("meta"):
        codec = EnCodec(released_config(size).codec, audio_channels)
    return _filled(codec, device, seed)


def text_condition(num_tokens: int = 16, dim: int = 768, seed: int = 0) -> TextCondition:
    """The condition that a text encoder would make from so many tokens."""
    states = torch.randn(1, num_tokens, dim, generator=torch.Generator().manual_seed(seed))
    return TextCondition(states, torch.ones(1, num_tokens, dtype=torch.bool))


def _filled(module: Any, device: torch.device | str, seed: int, fp16_exact: bool = False) -> Any:
    """Give every weight its numbers: as wide as keeps the size of its outputs, norms the identity."""
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(seed))
    module.to_empty(device=device)
    for name, weight in module.state_dict().items():
        if weight.dim() == 1:
            weight.fill_(1.0 if name.endswith("weight") or not weight.is_floating_point() else 0.0)
            continue
        width = 1.0 if "embed" in name else 1 / math.sqrt(math.prod(weight.shape[1:]))
        numbers = block * width
        _lay_out(weight, numbers.half() if fp16_exact else numbers)
    return module.eval().requires_grad_(False)


def _lay_out(weight: Tensor, numbers: Tensor) -> None:
    for part in weight.view(-1).split(len(numbers)):
        part.copy_(numbers[: len(part)])
