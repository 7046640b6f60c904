"""LoRA (Hu et al. 2021): low-rank changes of a language model's weights, read from a file and held against the model.

A file's names are translated in `checkpoints/adapters.py`. Here its tensors are checked and become changes of rows of
our parameters; `merged_lm` applies them, or a host does, who takes the changes as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import ModelConfig
from ..environment import imported, torch_defaults
from ..lm.language_model import LMModel
from .names import AdapterModule, Rows, Settings, adapter_modules, locate, short_name, targets


@dataclass(frozen=True)
class LowRank:
    """Adds `scale * up @ down` to some rows; up `[rows, rank]`, down `[rank, columns]`."""

    rows: Rows
    up: Tensor
    down: Tensor
    scale: float


@dataclass(frozen=True)
class Replacement:
    """Puts a value in the place of some rows: a module that was trained whole."""

    rows: Rows
    value: Tensor


@dataclass(frozen=True)
class LoRA:
    """What a file changes in a model. At strength s a replacement goes the share s of the way, and the low-rank
    changes are added s times after it. unmatched: stored names that fit nothing in the model. warnings: sentences
    for the user."""

    name: str
    low_rank: tuple[LowRank, ...]
    replacements: tuple[Replacement, ...]
    unmatched: tuple[str, ...]
    warnings: tuple[str, ...]


@torch_defaults()
def read_lora(path: str | Path, config: ModelConfig) -> LoRA:
    """Read a LoRA for the model of `config`: a .safetensors file, or a folder that PEFT saved.

    Raises FileNotFoundError and ValueError, naming the tensor, if the file is damaged, of another
    kind of adapter, fits nothing in the model, or fits in name but not in shape.
    """
    SafetensorError, safe_open = imported("safetensors", "SafetensorError", "safe_open")
    file, settings = locate(Path(path))
    try:
        with safe_open(file, framework="pt") as stored:
            return _Reader(Path(path).name or file.name, settings, config, stored).read()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is not a whole safetensors file ({error}): copy it again.") from error


@torch_defaults()
def merged_lm(lm: LMModel, lora: LoRA, strength: float = 1.0) -> LMModel:
    """A model with the LoRA in its weights; weights that it leaves alone are shared with `lm`, which stays as it is.

    Changes are computed in float32 and rounded once, to the format that the weight is kept in.
    """
    if not math.isfinite(strength):
        raise ValueError(f"strength is {strength}; allowed is a finite number.")
    every: tuple[LowRank | Replacement, ...] = (*lora.replacements, *lora.low_rank)
    changes: dict[str, list[LowRank | Replacement]] = {}
    for change in every if strength else ():
        changes.setdefault(change.rows.parameter, []).append(change)
    state = lm.state_dict()
    for name, of_parameter in changes.items():
        state[name] = _changed(state[name], of_parameter, strength)
    merged = LMModel(lm.config, lm.operations, device="meta", dtype=lm.dtype)
    merged.load_state_dict(state, strict=True, assign=True)
    return merged.eval().requires_grad_(False)


def _changed(weight: Tensor, changes: Sequence[LowRank | Replacement], strength: float) -> Tensor:
    total = weight.to(torch.float32, copy=True)
    for change in changes:
        part = total.narrow(0, change.rows.start, change.rows.count)
        if isinstance(change, Replacement):
            part.mul_(1.0 - strength).add_(strength * change.value.to(part))
        else:
            part.add_((strength * change.scale) * (change.up.to(part) @ change.down.to(part)))
    return total.to(weight.dtype)


class _Reader:
    """One open file, held against one model."""

    def __init__(self, name: str, settings: Settings, config: ModelConfig, stored: Any) -> None:
        plan = LMModel(config.lm, device="meta")
        self.shapes = {name: tuple(tensor.shape) for name, tensor in plan.state_dict().items()}
        self.targets = targets(config, self.shapes)
        self.dim = config.lm.dim
        self.name, self.settings, self.stored = name, settings, stored
        self.low_rank: list[LowRank] = []
        self.replacements: list[Replacement] = []
        self.unmatched: list[str] = []
        self.changed: dict[tuple[type, Rows], str] = {}

    def read(self) -> LoRA:
        keys = list(self.stored.keys())
        modules, self.unmatched = adapter_modules(self.name, keys)
        fitting = [module for module in modules if self._fits(module)]
        if not any({"down", "up", "embedding_A", "embedding_B"} & module.keys.keys() for module in fitting):
            raise ValueError(
                f"{self.name} holds no low-rank factors for this model: it has {len(keys)} tensors, first "
                f"{_first(sorted(keys))}. Choose a LoRA that was trained on MusicGen's language model."
            )
        for module in fitting:
            self._read_module(module)
        self.unmatched += [key for module in modules if not self._fits(module) for key in module.keys.values()]
        has_alpha = self.settings.alpha is not None or any("alpha" in module.keys for module in modules)
        lora = LoRA(self.name, tuple(self.low_rank), tuple(self.replacements), tuple(sorted(self.unmatched)), ())
        return replace(lora, warnings=_warnings(lora, has_alpha))

    def _fits(self, module: AdapterModule) -> bool:
        return (short_name(module.path), "weight") in self.targets

    def _read_module(self, module: AdapterModule) -> None:
        keys = dict(module.keys)
        name = short_name(module.path)
        alpha = self._alpha(keys.pop("alpha", None))
        scale = partial(self.settings.scale, module.path, stored_alpha=alpha)
        for roles in (("down", "up"), ("embedding_A", "embedding_B")):
            pair = [keys.pop(role) for role in roles if role in keys]
            if len(pair) == 1:
                raise ValueError(f"{self.name} holds {pair[0]} without its other factor.")
            if pair:
                down, up = (self._tensor(key) for key in pair)
                if roles[0] != "down":  # of an embedding PEFT keeps [rank, entries] and [width, rank]
                    down, up = (factor.movedim(0, -1).contiguous() for factor in (up, down))
                self._add_low_rank(pair, self.targets[name, "weight"], up, down, scale)
        for kind, key in keys.items():
            if (name, kind) in self.targets:
                self._add_replacement(key, self.targets[name, kind])
            else:
                self.unmatched.append(key)

    def _add_low_rank(
        self, keys: list[str], rows: tuple[Rows, ...], up: Tensor, down: Tensor, scale: Callable[[int], float]
    ) -> None:
        if up.dim() != 2 or down.dim() != 2 or up.shape[1] != down.shape[0] or not up.shape[1]:
            raise ValueError(
                f"{self.name}: {' and '.join(keys)} are {list(down.shape)} and {list(up.shape)} where [rank, inputs] "
                "and [outputs, rank] are needed."
            )
        self._check(keys[0], (up.shape[0], down.shape[1]), rows)
        for part, target in zip(up.split([r.count for r in rows]), rows, strict=True):
            self._claim(LowRank, target, keys[0])
            self.low_rank.append(LowRank(target, part, down, scale(down.shape[0])))

    def _add_replacement(self, key: str, rows: tuple[Rows, ...]) -> None:
        value = self._tensor(key)
        self._check(key, tuple(value.shape), rows)
        for part, target in zip(value.split([r.count for r in rows]), rows, strict=True):
            self._claim(Replacement, target, key)
            self.replacements.append(Replacement(target, part))

    def _check(self, key: str, found: tuple[int, ...], rows: tuple[Rows, ...]) -> None:
        """Hold the shape of a change against that of the rows it is for."""
        wanted = (sum(r.count for r in rows), *self.shapes[rows[0].parameter][1:])
        if found == wanted:
            return
        text = f"{self.name}: {key} changes a weight of {list(found)}, where this model has {list(wanted)}"
        others = [have for have, want in zip(found, wanted, strict=False) if want == self.dim != have]
        if others and len(found) == len(wanted):
            text += f"; the LoRA was made for a model that is {others[0]} wide, and this one is {self.dim} wide"
        raise ValueError(f"{text}. Use the LoRA with the model that it was trained on.")

    def _claim(self, kind: type, rows: Rows, key: str) -> None:
        other = self.changed.setdefault((kind, rows), key)
        if other != key:
            raise ValueError(f"{self.name}: {other} and {key} are for one weight; a file may hold one LoRA only.")

    def _tensor(self, key: str) -> Tensor:
        tensor = self.stored.get_tensor(key).clone()  # of its own memory: the file may change
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor.float()).all()):
            raise ValueError(f"{self.name}: {key} holds NaN, infinity or no fractions at all; the LoRA is damaged.")
        return tensor

    def _alpha(self, key: str | None) -> float | None:
        if key is None:
            return None
        tensor = self.stored.get_tensor(key).float()
        if tensor.numel() != 1 or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{self.name}: {key} is {tensor.tolist()!r:.80}; allowed is one finite number.")
        return float(tensor)


def _first(keys: Sequence[str]) -> str:
    """The first five of some stored names, whatever is in them, for a sentence."""
    return ", ".join(ascii(key[:100])[1:-1] for key in keys[:5]) or "none"


def _warnings(lora: LoRA, has_alpha: bool) -> tuple[str, ...]:
    found = []
    texts = [key for key in lora.unmatched if "text_encoder" in key or key.startswith("lora_te")]
    others = [key for key in lora.unmatched if key not in texts]
    for keys, why in ((texts, "are for the text encoder, which takes no LoRA"), (others, "fit nothing in this model")):
        if keys:
            found.append(f"LoRA {lora.name}: {len(keys)} tensors {why}; they are left out, first {_first(keys)}.")
    if not has_alpha:
        found.append(f"LoRA {lora.name} tells no alpha; it is taken for the rank, so that strength alone scales it.")
    return tuple(found)
