"""The T5 text encoder of a checkpoint: its numbers, its names, and where to find one that lies apart."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint import Part
from ..files.settings import Fields, read_json
from ..files.tensors import Recipe, StoredTensors
from ..files.weights import SafetensorsFile, has_weights, read_file, read_weights
from ..tables.transformers import T5
from .search import cached_folder, entries, folders_in, listed, named_first

_CONFIG_FILE = "config.json"
TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
# T5's embedding, one tensor under two names: files hold either or both.
EMBEDDING, EMBEDDING_AGAIN = "shared.weight", "encoder.embed_tokens.weight"
# Fields that shape a T5 encoder. Older files repeat every default of transformers beside these, some no longer allowed.
_NUMBERS = ("vocab_size", "d_model", "d_kv", "d_ff", "num_heads", "relative_attention_num_buckets")
# Kinds of feed-forward layers, and the function of each.
_ACTIVATIONS = {"relu": ("relu",), "gelu": ("gelu",), "gated-gelu": ("gelu_new",), "gated-silu": ("silu",)}
# Tensors that T5's files have beside the encoder.
_DECODER = ("decoder.", "lm_head.")
# Models that hold their T5, and the prefix of its names in them.
_WHOLE_MODELS, _IN_MUSICGEN = ("musicgen", "musicgen_melody"), "text_encoder."
_SINGLE_CONFIG, _AUDIOCRAFT_FILE = "musicgen.config", "state_dict.bin"


@dataclass(frozen=True)
class TextFiles:
    """A T5 encoder on disk: fields of a transformers `T5Config`, its tokenizer (a folder or text), its tensors, and its
    settings that are not known here."""

    config: dict[str, Any]
    tokenizer: Path | Mapping[str, str]
    part: Part
    unknown: tuple[str, ...] = ()


def t5_fields(fields: Fields) -> dict[str, Any]:
    """The fields that shape a T5 encoder, out of a transformers `T5Config`."""
    T5.require(fields)
    kind = fields.choice("feed_forward_proj", tuple(_ACTIVATIONS))
    fields.require("dense_act_fn", *_ACTIVATIONS[kind])
    fields.require("is_gated_act", kind.startswith("gated"))
    return {
        **{name: fields.integer(name) for name in _NUMBERS},
        "num_layers": fields.count("num_layers"),
        "relative_attention_max_distance": fields.integer("relative_attention_max_distance"),
        "layer_norm_epsilon": fields.number("layer_norm_epsilon"),
        "feed_forward_proj": kind,
    }


def text_recipes(names: Iterable[str], stored: Collection[str], prefix: str = "text_encoder.") -> dict[str, Recipe]:
    """The T5 encoder's parameters: transformers' own names under a prefix, with `encoder.` or without.

    The embedding is found under either of its names; its second name is among the recipes only where
    both are stored.
    """
    recipes = {}
    for name in names:
        spellings = [prefix + name, prefix + name.removeprefix("encoder.")]
        if name == EMBEDDING:
            spellings += [prefix + EMBEDDING_AGAIN, prefix + EMBEDDING_AGAIN.removeprefix("encoder.")]
        found = next((spelling for spelling in spellings if spelling in stored), None)
        if found or name != EMBEDDING_AGAIN:
            recipes[name] = Recipe("copy", (found or spellings[0],))
    if recipes.get(EMBEDDING) == recipes.get(EMBEDDING_AGAIN):
        recipes.pop(EMBEDDING_AGAIN, None)
    return recipes


def open_text_encoder(path: Path, name: str, width: int, places: Sequence[Path]) -> TextFiles:
    """Open the T5 at `path`: a folder as transformers writes it, a safetensors file alone, or the T5 of a whole model,
    which is a folder in the Hugging Face layout or a single file.

    name: the model's name for its text encoder. width: of a state, as the model wants it. places:
    where a tokenizer may be, if not beside the weights; all T5s share one. Raises ValueError and
    FileNotFoundError.
    """
    fields, stored, prefix, tokenizer = _open(path, places)
    config = t5_fields(fields)
    gated = config["feed_forward_proj"].startswith("gated")
    if config["d_model"] != width or gated != any(word in name.lower() for word in ("flan", "v1_1", "v1.1")):
        raise ValueError(
            f"{path} is a T5 of width {config['d_model']} with {config['feed_forward_proj']}; "
            f"the model was trained with {name}, of width {width}."
        )
    ignored = frozenset(key for key in stored.records if not key.startswith(prefix) or key.startswith(_DECODER))
    part = Part(stored, lambda names: text_recipes(names, stored.records, prefix), ignored)
    return TextFiles(config, tokenizer, part, T5.unknown(fields))


def _open(path: Path, places: Sequence[Path]) -> tuple[Fields, StoredTensors, str, Path | Mapping[str, str]]:
    """The fields of a T5, the tensors that it is among, the prefix of its names there, and its tokenizer."""
    if path.is_dir():
        fields = read_json(path / _CONFIG_FILE)
        whole = fields.choice("model_type", ("t5", *_WHOLE_MODELS)) != "t5"
        own = fields.part("text_encoder") if whole else fields
        t5_fields(own)  # before the weights: its errors tell more than theirs
        return own, read_weights(path), _IN_MUSICGEN if whole else "", _tokenizer_folder(path, places)
    if table := _single_file(path):
        stored = StoredTensors(path, read_file(path))
        tokenizer = {key: table[f"musicgen.{key}"] for key in ("tokenizer", "spiece") if f"musicgen.{key}" in table}
        fields = Fields(json.loads(table[_SINGLE_CONFIG]), f"{path}: {_SINGLE_CONFIG}")
        return fields.part("text_encoder"), stored, _IN_MUSICGEN, tokenizer
    stored = StoredTensors(path, read_file(path))
    return _fields_of_shapes(stored), stored, "", _tokenizer_folder(path, places)


def _single_file(path: Path) -> Mapping[str, str]:
    """The metadata of a model in one file, empty of another file."""
    metadata = SafetensorsFile(path).metadata if path.suffix.lower() == ".safetensors" else {}
    return metadata if _SINGLE_CONFIG in metadata else {}


def find_text_encoder(
    name: str, width: int, beside: Path, given: Path | None = None, search: Sequence[Path] = ()
) -> TextFiles:
    """The T5 that a language model names but does not hold.

    Looked for in this order: `given`, and then nowhere else; the folder `beside` and the folders in
    it; the places in `search` and their entries; the local Hugging Face cache; the other models that lie
    in these places or next to `beside`. Nothing is fetched.
    Raises FileNotFoundError that tells where to put it, ValueError if `given` does not fit.
    """
    places = [beside, *search]
    if given is not None:
        return open_text_encoder(given, name, width, [given.parent, *places])
    for path in _candidates(name, places):
        try:
            return open_text_encoder(path, name, width, places)
        except (ValueError, FileNotFoundError):
            continue
    raise FileNotFoundError(
        f"the model in {beside} needs the text encoder {name:.80} of width {width}, which is neither beside it, nor in "
        f"{listed(search)}, nor in another model there, nor in the Hugging Face cache; put its config.json, "
        f"tokenizer.json and model.safetensors into a folder {name.rsplit('/', 1)[-1]:.80} in the model's own."
    )


def _candidates(name: str, places: Sequence[Path]) -> Iterator[Path]:
    def is_t5(path: Path) -> bool:
        if path.is_dir():
            return (path / _CONFIG_FILE).is_file() and has_weights(path)
        return path.suffix == ".safetensors" and "t5" in path.name.lower()

    for place in places:
        yield from (path for path in named_first([place, *entries(place)], name) if is_t5(path))
    for repository in dict.fromkeys((name if "/" in name else f"google-t5/{name}", name)):
        folder = cached_folder(repository)
        if folder is not None:
            yield folder
    yield from _in_models([*places, places[0].parent], name)


def _in_models(places: Sequence[Path], name: str) -> Iterator[Path]:
    """The T5s that other models have in their folders, their weights or their file."""
    inside = [path for place in places for path in entries(place)]
    models = (path for path in inside if (path / _AUDIOCRAFT_FILE).is_file() or has_weights(path))
    for folder in named_first(folders_in(models), name):
        if (folder / _CONFIG_FILE).is_file() and has_weights(folder):
            yield folder
    for path in dict.fromkeys(inside):
        try:
            is_model = path.is_dir() and has_weights(path) and _model_type(path) in _WHOLE_MODELS
            if is_model or (path.is_file() and _single_file(path)):
                yield path
        except (ValueError, OSError):
            continue


def _model_type(folder: Path) -> Any:
    return read_json(folder / _CONFIG_FILE).values.get("model_type") if (folder / _CONFIG_FILE).is_file() else None


def _tokenizer_folder(path: Path, places: Sequence[Path]) -> Path:
    own = path if path.is_dir() else path.parent
    for folder in (own, *places, *folders_in(places)):
        if any((folder / name).is_file() for name in TOKENIZER_FILES):
            return folder
    raise FileNotFoundError(
        f"{own} holds neither {TOKENIZER_FILES[0]} nor {TOKENIZER_FILES[1]}; copy T5's tokenizer file into it."
    )


def _fields_of_shapes(stored: StoredTensors) -> Fields:
    """The numbers of a T5 that has no config.json, off the shapes of its tensors."""
    shapes = {name.removeprefix("encoder."): shape for name, shape in stored.shapes().items()}
    first = "block.0.layer"
    try:
        vocab_size, d_model = shapes.get("shared.weight") or shapes["embed_tokens.weight"]
        buckets, heads = shapes[f"{first}.0.SelfAttention.relative_attention_bias.weight"]
        inner = shapes[f"{first}.0.SelfAttention.q.weight"][0]
        gated = f"{first}.1.DenseReluDense.wi_0.weight" in shapes
        d_ff = shapes[f"{first}.1.DenseReluDense.{'wi_0' if gated else 'wi'}.weight"][0]
        layers = sum(name.startswith("block.") and name.endswith(".SelfAttention.q.weight") for name in shapes)
        values = {
            "vocab_size": vocab_size,
            "d_model": d_model,
            "d_kv": inner // heads,
            "d_ff": d_ff,
            "num_layers": layers,
            "num_heads": heads,
            "relative_attention_num_buckets": buckets,
            # These two shape no tensor; they are those of every T5.
            "relative_attention_max_distance": 128,
            "layer_norm_epsilon": 1e-6,
            "feed_forward_proj": "gated-gelu" if gated else "relu",
        }
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"{stored.where} is not a T5 encoder ({error!r}); choose another file.") from error
    return Fields(values, str(stored.where))
