"""MERT as it lies on disk: config.json and weights in the Hugging Face layout, read without the code beside them.

MERT is HuBERT (Hsu et al. 2021) in every number and name, but for options that MERT-v1-95M does not use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..checkpoint import MertFiles, Part
from ..files.settings import Fields, read_json
from ..files.tensors import Recipe, StoredTensors
from ..files.weights import has_weights, read_weights
from ..tables.transformers import MERT
from .search import cached_folder, entries, named_first

REPOSITORY = "m-a-p/MERT-v1-95M"
_CONFIG_FILE = "config.json"
_RATE = 24000
_NUMBERS = ("hidden_size", "num_attention_heads", "intermediate_size", "num_conv_pos_embeddings")
_LISTS = ("conv_dim", "conv_kernel", "conv_stride")
_MASK = "masked_spec_embed"  # in training it takes the place of hidden sound
_MODULE = "hubert."
_POSITIONS = "encoder.pos_conv_embed.conv."
_OLD_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def find_mert(width: int, beside: Path, search: Sequence[Path] = ()) -> MertFiles | None:
    """Find the MERT with states of `width` that a style model needs and does not contain, or None.

    Looked for in the folder `beside` and the folders in it, in the places in `search` and in their
    folders, and in the local Hugging Face cache. Nothing is fetched. Raises ValueError where one is
    found that cannot be read.
    """
    for place in (beside, *search):
        for folder in named_first([place, *entries(place)], REPOSITORY):
            if _is_mert(folder, width):
                return open_mert(folder)
    cached = cached_folder(REPOSITORY)
    return open_mert(cached) if cached is not None and _is_mert(cached, width) else None


def how_to_get(beside: Path) -> str:
    """The sentence for a user who has a style model in the folder `beside`, and no MERT."""
    return (
        f"the style model in {beside} hears through MERT-v1-95M, which is not on this computer; put config.json and "
        f"pytorch_model.bin (or model.safetensors) of the repository {REPOSITORY} (CC-BY-NC 4.0) into "
        f"{beside / 'MERT-v1-95M'}."
    )


def open_mert(folder: Path) -> MertFiles:
    """Open a MERT folder. Raises ValueError on a damaged one and on options that are not implemented."""
    fields, stored = read_json(folder / _CONFIG_FILE), read_weights(folder)
    ignored = frozenset({_MASK} & stored.records.keys())
    part = Part(stored, lambda names: _recipes(names, stored), ignored)
    return MertFiles(_hubert_fields(fields), part, MERT.unknown(fields))


def _is_mert(folder: Path, width: int) -> bool:
    if not (folder / _CONFIG_FILE).is_file() or not has_weights(folder):
        return False
    try:
        values = read_json(folder / _CONFIG_FILE).values
    except (ValueError, OSError):
        return False
    found = values.get("model_type"), values.get("hidden_size"), values.get("sample_rate", _RATE)
    return found == ("mert_model", width, _RATE)


def _hubert_fields(fields: Fields) -> dict[str, Any]:
    MERT.require(fields)
    return {
        **{name: fields.integer(name) for name in (*_NUMBERS, "num_conv_pos_embedding_groups")},
        **{name: list(fields.integers(name)) for name in _LISTS},
        "num_hidden_layers": fields.count("num_hidden_layers"),
        "layer_norm_eps": fields.number("layer_norm_eps"),
        "conv_bias": fields.flag("conv_bias", False),
        "feat_proj_layer_norm": fields.flag("feat_proj_layer_norm", True),
        "do_stable_layer_norm": fields.flag("do_stable_layer_norm", False),
        "feat_extract_norm": fields.choice("feat_extract_norm", ("group", "layer")),
        "feat_extract_activation": fields.choice("feat_extract_activation", ("gelu",)),
        "hidden_act": fields.choice("hidden_act", ("gelu",)),
        # These belong to training; without them the module has no mask.
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
        "layerdrop": 0.0,
    }


def _recipes(names: Iterable[str], stored: StoredTensors) -> dict[str, Recipe]:
    """MERT's parameters under transformers' names; its one normalised weight may have the older ones."""
    recipes = {}
    for name in names:
        theirs = name.removeprefix(_MODULE)
        older = _OLD_NAMES.get(theirs.removeprefix(_POSITIONS))
        if older and _POSITIONS + older in stored.records:
            theirs = _POSITIONS + older
        recipes[name] = Recipe("copy", (theirs,))
    return recipes
