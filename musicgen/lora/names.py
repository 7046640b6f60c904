"""Adapter files (LoRA, Hu et al. 2021): where they are, the names of their tensors, the rows of ours that they change.

Names are read in the dialects of PEFT, diffusers, kohya and loralib, for modules named as in transformers or as in
audiocraft. The values of the tensors are checked in `apply.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoints.files.regular import is_there
from ..checkpoints.files.settings import read_json, shown
from ..checkpoints.layouts import huggingface
from ..config import ModelConfig

PEFT_FILES, PEFT_CONFIG = ("adapter_model.safetensors", "adapter_model.bin"), "adapter_config.json"
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""Files that may hold an adapter."""

# Kinds of adapters that are not low-rank factors alone, told by the names of their tensors.
_OTHER_KINDS = {
    "DoRA": r"lora_magnitude_vector|dora_scale",
    "LoKr": r"lokr_",
    "LoHa": r"hada_",
    "IA3": r"ia3_",
    "OFT": r"(^|[._])b?oft_",
    "GLoRA": r"\.[ab][12]\.weight$",
    "VeRA": r"vera_lambda",
    "AdaLoRA": r"lora_E|ranknum",
    "LoRA with Tucker cores": r"lora_mid",
    "LoRA with biases of its own": r"lora_B(\.[^.]+)?\.bias$",
}
# Ways to begin a training that also change the weights under the adapter.
_MOVED_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")
_ROLES = (
    re.compile(r"(?P<path>.+)\.lora_(?P<role>embedding_[AB])(\.[^.]+)?"),
    re.compile(r"(?P<path>.+?)[._]lora(_linear_layer)?[._](?P<role>A|B|down|up)(\.[^.]+)?(\.weight)?"),
    re.compile(r"(?P<path>.+)\.(?P<role>alpha)"),
    re.compile(r"(?P<path>.+?)(\.modules_to_save(\.[^.]+)?)?\.(?P<role>weight|bias)"),
)
_LONGEST_NAME = 300
_SYNONYMS = {"A": "down", "B": "up"}
_WRAPPERS = re.compile(r"\.(base_layer|mha)(?=\.|$)")
_TEXT = re.compile(
    r"((base_model|model|module|lora)_)*"
    r"(text_encoder|te\d?(_text_encoder)?|condition_provider_conditioners_description_t5)_(encoder_)?"
)
_PREFIXES = re.compile(r"((base_model|model|module|lora|unet|diffusion_model|transformer|decoder|lm)_)+")
# From the short names of transformers to those of audiocraft.
_AUDIOCRAFT = (
    (r"^audio_enc_to_dec_proj", "condition_provider_conditioners_self_wav_output_proj"),
    (r"^enc_to_dec_proj", "condition_provider_conditioners_description_output_proj"),
    (r"^embed_tokens", "emb"),
    (r"^heads", "linears"),
    (r"^layer_norm", "out_norm"),
    (r"_self_attn_layer_norm$", "_norm1"),
    (r"_encoder_attn_layer_norm$", "_norm_cross"),
    (r"_final_layer_norm$", "_norm2"),
    (r"_encoder_attn_", "_cross_attention_"),
    (r"_fc([12])$", r"_linear\1"),
)


@dataclass(frozen=True)
class Rows:
    """Some rows of one of our parameters."""

    parameter: str
    start: int
    count: int


@dataclass(frozen=True)
class Settings:
    """The scale in PEFT's adapter_config.json; without one, the tensors must tell it."""

    alpha: float | None = None
    patterns: Mapping[str, float] = field(default_factory=dict)
    """Regular expressions for paths of modules, and the alphas of these."""
    rank_stabilized: bool = False

    def scale(self, module: str, rank: int, stored_alpha: float | None) -> float:
        """alpha / rank of a module, alpha / sqrt(rank) if rank-stabilized (Kalajdzievski 2023), 1 without an alpha."""
        alpha = stored_alpha
        if alpha is None:
            own = [value for key, value in self.patterns.items() if re.match(key, module)]
            alpha = own[0] if own else self.alpha
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)


@dataclass(frozen=True)
class AdapterModule:
    """The tensors that a file holds for one module: path as it is stored, and stored names by role: `down`, `up`,
    `embedding_A`, `embedding_B`, `alpha`, `weight`, `bias`."""

    path: str
    keys: dict[str, str]


def locate(path: Path) -> tuple[Path, Settings]:
    """The weights of an adapter, which is a file or a folder as PEFT writes it, and its settings.

    Raises FileNotFoundError or ValueError if there is none or its configuration is of another kind of adapter.
    """
    if not is_there(path):
        raise FileNotFoundError(f"{path} does not exist; give a .safetensors file or a folder that PEFT saved.")
    if path.is_dir():
        path = _in_folder(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{path.name} is no LoRA that can be read; allowed are {', '.join(SUFFIXES)} files and PEFT's folders."
        )
    config = path.with_name(PEFT_CONFIG)
    return path, _read_settings(config) if path.name in PEFT_FILES and is_there(config) else Settings()


def _in_folder(folder: Path) -> Path:
    """The weights in PEFT's folder, or in the one such folder within it: PEFT puts a named adapter there."""
    if found := _peft_file(folder):
        return found
    inner = [found for path in sorted(folder.iterdir()) if path.is_dir() and (found := _peft_file(path))]
    if len(inner) == 1:
        return inner[0]
    if inner:
        names = ", ".join(path.parent.name for path in inner[:5])
        raise ValueError(f"{folder} holds {len(inner)} LoRAs, in {names}; give one of these folders.")
    missing = [PEFT_CONFIG] * (not is_there(folder / PEFT_CONFIG))
    missing += [" or ".join(PEFT_FILES)] * (not any(is_there(folder / name) for name in PEFT_FILES))
    raise FileNotFoundError(
        f"{folder} lacks {' and '.join(missing)}; give a .safetensors file or a folder that PEFT saved."
    )


