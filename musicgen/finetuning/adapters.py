"""Low-rank adapters (LoRA, Hu et al. 2021) in a language model, named and drawn as PEFT's are.

One of our fused parameters is several modules of transformers, and each gets factors of its own, so that a file holds
the very tensors that PEFT would write. The factors are float32 whatever the model's number format is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints.layouts.huggingface import lm_recipes
from ..config import ModelConfig
from ..lm.language_model import LMModel
from ..lora.apply import LoRA, lora_of

ATTENTION, ALL_LINEAR = "attention", "all linear"
TARGETS = {
    ATTENTION: ("k_proj", "v_proj", "q_proj", "out_proj"),
    ALL_LINEAR: ("k_proj", "v_proj", "q_proj", "out_proj", "fc1", "fc2"),
}
"""The modules of transformers that get an adapter, in the order in which a layer has them."""
PREFIX = "base_model.model."
"""The beginning of names in PEFT's files."""
_PATH = re.compile(r"layers\.(\d+)\.(self_attn|encoder_attn|fc1|fc2)\.?(\w*)$")
_PARTS = ("self_attn", "encoder_attn", "fc1", "fc2")


class TrainedLora(dict[str, Tensor]):
    """The factors of a LoRA by PEFT's names, with an `alpha` for each module, and facts about its training.

    It is a dict of tensors, so that whatever saves such a dict saves a file that `read_lora` reads.
    """

    def __init__(self, tensors: Mapping[str, Tensor], rank: int, alpha: float, about: Mapping[str, Any]) -> None:
        super().__init__(tensors)
        self.rank, self.alpha, self.about = rank, alpha, dict(about)

    @property
    def name(self) -> str:
        """The name of the songs that it was trained on."""
        return str(self.about.get("dataset") or "trained")

    def factors(self) -> dict[str, Tensor]:
        """The tensors without the alphas: those that PEFT keeps in its file."""
        return {name: tensor for name, tensor in self.items() if not name.endswith(".alpha")}

    def changes(self, config: ModelConfig) -> LoRA:
        """The changes of a model's weights; see :func:`read_lora`."""
        return lora_of(self.name, self, config)


@dataclass(frozen=True)
class _Target:
    """A module of transformers: its path, and the rows of one of our parameters that it is."""

    path: str
    parameter: str
    start: int
    count: int


class AdaptedLinear(nn.Module):
    """A frozen linear layer with a low-rank change of each of its parts: `W x + scale * up down x`."""

    def __init__(self, base: nn.Linear, parts: list[tuple[str, Tensor, Tensor]], scale: float) -> None:
        """parts: of each part in the order of its rows: its path, down `[rank, inputs]` and up `[outputs, rank]`."""
        super().__init__()
        self.base, self.scale = base, scale
        self.paths = [path for path, _, _ in parts]
        self.down = nn.ParameterList(nn.Parameter(down) for _, down, _ in parts)
        self.up = nn.ParameterList(nn.Parameter(up) for _, _, up in parts)

    def forward(self, x: Tensor) -> Tensor:
        """Map x `[..., inputs]` to `[..., outputs]`."""
        downs = list(self.down)
        # One product for all parts: reading x once is most of the work.
        low = F.linear(x, (torch.cat(downs) if len(downs) > 1 else downs[0]).to(x.dtype))
        lows = low.chunk(len(downs), dim=-1)
        changes = [F.linear(part, up.to(x.dtype)) for part, up in zip(lows, self.up, strict=True)]
        change = torch.cat(changes, dim=-1) if len(changes) > 1 else changes[0]
        return torch.add(self.base(x), change, alpha=self.scale)


