"""From a checkpoint to modules: built without memory, filled tensor by tensor, strictly."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..codec.encodec import EnCodec
from ..conditioning.mert import Mert
from ..conditioning.style import StyleConditioner
from ..conditioning.text import TextEncoder
from ..conditioning.tokenizer import load_tokenizer, restore_tokenizer
from ..config import ModelConfig
from ..environment import imported, require_packages, torch_defaults, versions
from ..free_memory import told_shortage
from ..lm.cpu_linear import matrices, quick_operations, reads_float16, reads_int8
from ..lm.language_model import LMModel
from ..lm.large_pages import LargePages
from .checkpoint import Checkpoint, MertFiles, Part
from .files.regular import existing
from .files.tensors import Recipe, StoredTensors
from .files.weights import has_weights
from .layouts import adapter, audiocraft, huggingface, single_file
from .parts.text import EMBEDDING, EMBEDDING_AGAIN
from .sizes import check_mert_sizes, check_sizes

logger = logging.getLogger("musicgen")

LM_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_CHOICES = (None, *LM_DTYPES, torch.int8)


@dataclass(frozen=True)
class Components:
    """The networks of a model and its configuration; a style model has one more."""

    config: ModelConfig
    lm: LMModel
    text_encoder: TextEncoder
    codec: EnCodec
    style: StyleConditioner | None = None


@told_shortage("a model was loaded")
@torch_defaults()
def load_components(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    text_dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    operations: Any = nn,
    codec_from: str | Path | None = None,
    text_encoder_from: str | Path | None = None,
    search: Sequence[str | Path] = (),
) -> Components:
    """Load the model at `path`: a folder in the layout of Hugging Face or audiocraft, an audiocraft or a single file.

    dtype: of the language model. None computes in float32 and keeps weights in float16 where that
    loses nothing of them and the CPU is quick at it; torch.int8 computes in float32 with weights
    rounded to int8, on a CPU. A processor that is not quick at it gets float32 weights, and a
    warning where int8 was asked for. text_dtype: of T5, float32 or bfloat16. The codec is always
    float32. operations: where the language model's leaves come from. An audiocraft model lacks its
    text encoder, and may lack its codec: text_encoder_from and codec_from say where these are; else
    they are looked for beside the model, in the folders `search`, and in the local Hugging Face
    cache. Every stored tensor must be known and every wanted one present and of the right shape.
    Nothing of a file is run and nothing is fetched. Raises FileNotFoundError and ValueError that name
    the file and its fault, and ImportError where a package is missing or broken.
    """
    require_packages()
    storage = _storage(dtype, torch.device(device))
    checkpoint = open_checkpoint(path, codec_from, text_encoder_from, search)
    for setting in dict.fromkeys(checkpoint.unknown):
        logger.warning(
            "%s, a setting that this version does not know; if it changes the model's computation, so does its music.",
            setting,
        )
    plan, built = _build(checkpoint, storage.computed, text_dtype, storage.operations(operations))
    modules = {"lm": built.lm, "text": built.text_encoder.t5, "codec": built.codec.model}
    if built.style is not None:
        modules["style"] = built.style
    shapes = {name: module.state_dict() for name, module in modules.items()} | {"lm": plan.state_dict()}
    parts = checkpoint.parts()
    recipes = {name: part.recipes(shapes[name]) for name, part in parts.items()}
    _check(parts, recipes, shapes)
    mert = None if checkpoint.mert is None else load_mert(checkpoint.mert, device)
    # T5 uses one embedding under two names.
    recipes["text"].pop(EMBEDDING_AGAIN, None)
    narrow = matrices(plan) if storage.narrow else set()
    # A CPU reads the language model anew in every step.
    of_lm = (narrow, not storage.int8, LargePages() if torch.device(device).type == "cpu" else None)
    filled = {
        name: _read(recipes[name], shapes[name], part.stored, device, *(of_lm if name == "lm" else ()))
        for name, part in parts.items()
    }
    filled["text"][EMBEDDING_AGAIN] = filled["text"][EMBEDDING]
    for part in parts.values():
        part.stored.require_unchanged()
    _add_training_state(filled["codec"], shapes["codec"], device)
    for name, module in modules.items():
        module.load_state_dict(filled[name], strict=True, assign=True)
        module.eval().requires_grad_(False)
    # One parameter, so that moving the encoder does not make two of it.
    built.text_encoder.t5.encoder.embed_tokens.weight = built.text_encoder.t5.shared.weight
    if built.style is not None:
        # A second codec, since each conditioner is moved by itself.
        built.style.features = mert if built.style.config.features == "mert" else copy.deepcopy(built.codec)
    return built


@told_shortage("MERT was loaded")
@torch_defaults()
def load_mert(files: MertFiles, device: torch.device | str) -> Mert:
    """Load the MERT that a style model hears through, in float32. Raises ValueError on damaged files."""
    check_mert_sizes(files.config, files.part.stored.where)
    imported("transformers", "HubertConfig", "HubertModel")
    try:
        with torch.device("meta"):
            mert = Mert(files.config)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise _unbuildable(files.part.stored.where, "no MERT", error) from error
    shapes = {"mert": mert.state_dict()}
    recipes = {"mert": files.part.recipes(shapes["mert"])}
    _check({"mert": files.part}, recipes, shapes)
    mert.load_state_dict(_read(recipes["mert"], shapes["mert"], files.part.stored, device), strict=True, assign=True)
    mert.fold_weight_norm()
    return mert.eval().requires_grad_(False)


def open_checkpoint(
    path: str | Path,
    codec_from: str | Path | None = None,
    text_encoder_from: str | Path | None = None,
    search: Sequence[str | Path] = (),
) -> Checkpoint:
    """Open the model at `path` for reading, whatever its layout; of a folder that holds both, Hugging Face's."""
    place = Path(path)
    existing(place)
    if single_file.is_checkpoint(place):
        return single_file.open_checkpoint(place, [Path(folder) for folder in search])
    codec, text = (Path(given) if given is not None else None for given in (codec_from, text_encoder_from))
    is_huggingface = huggingface.is_checkpoint(place)
    if not is_huggingface and not audiocraft.is_checkpoint(place) and _lacks_weights(place):
        raise adapter.refusal(place)
    if not is_huggingface and audiocraft.is_checkpoint(place):
        return audiocraft.open_checkpoint(place, codec, text, [Path(folder) for folder in search])
    return huggingface.open_checkpoint(place)


