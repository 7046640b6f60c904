"""Models of the released sizes with random weights, which take the time and the memory of the real ones."""

from __future__ import annotations

from typing import Any

import measuring  # noqa: F401  (makes the library importable)
import torch
from torch import Tensor, nn

from musicgen.codec import EnCodec
from musicgen.conditioning.base import TextCondition
from musicgen.config import CodecConfig, LMConfig, ModelConfig
from musicgen.cpu_linear import quick_operations
from musicgen.lm import LMModel

SIZES = {"tiny": (128, 2, 2), "small": (1024, 24, 16), "medium": (1536, 48, 24), "large": (2048, 48, 32)}
"""Width, layers and heads; tiny is for trying the benchmarks themselves."""
TEXT_DIM = 768
_CODEC = (32000, 1, 128, 64, 1, (8, 5, 4, 4), 7, 7, 3, 2, 2, 2, False, "reflect", True, 1.0, 4, 2048)
_TINY_CODEC = (32000, 1, 128, 4, *_CODEC[4:])


def model_config(size: str) -> ModelConfig:
    """A released text model's numbers."""
    if size not in SIZES:
        raise ValueError(f"size is {size!r}; allowed are {', '.join(SIZES)}.")
    dim, layers, heads = SIZES[size]
    lm = LMConfig(
        dim=dim,
        num_layers=layers,
        num_heads=heads,
        ffn_dim=4 * dim,
        cross_attention=True,
        num_codebooks=4,
        card=2048,
        text_dim=TEXT_DIM,
        text_projection=True,
        chroma_dim=None,
        style_dim=None,
    )
    codec = CodecConfig(*(_TINY_CODEC if size == "tiny" else _CODEC))
    return ModelConfig(size, lm, codec, {}, None, None, 1, (0, 1, 2, 3), 30.0, 18.0)


def random_weights(size: str, seed: int = 0) -> dict[str, Tensor]:
    """The language model's weights in float32, each number one that float16 holds too."""
    with torch.device("meta"):
        shapes = LMModel(model_config(size).lm).state_dict()
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        numbers = torch.empty(shape.shape)
        if "norm" in name and name.endswith("weight"):
            numbers.fill_(1.0)
        else:
            numbers.normal_(0.0, 0.02, generator=generator)
        weights[name] = numbers.half().float()
    return weights


def build_lm(
    size: str, weights: dict[str, Tensor], dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> LMModel:
    """A language model as `load_model` makes it of these weights with this dtype; float32 ones are shared."""
    with torch.device("meta"):
        operations = quick_operations(nn, int8=dtype == torch.int8)
        computed = torch.float32 if dtype in (None, torch.int8) else dtype
        lm = LMModel(model_config(size).lm, operations, dtype=computed)
    narrow = {f"{name}.weight" for name, m in lm.named_modules() if isinstance(m, nn.Linear) and m.bias is None}
    kept = {}
    for name, numbers in weights.items():
        is_narrow = dtype in (None, torch.int8) and name in narrow and torch.device(device).type == "cpu"
        kept[name] = numbers.to(device, torch.float16 if is_narrow else computed)
    lm.load_state_dict(kept, strict=True, assign=True)
    return lm.eval().requires_grad_(False)


def random_lm(
    size: str, dtype: torch.dtype | None = None, device: torch.device | str = "cpu", seed: int = 0
) -> tuple[LMModel, ModelConfig]:
    """A language model with random weights, and its model's numbers."""
    return build_lm(size, random_weights(size, seed), dtype, device), model_config(size)


def random_codec(size: str = "small", device: torch.device | str = "cpu") -> EnCodec:
    """A codec with random weights; of the released width, but for `tiny`."""
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    codec = EnCodec(model_config(size).codec, 1)
    torch.random.set_rng_state(torch_state)
    return codec.to(device).eval().requires_grad_(False)


def text_condition(num_tokens: int = 16, dim: int = TEXT_DIM) -> TextCondition:
    """A description's states as T5 would give them."""
    states = torch.randn(1, num_tokens, dim, generator=torch.Generator().manual_seed(1))
    return TextCondition(states, torch.ones(1, num_tokens, dtype=torch.bool))


def parameter_bytes(module: Any) -> int:
    """Bytes of a module's weights."""
    return sum(p.nbytes for p in module.parameters())