def _peft_file(folder: Path) -> Path | None:
    there = [folder / name for name in PEFT_FILES if is_there(folder / name)]
    return there[0] if there and is_there(folder / PEFT_CONFIG) else None


def _read_settings(path: Path) -> Settings:
    values = read_json(path).values
    kind, begun = values.get("peft_type", "LORA"), str(values.get("init_lora_weights")).lower()
    if kind != "LORA" or values.get("use_dora"):
        raise ValueError(f"{path} is of the kind {'DoRA' if kind == 'LORA' else kind}; only plain LoRA is implemented.")
    if begun.startswith(_MOVED_BASES):
        raise ValueError(
            f"{path}: init_lora_weights is {begun!r}, so it fits weights of its own; convert it to a plain LoRA with "
            "PEFT (path_initial_model_for_weight_conversion) first."
        )
    patterns = values.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise ValueError(f"{path}: alpha_pattern is {shown(patterns)}; allowed is an object of names and numbers.")
    return Settings(
        alpha=_number(path, "lora_alpha", values.get("lora_alpha")),
        patterns={_pattern(path, key): _number(path, f"alpha of {key}", value) for key, value in patterns.items()},
        rank_stabilized=bool(values.get("use_rslora")),
    )


def _number(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise ValueError(f"{path}: {name} is {shown(value)}; allowed is a number between -1e9 and 1e9.")
    return float(value)


def _pattern(path: Path, text: str) -> str:
    """A module name or regular expression -> one for whole paths, unless it can take for ever to match."""
    try:
        if len(text) < 1000 and len(re.findall(r"[*+?{]", text)) <= 2 and not re.search(r"\)[*+?{]", text):
            return re.compile(rf"(.*\.)?({text})$").pattern
    except (re.error, OverflowError, RecursionError):
        pass
    raise ValueError(f"{path}: alpha_pattern has {text[:80]!r}; allowed are names of modules and simple patterns.")


def adapter_modules(where: str, stored: Iterable[str]) -> tuple[list[AdapterModule], list[str]]:
    """Stored names -> the modules that they belong to, and the names that have no form of an adapter's.

    Raises ValueError on kinds of adapters that are not implemented, and on two tensors for one role.
    """
    modules: dict[str, AdapterModule] = {}
    strange = []
    for key in sorted(stored):
        plain = key.isprintable() and len(key) <= _LONGEST_NAME
        match = next((match for form in _ROLES if (match := form.fullmatch(key))), None) if plain else None
        kind = next((kind for kind, marks in _OTHER_KINDS.items() if re.search(marks, key)), None) if plain else None
        if kind:
            raise ValueError(f"{where} is of the kind {kind} ({key}); only plain LoRA is implemented.")
        if match is None:
            strange.append(key)
            continue
        path, role = match["path"].rpartition("base_model.model.")[2], _SYNONYMS.get(match["role"], match["role"])
        keys = modules.setdefault(path, AdapterModule(path, {})).keys
        if role in keys:
            raise ValueError(f"{where} holds both {keys[role]} and {key}; a file may hold one LoRA only.")
        keys[role] = key
    return list(modules.values()), strange


def short_name(path: str) -> str:
    """A module's path in any dialect -> the name under which `targets` knows it."""
    name = _WRAPPERS.sub("", path).replace(".", "_").removesuffix("_in_proj_weight")
    return _PREFIXES.sub("", name, count=1) if _PREFIXES.match(name) else name


def short_text_name(path: str) -> str | None:
    """A module's path in any dialect -> the name under which `text_targets` knows it; None if it is not T5's.

    Example:
        >>> short_text_name("text_encoder.encoder.block.0.layer.0.SelfAttention.q")
        'block_0_layer_0_SelfAttention_q'
    """
    name = _WRAPPERS.sub("", path).replace(".", "_")
    match = _TEXT.match(name)
    return name[match.end() :] if match else None


def text_targets(shapes: Mapping[str, tuple[int, ...]]) -> dict[tuple[str, str], tuple[Rows, ...]]:
    """(short module name, `weight`) -> the parameter of the T5 encoder that it is. shapes: of these, by name."""
    found: dict[tuple[str, str], tuple[Rows, ...]] = {}
    for parameter, shape in shapes.items():
        path, kind = parameter.rsplit(".", 1)
        found[path.removeprefix("encoder.").replace(".", "_"), kind] = (Rows(parameter, 0, shape[0]),)
    return found


def targets(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> dict[tuple[str, str], tuple[Rows, ...]]:
    """(short module name, `weight` or `bias`) -> the rows of our parameters that it is, in order.

    shapes: of our parameters, by name.
    """
    found: dict[tuple[str, str], tuple[Rows, ...]] = {}
    for parameter, recipe in huggingface.lm_recipes(config).items():
        count = shapes[parameter][0] // len(recipe.sources)
        for index, source in enumerate(recipe.sources):
            path, kind = source.rsplit(".", 1)
            found[short_name(path), kind] = (Rows(parameter, index * count, count),)
    for (name, kind), rows in list(found.items()):
        for ours, theirs in _AUDIOCRAFT:
            name = re.sub(ours, theirs, name)
        found[name, kind] = rows
    for name, kind in list(found):
        if name.endswith("_q_proj"):
            module = name.removesuffix("_q_proj")
            fused = tuple(rows for letter in "qkv" for rows in found[f"{module}_{letter}_proj", kind])
            found[module, kind] = found[f"{module}_in_proj", kind] = fused
    return found