class AdaptedLM:
    """A language model with adapters, whose own weights are frozen.

    Args:
        lm: built of torch's own layers; its linear layers are exchanged in place.
        config: the model's numbers.
        rank: of each adapter.
        alpha: the change is alpha / rank times the product of the factors.
        targets: a key of `TARGETS`.
        generator: draws the first factors; in the order of PEFT's own, from the same numbers.
    """

    def __init__(
        self, lm: LMModel, config: ModelConfig, *, rank: int, alpha: float, targets: str, generator: torch.Generator
    ) -> None:
        if targets not in TARGETS:
            raise ValueError(f"targets is {targets!r}; allowed are {', '.join(TARGETS)}.")
        if not 1 <= rank <= config.lm.dim:
            raise ValueError(f"rank is {rank}; allowed is 1 to {config.lm.dim}, the width of {config.name}.")
        if not (math.isfinite(alpha) and alpha > 0.0):
            raise ValueError(f"alpha is {alpha:g}; allowed is a number above 0, such as the rank.")
        self.lm, self.rank, self.alpha, self.kind = lm.requires_grad_(False), rank, alpha, targets
        found = _targets(config, targets, lm)
        drawn = {target.path: _draw(lm, target, rank, generator) for target in found}
        self._adapted: list[AdaptedLinear] = []
        for parameter in dict.fromkeys(target.parameter for target in found):
            own = sorted((each for each in found if each.parameter == parameter), key=lambda each: each.start)
            path, _, name = parameter.removesuffix(".weight").rpartition(".")
            holder = lm.get_submodule(path)
            layer = AdaptedLinear(getattr(holder, name), [(each.path, *drawn[each.path]) for each in own], alpha / rank)
            setattr(holder, name, layer.to(lm.embedding.weight.device))
            self._adapted.append(layer)

    def parameters(self) -> dict[str, nn.Parameter]:
        """The factors by PEFT's names."""
        named: dict[str, nn.Parameter] = {}
        for layer in self._adapted:
            for path, down, up in zip(layer.paths, layer.down, layer.up, strict=True):
                named[f"{PREFIX}{path}.lora_A.weight"] = down
                named[f"{PREFIX}{path}.lora_B.weight"] = up
        return named

    def set_strength(self, strength: float) -> None:
        """Let the adapters act at a strength; 1 is that of the training, 0 is the model without them."""
        for layer in self._adapted:
            layer.scale = strength * self.alpha / self.rank

    def trained(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> TrainedLora:
        """Make a LoRA of factors with the names of :meth:`parameters`."""
        alphas = {
            name.removesuffix(".lora_A.weight") + ".alpha": torch.tensor(float(self.alpha))
            for name in tensors
            if name.endswith(".lora_A.weight")
        }
        factors = {name: tensor.detach().cpu().float().contiguous() for name, tensor in tensors.items()}
        return TrainedLora({**factors, **alphas}, self.rank, self.alpha, about)


def trainable_copy(lm: LMModel, state: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> LMModel:
    """Return a language model of torch's own layers with copies of weights, which gradients can pass.

    Args:
        lm: tells the numbers of the model.
        state: its weights by name.
        dtype: number format of the copy.
        device: where to put it.
    """
    made = LMModel(lm.config, device="meta", dtype=dtype)
    copies = {name: weight.to(device, dtype, copy=True) for name, weight in state.items()}
    made.load_state_dict(copies, strict=True, assign=True)
    return made.requires_grad_(False)


def adapter_numbers(config: ModelConfig, rank: int, targets: str) -> int:
    """Count the numbers of all factors of a LoRA."""
    lm = LMModel(config.lm, device="meta")
    return sum(rank * (each.count + _inputs(lm, each)) for each in _targets(config, targets, lm))


def _targets(config: ModelConfig, kind: str, lm: LMModel) -> list[_Target]:
    """The modules that get an adapter, in the order of transformers' modules."""
    found: list[tuple[tuple[int, ...], _Target]] = []
    letters = TARGETS[kind]
    for parameter, recipe in lm_recipes(config).items():
        count = lm.get_parameter(parameter).shape[0] // len(recipe.sources)
        for index, source in enumerate(recipe.sources):
            path = source.removesuffix(".weight")
            match = _PATH.search(path)
            name = path.rpartition(".")[2]
            if match and name in letters:
                order = (int(match[1]), _PARTS.index(match[2]), letters.index(name))
                found.append((order, _Target(path, parameter, index * count, count)))
    return [target for _, target in sorted(found, key=lambda each: each[0])]


def _inputs(lm: LMModel, target: _Target) -> int:
    return int(lm.get_parameter(target.parameter).shape[1])


def _draw(lm: LMModel, target: _Target, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The first factors of a module: down is drawn, and up is 0, so that nothing changes at first."""
    inputs, root = _inputs(lm, target), math.sqrt(5)
    down, up = torch.empty(rank, inputs), torch.empty(target.count, rank)
    # PEFT makes two layers, which draw their weights, and then draws the first anew.
    for factor in (down, up, down):
        nn.init.kaiming_uniform_(factor, a=root, generator=generator)
    return down, up.zero_()
