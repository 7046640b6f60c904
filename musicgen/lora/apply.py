"""LoRA (Hu et al. 2021): low-rank changes of a model's weights, read from a file and held against the model.

A file's names are translated in `names.py`. Here its tensors are checked and become changes of rows of our parameters,
those of the language model and those of T5; `merged_lm` and `merged_text_encoder` apply them, or a host does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ..checkpoints.files.weights import read_file
from ..checkpoints.files.wrapped import plain_names
from ..conditioning.text import TextEncoder
from ..config import ModelConfig
from ..environment import torch_defaults
from ..lm.language_model import LMModel
from .names import (
    AdapterModule,
    Rows,
    Settings,
    adapter_modules,
    locate,
    short_name,
    short_text_name,
    targets,
    text_targets,
)


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
    """The changes of a model that a file holds.

    At strength s a replacement goes the share s of the way, and the low-rank changes are added s times after it.

    Args:
        name: of the file or folder.
        low_rank: for the language model.
        replacements: for the language model, of modules that were trained whole.
        unmatched: stored names that fit nothing in the model.
        warnings: sentences for the user.
        text: for the T5 encoder, by its own parameters' names; PEFT's "all-linear" trains it too.
    """

    name: str
    low_rank: tuple[LowRank, ...]
    replacements: tuple[Replacement, ...]
    unmatched: tuple[str, ...]
    warnings: tuple[str, ...]
    text: tuple[LowRank | Replacement, ...] = ()

    @property
    def without_text(self) -> tuple[str, ...]:
        """A sentence for the user where the changes of the text encoder are left out; none where there are none."""
        if not self.text:
            return ()
        total = len(self.text) + len(self.low_rank) + len(self.replacements)
        return (
            f"LoRA {self.name}: {len(self.text)} of its {total} changes ({len(self.text) / total:.0%}) are for the "
            "text encoder and are left out here, so the music is not as it was trained.",
        )


@torch_defaults()
def read_lora(path: str | Path, config: ModelConfig) -> LoRA:
    """Read a LoRA for the model of `config`: a .safetensors or PyTorch file, or a folder that PEFT saved.

    Raises FileNotFoundError and ValueError, naming the tensor, if the file is damaged, of another
    kind of adapter, fits nothing in the model, or fits in name but not in shape.
    """
    file, settings = locate(Path(path))
    stored = plain_names(file, read_file(file), ())
    return _Reader(Path(path).name or file.name, settings, config, stored).read()


@torch_defaults()
def lora_of(name: str, tensors: Mapping[str, Tensor], config: ModelConfig) -> LoRA:
    """Return the LoRA that tensors are, which are named and checked as those of a file; see :func:`read_lora`."""
    return _Reader(name, Settings(), config, {key: _InMemory(tensor) for key, tensor in tensors.items()}).read()


@torch_defaults()
def merged_lm(lm: LMModel, lora: LoRA, strength: float = 1.0) -> LMModel:
    """A model with the LoRA in its weights; weights that it leaves alone are shared with `lm`, which stays as it is.

    Changes are computed in float32 and rounded once, to the format that the weight is kept in.
    """
    state = _merged_state(lm.state_dict(), (*lora.replacements, *lora.low_rank), strength)
    merged = LMModel(lm.config, lm.operations, device="meta", dtype=lm.dtype)
    merged.load_state_dict(state, strict=True, assign=True)
    return merged.eval().requires_grad_(False)


@torch_defaults()
def merged_text_encoder(encoder: TextEncoder, lora: LoRA, strength: float = 1.0) -> TextEncoder:
    """A text encoder with the LoRA in its weights, or `encoder` itself where the LoRA does not change it.

    Weights that it leaves alone are shared with `encoder`, which stays as it is.
    """
    if not lora.text:
        return encoder
    return encoder.with_weights(_merged_state(encoder.t5.state_dict(), lora.text, strength))


def _merged_state(
    state: dict[str, Tensor], every: Sequence[LowRank | Replacement], strength: float
) -> dict[str, Tensor]:
    """A state dict in which the changed parameters are new tensors."""
    if not math.isfinite(strength):
        raise ValueError(f"strength is {strength}; allowed is a finite number.")
    changes: dict[str, list[LowRank | Replacement]] = {}
    for change in every if strength else ():
        changes.setdefault(change.rows.parameter, []).append(change)
    return state | {name: _changed(state[name], of_parameter, strength) for name, of_parameter in changes.items()}


def _changed(weight: Tensor, changes: Sequence[LowRank | Replacement], strength: float) -> Tensor:
    total = weight.to(torch.float32, copy=True)
    for change in changes:
        part = total.narrow(0, change.rows.start, change.rows.count)
        if isinstance(change, Replacement):
            part.mul_(1.0 - strength).add_(strength * change.value.to(part))
        else:
            part.add_((strength * change.scale) * (change.up.to(part) @ change.down.to(part)))
    return total.to(weight.dtype)


class Stored(Protocol):
    """A tensor that is read when it is asked for, as the tensors of a file are."""

    def read(self, name: str) -> Tensor:
        """Return the values; name is for messages."""
        ...


@dataclass(frozen=True)
class _InMemory:
    """A tensor that is there already."""

    tensor: Tensor

    def read(self, _name: str) -> Tensor:
        return self.tensor


class _Reader:
    """One open file, held against one model."""

    def __init__(self, name: str, settings: Settings, config: ModelConfig, stored: Mapping[str, Stored]) -> None:
        self.shapes = _shapes(LMModel(config.lm, device="meta"))
        self.targets = targets(config, self.shapes)
        self.text_targets: dict[tuple[str, str], tuple[Rows, ...]] = {}
        self.dim = config.lm.dim
        self.config = config
        self.name, self.settings, self.stored = name, settings, stored
        self.low_rank: list[LowRank] = []
        self.replacements: list[Replacement] = []
        self.unmatched: list[str] = []
        self.text: list[LowRank | Replacement] = []
        self.changed: dict[tuple[type, Rows], str] = {}

    def read(self) -> LoRA:
        keys = list(self.stored)
        modules, self.unmatched = adapter_modules(self.name, keys)
        self._expect_text(modules)
        fitting = [module for module in modules if self._fits(module)]
        if not any({"down", "up", "embedding_A", "embedding_B"} & module.keys.keys() for module in fitting):
            raise ValueError(
                f"{self.name} holds no low-rank factors for this model: it has {len(keys)} tensors, first "
                f"{_first(sorted(keys))}. Choose a LoRA that was trained on MusicGen."
            )
        for module in fitting:
            self._read_module(module)
        self.unmatched += [key for module in modules if not self._fits(module) for key in module.keys.values()]
        has_alpha = self.settings.alpha is not None or any("alpha" in module.keys for module in modules)
        unmatched = tuple(sorted(self.unmatched))
        lora = LoRA(self.name, tuple(self.low_rank), tuple(self.replacements), unmatched, (), tuple(self.text))
        return replace(lora, warnings=_warnings(lora, has_alpha))

    def _expect_text(self, modules: Sequence[AdapterModule]) -> None:
        """Learn T5's parameters, where a module is named like one of its."""
        if not any(short_text_name(module.path) for module in modules):
            return
        with torch.device("meta"):
            shapes = _shapes(TextEncoder(self.config.text_encoder, None).t5)
        self.text_targets = text_targets(shapes)
        self.shapes |= {name: shape for name, shape in shapes.items() if name not in self.shapes}

    def _rows(self, module: AdapterModule, kind: str) -> tuple[Rows, ...] | None:
        """The rows that a module's weight or bias is, and None where the model has no such module."""
        text = short_text_name(module.path)
        if text is not None:
            return self.text_targets.get((text, kind))
        return self.targets.get((short_name(module.path), kind))

    def _fits(self, module: AdapterModule) -> bool:
        return self._rows(module, "weight") is not None

    def _read_module(self, module: AdapterModule) -> None:
        keys = dict(module.keys)
        rows = self._rows(module, "weight") or ()
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
                self._add_low_rank(pair, rows, up, down, scale)
        for kind, key in keys.items():
            if whole := self._rows(module, kind):
                self._add_replacement(key, whole)
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
            change = LowRank(target, part, down, scale(down.shape[0]))
            (self.text if self._is_text(target) else self.low_rank).append(change)

    def _add_replacement(self, key: str, rows: tuple[Rows, ...]) -> None:
        value = self._tensor(key)
        self._check(key, tuple(value.shape), rows)
        for part, target in zip(value.split([r.count for r in rows]), rows, strict=True):
            self._claim(Replacement, target, key)
            change = Replacement(target, part)
            (self.text if self._is_text(target) else self.replacements).append(change)

    def _is_text(self, rows: Rows) -> bool:
        return any(rows in found for found in self.text_targets.values())

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
        tensor = self.stored[key].read(key)
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor.float()).all()):
            raise ValueError(f"{self.name}: {key} holds NaN, infinity or no fractions at all; the LoRA is damaged.")
        return tensor

    def _alpha(self, key: str | None) -> float | None:
        if key is None:
            return None
        tensor = self.stored[key].read(key).float()
        if tensor.numel() != 1 or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{self.name}: {key} is {tensor.tolist()!r:.80}; allowed is one finite number.")
        return float(tensor)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _first(keys: Sequence[str]) -> str:
    """The first five of some stored names, whatever is in them, for a sentence."""
    return ", ".join(ascii(key[:100])[1:-1] for key in keys[:5]) or "none"


def _warnings(lora: LoRA, has_alpha: bool) -> tuple[str, ...]:
    found = []
    texts = [key for key in lora.unmatched if "text_encoder" in key or key.startswith("lora_te")]
    others = [key for key in lora.unmatched if key not in texts]
    for keys, why in (
        (texts, "are for a text encoder, but fit nothing in this model's"),
        (others, "fit nothing in this model"),
    ):
        if keys:
            found.append(f"LoRA {lora.name}: {len(keys)} tensors {why}; they are left out, first {_first(keys)}.")
    if not has_alpha:
        found.append(f"LoRA {lora.name} tells no alpha; it is taken for the rank, so that strength alone scales it.")
    return tuple(found)
