"""A whole model in one safetensors file: language model, text encoder, codec, tokenizer and configuration.

The metadata holds, beside the `format` that other programs look for, `musicgen.format` (the version of
this layout, "1"), `musicgen.config` (a :class:`ModelConfig` as JSON) and the tokenizer under
`musicgen.tokenizer` (the text of a tokenizer.json) or `musicgen.spiece` (a spiece.model in base64). The
tensors are named as in this library: `lm.`, `text_encoder.`, `codec.` and, of a style model, `style.` before
a parameter's own name, so that every parameter is a copy of one tensor. T5's embedding is stored once, codec
and style condition in float32, the codec with its weight normalisation folded in. Nothing else is needed to
load the model, but that a style model may hear through MERT, which is a model apart here as elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, BinaryIO, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from ...config import CodecConfig, ModelConfig, PatternConfig, StyleConfig
from ...writing import Numbered, write_file
from ..checkpoint import Checkpoint, Part
from ..files.settings import MAX_WHOLE, Fields, is_number, shown
from ..files.tensors import Recipe, StoredTensors
from ..files.weights import SafetensorsFile
from ..parts.mert import find_mert, how_to_get
from ..parts.text import EMBEDDING_AGAIN, t5_fields
from .adapter import are_adapter_names, refusal

SUFFIX = ".safetensors"
VERSION = "1"
TOKENIZER_KEYS = ("tokenizer", "spiece")
_PREFIX = "musicgen."
_LM, _TEXT, _CODEC, _STYLE = "lm.", "text_encoder.", "codec.", "style."
_HEARD_THROUGH = "features."  # of a style condition: a model of its own, or the codec once more
_TRAINING_STATE = ("inited", "cluster_size", "embed_avg")
_FROM_ZERO = ("flatten_first", "empty_initial")
_LONGEST_SECONDS, _LARGEST_DELAY = 3600, 1000
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tensor to write. read: makes it when its turn has come, on the CPU or not."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


# Reading


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a file that may be in this layout; its content is checked when it is read."""
    return path.suffix.lower() == SUFFIX and not path.is_dir()


def open_checkpoint(path: Path, search: Sequence[Path] = ()) -> Checkpoint:
    """Open a file. A style model's MERT is looked for beside it and as :func:`find_mert` looks in `search`.

    Raises ValueError that names its fault.
    """
    file = SafetensorsFile(path)
    metadata = _checked(file)
    read_config(path, metadata)  # before the weights: its errors tell more than theirs
    stored = StoredTensors(path, file.records())
    config = read_config(path, metadata, stored.records)
    lm, text, codec = (Part(stored, partial(_recipes, prefix)) for prefix in (_LM, _TEXT, _CODEC))
    checkpoint = Checkpoint(
        where=path, config=config, tokenizer=read_tokenizer(path, metadata), lm=lm, text=text, codec=codec
    )
    if config.style is None:
        return checkpoint
    mert = find_mert(config.style.feature_dim, path.parent, search) if config.style.features == "mert" else None
    style = Part(stored, partial(_recipes, _STYLE))
    return dataclasses.replace(checkpoint, style=style, mert=mert, without_mert=how_to_get(path.parent))


def _recipes(prefix: str, names: Iterable[str]) -> dict[str, Recipe]:
    return {name: Recipe("copy", (prefix + name,)) for name in names if _is_stored(name)}


def _is_stored(name: str) -> bool:
    """Whether a parameter has a tensor: not the second name of T5's embedding, nor the features of a style, nor
    tensors that only training reads."""
    return name != EMBEDDING_AGAIN and not name.startswith(_HEARD_THROUGH) and not name.endswith(_TRAINING_STATE)


def read_config(path: Path, metadata: Mapping[str, str], stored: Collection[str] = ()) -> ModelConfig:
    """The configuration in the metadata of the file `path`; the model is named after the file.

    stored: names of the stored tensors; a configuration that counts more layers than there are tensors is
    refused before anything is built. Raises ValueError on a configuration with a field missing, unknown or
    out of range.
    """
    where = f"{path}: {_PREFIX}config"
    try:
        values = json.loads(metadata[f"{_PREFIX}config"])
    except ValueError as error:
        raise ValueError(f"{where} is no JSON ({error}); save the model again.") from error
    config = dataclasses.replace(_restore(ModelConfig, values, where), name=path.stem)
    text = t5_fields(Fields(config.text_encoder, f"{where}.text_encoder"))
    config = dataclasses.replace(config, text_encoder=text)
    _check(config, where, len(stored))
    return config