def _lacks_weights(folder: Path) -> bool:
    """Whether an adapter is in the place of a model. One beside a model's weights is no concern of the loader's."""
    return not has_weights(folder) and adapter.is_adapter_folder(folder)


def _build(
    checkpoint: Checkpoint, dtype: torch.dtype, text_dtype: torch.dtype, operations: Any
) -> tuple[LMModel, Components]:
    """The modules, without memory. The first is the language model in plain layers, to read shapes off: the
    host's layers may have no parameters before they are loaded."""
    config, stored = checkpoint.config, checkpoint.tokenizer
    check_sizes(config, checkpoint.where)
    tokenizer = load_tokenizer(stored) if isinstance(stored, Path) else restore_tokenizer(stored, checkpoint.where)
    try:
        with torch.device("meta"):
            plan = LMModel(config.lm, nn, device="meta", dtype=dtype)
            lm = LMModel(config.lm, operations, device="meta", dtype=dtype)
            text_encoder = TextEncoder(config.text_encoder, tokenizer, text_dtype)
            codec = EnCodec(config.codec, config.audio_channels)
            style = None if config.style is None else StyleConditioner(config.style, missing=checkpoint.without_mert)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise _unbuildable(checkpoint.where, "no model", error) from error
    return plan, Components(config, lm, text_encoder, codec, style)


def _unbuildable(where: Path, what: str, error: Exception) -> ValueError:
    reason = f"{type(error).__name__} {error}".splitlines()[0]
    return ValueError(f"{where} describes {what} that can be built with {versions()}: {reason}.")


def _check(
    parts: Mapping[str, Part], recipes: Mapping[str, Mapping[str, Recipe]], shapes: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Hold each set of stored tensors against all that is to be made of it, before memory is taken."""
    for stored in {id(part.stored): part.stored for part in parts.values()}.values():
        users = [name for name, part in parts.items() if part.stored is stored]
        wanted = [(recipe, shapes[name][key].shape) for name in users for key, recipe in recipes[name].items()]
        stored.check(wanted, frozenset().union(*(parts[name].ignored for name in users)))


def _read(
    recipes: Mapping[str, Recipe],
    shapes: Mapping[str, Tensor],
    stored: StoredTensors,
    device: torch.device | str,
    narrow: Collection[str] = (),
    exact: bool = True,
    pages: LargePages | None = None,
) -> dict[str, Tensor]:
    """Make each parameter, one after the other: there is never a second copy of the model.

    narrow: names of those to be float16, where that loses nothing if exact. pages: where they go, on a CPU.
    """
    made = {}
    for name, recipe in recipes.items():
        shape = shapes[name]
        if name in narrow:
            made[name] = _room(shape.shape, torch.float16, device, pages)
            if stored.make(recipe, made[name], exact=exact):
                continue
            if pages is not None:
                pages.take_back()
        made[name] = _room(shape.shape, shape.dtype, device, pages)
        stored.make(recipe, made[name])
    return made


def _room(shape: Sequence[int], dtype: torch.dtype, device: torch.device | str, pages: LargePages | None) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device) if pages is None else pages.zeros(shape, dtype)


@dataclass(frozen=True)
class _Storage:
    """How the language model's matrices are kept. narrow: in float16, where that is exact or int8 is wanted."""

    computed: torch.dtype
    narrow: bool = False
    int8: bool = False

    def operations(self, base: Any) -> Any:
        return quick_operations(base, int8=self.int8) if self.computed == torch.float32 else base


def _storage(dtype: torch.dtype | None, device: torch.device) -> _Storage:
    if dtype not in _CHOICES:
        raise ValueError(
            f"dtype is {dtype}; allowed are float32, bfloat16, float16, int8, and None to suit the weights."
        )
    if dtype == torch.int8 and device.type != "cpu":
        raise ValueError(f"dtype is int8 on {device.type}; allowed is int8 on a CPU, so choose bfloat16 or float16.")
    if dtype == torch.int8 and not reads_int8():
        logger.warning("This processor has no quick int8 product; the model is loaded as if dtype were left open.")
        dtype = None
    if dtype == torch.int8:
        return _Storage(torch.float32, narrow=True, int8=True)
    if dtype is None:
        return _Storage(torch.float32, narrow=device.type == "cpu" and reads_float16())
    return _Storage(dtype)


def _add_training_state(made: dict[str, Tensor], shapes: Mapping[str, Tensor], device: torch.device | str) -> None:
    """Add the tensors that only training reads, for which the package's modules have a place."""
    for name in shapes.keys() - made.keys():
        is_average = name.endswith("embed_avg")
        made[name] = made[name.removesuffix("_avg")] if is_average else torch.ones(shapes[name].shape, device=device)