def read_tokenizer(path: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    """The tokenizer in the metadata of the file `path`, under one of TOKENIZER_KEYS."""
    found = {key: metadata[_PREFIX + key] for key in TOKENIZER_KEYS if _PREFIX + key in metadata}
    if len(found) != 1:
        raise ValueError(f"{path} holds {len(found)} tokenizers instead of one; save the model again.")
    return found


def _checked(file: SafetensorsFile) -> dict[str, str]:
    """A file's metadata. Raises ValueError where it is another program's, or of a later version of this pack."""
    path, metadata = file.file.path, file.metadata
    version = metadata.get(f"{_PREFIX}format")
    if version is None and are_adapter_names(file.records()):
        raise refusal(path)
    if version is None or f"{_PREFIX}config" not in metadata:
        raise ValueError(
            f"{path} is no single-file MusicGen model: it holds no settings ({_PREFIX}config); if it "
            "is the weights file of a model folder, put it beside that model's config.json into a folder of its own."
        )
    if version != VERSION:
        raise ValueError(
            f"{path} is in version {version!r:.20} of the single-file layout; this pack reads {VERSION}, so a later "
            "version of it wrote the file: update this pack."
        )
    return metadata


def _restore(hint: Any, value: Any, where: str) -> Any:
    """A value out of JSON as the type that a field of a configuration has."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _restore_fields(hint, value, where)
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else _restore(inner, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_restore(arguments[0], item, where) for item in value)
    scalars = isinstance(value, dict) and all(type(item) in (int, float, str, bool) for item in value.values())
    if scalars and origin is not None and issubclass(origin, Mapping):
        return value
    if hint is float and is_number(value):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise ValueError(f"{where} is {shown(value)}, which is not of the type {hint}; save the model again.")


def _restore_fields(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {type(value).__name__}, where a JSON object is needed; save the model again.")
    hints, fields = get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if missing := sorted(required - value.keys()):
        raise ValueError(f"{where} lacks the field {missing[0]!r}; save the model again.")
    if unknown := sorted(value.keys() - fields.keys()):
        raise ValueError(
            f"{where} has the unknown field {unknown[0]!r}; update this pack, which may be too old for it."
        )
    restored = {name: _restore(hints[name], item, f"{where}.{name}") for name, item in value.items()}
    for name, item in restored.items():
        low = 0 if name in _FROM_ZERO else 1
        if type(item) is int and not low <= item <= MAX_WHOLE:
            raise ValueError(f"{where}.{name} is {shown(item)}; allowed is a whole number from {low} to {MAX_WHOLE}.")
    return kind(**restored)


def _check(config: ModelConfig, where: str, num_tensors: int) -> None:
    """Raise ValueError where the numbers of a configuration contradict each other."""
    lm, codec, text, style = config.lm, config.codec, config.text_encoder, config.style
    counts = [lm.num_layers, codec.lstm, codec.n_residual_layers, codec.num_codebooks, len(codec.ratios)]
    counts += [text["num_layers"]] + ([] if style is None else [style.num_layers])
    faults = {
        "its layers are more than the file's tensors": num_tensors and max(counts) > num_tensors,
        "its channels are neither 1 nor 2": config.audio_channels > 2,
        "language model and codec have different codebooks": (lm.num_codebooks, lm.card)
        != (codec.num_codebooks * config.audio_channels, codec.card),
        "its delays do not fit its codebooks": len(config.delays) != lm.num_codebooks or not _are_delays(config.delays),
        "its pattern does not fit its codebooks": config.pattern is not None
        and not _is_pattern(config.pattern, lm.num_codebooks),
        f"its window is not above 0 and at most {_LONGEST_SECONDS} seconds": not 0 < config.window <= _LONGEST_SECONDS,
        f"a ratio of the codec is not from 1 to {MAX_WHOLE}": not codec.ratios
        or not all(1 <= ratio <= MAX_WHOLE for ratio in codec.ratios),
        "the text is of another width than the language model takes": text.get("d_model") != lm.text_dim,
        "the style is of another width than the language model takes": lm.style_dim != (style and style.dim),
        "its style condition cannot be": style is not None and not _is_style(style, codec),
    }
    if found := [fault for fault, is_fault in faults.items() if is_fault]:
        raise ValueError(f"{where} describes no model, since {' and '.join(found)}; save the model again.")


def _are_delays(delays: Sequence[int]) -> bool:
    return all(0 <= delay <= _LARGEST_DELAY for delay in delays)


def _is_pattern(pattern: PatternConfig, num_codebooks: int) -> bool:
    """Whether the numbers of a pattern are those of its kind for so many codebooks."""
    delays, places = pattern.delays, pattern.flattening
    count = {"delay": num_codebooks, "unroll": num_codebooks, "coarse_first": num_codebooks - 1, "music_lm": 0}
    fits = len(delays) == count.get(pattern.kind) and list(delays) == sorted(delays) and _are_delays(delays)
    if pattern.kind == "unroll":
        inside = len(places) == num_codebooks and all(0 <= place < num_codebooks for place in places)
        return fits and inside and len(set(zip(places, delays, strict=True))) == len(set(places))
    early = max(pattern.flatten_first, pattern.empty_initial) <= _LARGEST_DELAY
    return fits and early and num_codebooks % pattern.group_by == 0 if pattern.kind == "music_lm" else fits and early


def _is_style(style: StyleConfig, codec: CodecConfig) -> bool:
    """Whether a style condition's numbers agree with one another, and with the codec that it may hear through."""
    features = {"mert": style.feature_codebooks == 1}
    features["encodec"] = style.feature_codebooks <= codec.num_codebooks and style.feature_dim == codec.card
    excerpt = 0 < style.min_excerpt <= style.excerpt_length <= style.max_excerpt
    return features.get(style.features, False) and excerpt and style.eval_q <= style.num_codebooks


# Writing


def entries(
    lm: Mapping[str, Tensor],
    text_encoder: Mapping[str, Tensor],
    codec: Mapping[str, Tensor],
    dtype: torch.dtype,
    style: Mapping[str, Tensor] | None = None,
) -> list[Entry]:
    """The tensors of a model's state dicts: the language model in `dtype`, the text encoder in the format that it has,
    the others in float32. A tensor is first moved to the CPU, then cast, so that one may compute itself."""
    wanted: list[tuple[str, Mapping[str, Tensor], torch.dtype | None]] = [
        (_LM, lm, dtype),
        (_TEXT, text_encoder, None),
        (_CODEC, codec, torch.float32),
        (_STYLE, style or {}, torch.float32),
    ]
    return [
        Entry(prefix + name, kind or tensor.dtype, tuple(tensor.shape), partial(tensor.to, "cpu"))
        for prefix, tensors, kind in wanted
        for name, tensor in tensors.items()
        if _is_stored(name)
    ]


def write(
    target: Path | Numbered,
    config: ModelConfig,
    tokenizer: Mapping[str, str],
    tensors: Sequence[Entry],
    on_bytes: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a checkpoint, tensor by tensor, as a whole or not at all; return its path. See :func:`write_file`.

    tokenizer: one of TOKENIZER_KEYS and its text. on_bytes: called before each tensor with the bytes
    written and those to write; an exception from it cancels and leaves nothing behind, as does OSError.
    """
    ordered = sorted(tensors, key=lambda entry: (-entry.dtype.itemsize, entry.name))
    metadata = {"format": "pt", f"{_PREFIX}format": VERSION, f"{_PREFIX}config": json.dumps(dataclasses.asdict(config))}
    header = _header(ordered, metadata | {_PREFIX + key: text for key, text in tokenizer.items()})
    total = sum(entry.nbytes for entry in ordered)

    def write_all(file: BinaryIO) -> None:
        file.write(struct.pack("<Q", len(header)) + header)
        done = 0
        for entry in ordered:
            if on_bytes is not None:
                on_bytes(done, total)
            file.write(_bytes(entry))
            done += entry.nbytes

    return write_file(target, write_all, 8 + len(header) + total)


def _header(tensors: Sequence[Entry], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for entry in tensors:
        header[entry.name] = {
            "dtype": _DTYPES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, offset + entry.nbytes],
        }
        offset += entry.nbytes
    text = json.dumps(header, ensure_ascii=False).encode()
    # The tensors begin at a multiple of eight bytes.
    return text + b" " * (-len(text) % 8)


def _bytes(entry: Entry) -> Any:
    tensor = entry.read().detach().to(entry.dtype).contiguous()
    if tuple(tensor.shape) != entry.shape:
        raise ValueError(f"{entry.name} is of shape {list(tensor.shape)} when written, was {list(entry.shape)} before.")
    return tensor.reshape(-1).view(torch.uint8).numpy()
