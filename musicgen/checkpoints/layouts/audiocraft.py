"""audiocraft's layout: `state_dict.bin` with a language model and its settings, codec and text encoder apart.

Settings of features that are not implemented are refused by name; `tables/` lists every setting.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...config import RELEASED_STRIDE, ChromaConfig, LMConfig, ModelConfig, PatternConfig, StyleConfig
from ..checkpoint import Checkpoint, Part
from ..files.regular import is_there
from ..files.settings import Fields, shown
from ..files.tensors import Recipe, StoredTensors
from ..parts.codec import CodecNeeds, find_codec
from ..parts.mert import find_mert, how_to_get
from ..parts.style import style_config, style_part
from ..parts.text import find_text_encoder
from ..tables import audiocraft as tables
from .adapter import are_adapter_names, refusal
from .audiocraft_file import SolverFile, read_solver_file

LM_FILE = "state_dict.bin"
FILE_SUFFIXES = (".bin", ".pt", ".pth", ".th")
_CONDITIONERS = "condition_provider.conditioners"
_TEXT, _WAVE = "description", "self_wav"
_TEXT_PROJECTION, _WAVE_PROJECTION = (f"{_CONDITIONERS}.{name}.output_proj" for name in (_TEXT, _WAVE))
# The window of a Fourier transform, which is computed here.
_IGNORED = frozenset({f"{_CONDITIONERS}.{_WAVE}.chroma.spec.window"})
_HEAD_DIM, _RELEASED_RATE, _RELEASED_SECONDS, _LONGEST_SECONDS = 64, 32000, 30, 3600
_SOUND_TEXT_DIM = 1024  # of T5-large, which of the released models AudioGen alone has
# AudioGen moves on by less of its window than music does: by two of its ten seconds.
_SOUND_STRIDE = 0.2
_MOST_COLUMNS = 1000
_MAX_PERIOD, _LONGEST_TRANSFORM = 10000.0, 1 << 20


def is_checkpoint(path: Path) -> bool:
    """Whether a path looks like a model in this layout: a folder with its file, or such a file."""
    return is_there(path / LM_FILE) or (path.suffix in FILE_SUFFIXES and not path.is_dir())


def open_checkpoint(
    path: Path,
    codec_from: Path | None = None,
    text_encoder_from: Path | None = None,
    search: Sequence[Path] = (),
) -> Checkpoint:
    """Open a folder with a `state_dict.bin`, or such a file alone.

    codec_from, text_encoder_from: where these are; None looks for them, see :func:`find_codec` and
    :func:`find_text_encoder`, which also take `search`. Raises FileNotFoundError and ValueError.
    """
    solver = read_solver_file(path / LM_FILE if path.is_dir() else path)
    solver.require_weights()
    if are_adapter_names(solver.stored.records):
        raise refusal(path)
    folder, shapes = solver.path.parent, solver.stored.shapes()
    if not solver.settings:
        solver = replace(solver, settings=settings_of_shapes(solver))
    root = solver.fields
    tables.LM.require(root)
    lm, channels = lm_config(root, shapes), _audio_channels(root)
    rate = root.integer("sample_rate", _RELEASED_RATE)
    chroma = None if lm.chroma_dim is None else _chroma_config(root, rate)
    style = None
    if lm.style_dim is not None:
        style = style_config(
            _conditioner(root, _WAVE)[1], solver.stored, rate, root.get("compression_model_checkpoint", None)
        )
    if lm.num_codebooks % channels:
        raise ValueError(f"{root.where}: {lm.num_codebooks} codebooks and {channels} channel(s) make no model.")
    needs = CodecNeeds(rate, lm.num_codebooks // channels, lm.card)
    codec_name = root.get("compression_model_checkpoint", None)
    codec = find_codec(needs, codec_name if isinstance(codec_name, str) else None, folder, codec_from, search)
    if codec.config.num_codebooks != needs.num_codebooks and root.get("compression_model_n_q", None) is None:
        raise ValueError(
            f"{root.where}: a model of {lm.num_codebooks} codebooks for {channels} channel(s) does not fit "
            f"{codec.where}, which has {codec.config.num_codebooks}; give the codec that it was trained on."
        )
    text = find_text_encoder(_text_encoder_name(root), lm.text_dim, folder, text_encoder_from, search)
    delays, pattern = _pattern(root, lm.num_codebooks)
    config = ModelConfig(
        name=path.name if path.is_dir() else path.stem,
        lm=lm,
        codec=replace(codec.config, num_codebooks=needs.num_codebooks),
        text_encoder=text.config,
        chroma=chroma,
        style=style,
        audio_channels=channels,
        delays=delays,
        window=_window(root),
        extend_stride=_window(root) * (_SOUND_STRIDE if root.get("solver", None) == "audiogen" else RELEASED_STRIDE),
        pattern=pattern,
    )
    lm_tensors = lm_part(config, solver.stored)
    checkpoint = Checkpoint(
        where=solver.path,
        config=config,
        tokenizer=text.tokenizer,
        lm=lm_tensors,
        text=text.part,
        codec=codec.part,
        settings=solver.settings,
        unknown=(*tables.LM.unknown(root), *codec.unknown, *text.unknown),
    )
    return checkpoint if style is None else _with_style(checkpoint, style, solver.stored, search)


def _with_style(
    checkpoint: Checkpoint, style: StyleConfig, stored: StoredTensors, search: Sequence[Path]
) -> Checkpoint:
    folder = checkpoint.where.parent
    mert = find_mert(style.feature_dim, folder, search) if style.features == "mert" else None
    unknown = checkpoint.unknown + (() if mert is None else mert.unknown)
    part = style_part(style, stored)
    return replace(checkpoint, style=part, mert=mert, without_mert=how_to_get(folder), unknown=unknown)


def lm_part(config: ModelConfig, stored: StoredTensors) -> Part:
    """The language model among the tensors of its file."""
    return Part(stored, lambda _names: lm_recipes(config, stored.records), _IGNORED & stored.records.keys())


def lm_config(root: Fields, shapes: dict[str, tuple[int, ...]]) -> LMConfig:
    """The language model that the settings describe; shapes of the tensors tell the width of the text."""
    fields, fuser = root.part("transformer_lm"), root.part("fuser")
    root.choice("lm_model", ("transformer_lm",), "transformer_lm")
    cross, prepend = (fuser.get(name, []) for name in ("cross", "prepend"))
    is_text = cross == [_TEXT] and prepend == []
    if not is_text and (cross != [] or sorted(map(str, prepend)) != [_TEXT, _WAVE]):
        raise ValueError(
            f"{fuser.where}: cross is {shown(cross)} and prepend is {shown(prepend)}; this pack implements "
            f"cross [{_TEXT}], and prepend [{_WAVE}, {_TEXT}]."
        )
    fields.require("cross_attention", False, *([True] if is_text else []))
    strange = [name for name in root.part("conditioners").values if name not in (_TEXT, _WAVE, "args")]
    if strange:
        raise ValueError(
            f"{root.where}: conditioners has {strange[0]!r:.80}, which is not implemented; allowed are {_TEXT} and "
            f"{_WAVE}."
        )
    kind = None if is_text else _conditioner(root, _WAVE)[0]
    if kind not in (None, "chroma_stem", "style"):
        raise ValueError(
            f"{root.where}: {_WAVE} is conditioned by {shown(kind)}; this pack implements chroma_stem and style."
        )
    projection = shapes.get(f"{_TEXT_PROJECTION}.weight", (0, 0))
    dim = fields.integer("dim")
    return LMConfig(
        dim=dim,
        num_layers=fields.count("num_layers"),
        num_heads=fields.integer("num_heads"),
        # Cut off as audiocraft does, but for the rounding of a scale that was computed from two widths.
        ffn_dim=int(dim * fields.number("hidden_scale", high=1024) + 1e-6),
        num_codebooks=fields.count("n_q"),
        card=fields.integer("card"),
        cross_attention=is_text,
        text_dim=projection[-1] if projection else 0,
        text_projection=True,
        chroma_dim=12 if kind == "chroma_stem" else None,
        style_dim=shapes.get(f"{_WAVE_PROJECTION}.weight", (0, 0))[-1] if kind == "style" else None,
        max_period=fields.number("max_period", _MAX_PERIOD),
        positional_scale=fields.real("positional_scale", 1.0),
    )


def _audio_channels(root: Fields) -> int:
    interleave = root.part("interleave_stereo_codebooks", {})
    channels = root.integer("channels", 1)
    if channels != (2 if interleave.flag("use", False) else 1):
        raise ValueError(
            f"{root.where}: channels is {channels}; this pack implements 1, and 2 with interleave_stereo_codebooks."
        )
    return channels


def _pattern(root: Fields, num_codebooks: int) -> tuple[tuple[int, ...], PatternConfig | None]:
    """The delays of the codebooks, and the pattern where these alone do not tell it."""
    patterns, none = root.part("codebooks_pattern"), (0,) * num_codebooks
    older = root.part("transformer_lm").get("q_modeling", None)
    kind = patterns.choice("modeling", ("delay", "parallel", "unroll", "coarse_first", "musiclm", "music_lm"), older)
    if kind == "parallel":
        return none, _early(patterns.part("parallel", {}), none)
    fields = patterns.part(kind, {})
    if kind == "delay":
        delays = _rising(fields, "delays", list(range(num_codebooks)), num_codebooks)
        return delays, _early(fields, delays)
    if kind in ("musiclm", "music_lm"):
        group_by = fields.integer("group_by", 2)
        if num_codebooks % group_by:
            raise ValueError(f"{fields.where}: group_by is {group_by}; allowed are divisors of {num_codebooks}.")
        return none, PatternConfig("music_lm", group_by=group_by)
    if kind == "coarse_first":
        return none, PatternConfig(kind, _rising(fields, "delays", [0] * (num_codebooks - 1), num_codebooks - 1))
    flattening = fields.integers("flattening", list(range(num_codebooks)), low=0, high=num_codebooks - 1)
    delays = _rising(fields, "delays", [0] * num_codebooks, num_codebooks)
    if len(flattening) != num_codebooks or len(set(zip(flattening, delays, strict=True))) != len(set(flattening)):
        raise ValueError(
            f"{fields.where}: flattening is {list(flattening)} with delays {list(delays)}; allowed are {num_codebooks} "
            "columns, each with one delay."
        )
    return none, PatternConfig(kind, delays, flattening)


def _early(fields: Fields, delays: tuple[int, ...]) -> PatternConfig | None:
    """A pattern of delays that begins with flattened frames or with empty columns; None for a plain one."""
    first, empty = (_column_count(fields, name) for name in ("flatten_first", "empty_initial"))
    return PatternConfig("delay", delays, flatten_first=first, empty_initial=empty) if first or empty else None


def _column_count(fields: Fields, name: str) -> int:
    value = fields.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_COLUMNS:
        raise ValueError(
            f"{fields.where}: {name} is {shown(value)}; allowed is a whole number from 0 to {_MOST_COLUMNS}."
        )
    return value


def _rising(fields: Fields, name: str, default: list[int], count: int) -> tuple[int, ...]:
    """A list of `count` delays that do not fall."""
    if count == 0:
        return ()
    delays = fields.integers(name, default, low=0, high=_MOST_COLUMNS)
    if len(delays) != count or list(delays) != sorted(delays):
        raise ValueError(f"{fields.where}: {name} is {list(delays)}; allowed are {count} that do not fall.")
    return delays


def _window(root: Fields) -> float:
    """Seconds that the model was trained on at a time."""
    return root.part("dataset", {}).number("segment_duration", _RELEASED_SECONDS, high=_LONGEST_SECONDS)


def _conditioner(root: Fields, name: str) -> tuple[str, Fields]:
    """A conditioner's kind and its settings."""
    conditioner = root.part("conditioners").part(name)
    kind = conditioner.get("model")
    return kind, conditioner.part(kind, {}) if isinstance(kind, str) else conditioner


def _chroma_config(root: Fields, rate: int) -> ChromaConfig:
    fields = _conditioner(root, _WAVE)[1]
    exponent = fields.integer("radix2_exp", 14)
    if not 4 <= exponent <= 20:
        raise ValueError(f"{fields.where}: radix2_exp is {exponent}; allowed is a whole number from 4 to 20.")
    rate = fields.integer("sample_rate", rate)
    win_length = fields.integer("winlen", 2**exponent, high=_LONGEST_TRANSFORM)
    n_fft = fields.integer("nfft", win_length, high=_LONGEST_TRANSFORM)
    hop_length = fields.integer("winhop", max(win_length // 4, 1), high=_LONGEST_TRANSFORM)
    if n_fft < max(win_length, 2):
        raise ValueError(f"{fields.where}: nfft is {n_fft} and winlen {win_length}; allowed is an nfft from winlen on.")
    norm = fields.get("norm", math.inf)
    return ChromaConfig(
        sample_rate=rate,
        n_fft=n_fft,
        hop_length=hop_length,
        num_chroma=12,
        # Centred frames over the window of the training, or over one transform where that is longer.
        chroma_length=1 + (max(int(rate * _window(root)), n_fft) - n_fft % 2) // hop_length,
        win_length=None if win_length == n_fft else win_length,
        one_hot=fields.flag("argmax", True),
        norm=None if norm in (math.inf, "inf") else fields.number("norm"),
    )


def _text_encoder_name(root: Fields) -> str:
    kind, fields = _conditioner(root, _TEXT)
    if kind != "t5":
        raise ValueError(f"{root.where}: {_TEXT} is conditioned by {shown(kind)}; this pack implements t5.")
    return str(fields.get("name"))


def lm_recipes(config: ModelConfig, stored: Collection[str]) -> dict[str, Recipe]:
    """Our parameter names of the language model, and the stored tensors that each is made of."""
    K = range(config.num_codebooks)
    recipes = {
        "embedding.weight": Recipe("concat", tuple(f"emb.{k}.weight" for k in K)),
        "head.weight": Recipe("concat", tuple(f"linears.{k}.weight" for k in K)),
    }
    copies = {"out_norm": "out_norm", "description_proj": _TEXT_PROJECTION}
    if not config.lm.cross_attention:
        copies["melody_proj" if config.lm.style_dim is None else "style_proj"] = _WAVE_PROJECTION
    for index in range(config.lm.num_layers):
        layer = f"transformer.layers.{index}"
        attention = _attention(f"{layer}.self_attn", stored)
        recipes[f"{layer}.self_attn.qkv.weight"] = Recipe("copy", (f"{attention}.in_proj_weight",))
        recipes[f"{layer}.self_attn.out.weight"] = Recipe("copy", (f"{attention}.out_proj.weight",))
        recipes[f"{layer}.ffn_in.weight"] = Recipe("copy", (f"{layer}.linear1.weight",))
        recipes[f"{layer}.ffn_out.weight"] = Recipe("copy", (f"{layer}.linear2.weight",))
        copies |= {f"{layer}.norm_self": f"{layer}.norm1", f"{layer}.norm_ffn": f"{layer}.norm2"}
        if config.lm.cross_attention:
            attention = _attention(f"{layer}.cross_attention", stored)
            packed = (f"{attention}.in_proj_weight",)
            recipes[f"{layer}.cross_attn.q.weight"] = Recipe("copy", packed, (0, 1, 3))
            recipes[f"{layer}.cross_attn.kv.weight"] = Recipe("copy", packed, (1, 3, 3))
            recipes[f"{layer}.cross_attn.out.weight"] = Recipe("copy", (f"{attention}.out_proj.weight",))
            copies[f"{layer}.norm_cross"] = f"{layer}.norm_cross"
    for ours, theirs in copies.items():
        for kind in ("weight", "bias"):
            recipes[f"{ours}.{kind}"] = Recipe("copy", (f"{theirs}.{kind}",))
    return recipes


def _attention(name: str, stored: Collection[str]) -> str:
    """Models trained without the memory-efficient attention have PyTorch's own module, one level deeper."""
    return f"{name}.mha" if f"{name}.mha.in_proj_weight" in stored else name


def settings_of_shapes(solver: SolverFile) -> dict[str, Any]:
    """The settings of bare weights, as every released model has them, with the numbers of the tensors' shapes."""
    shapes = solver.stored.shapes()
    try:
        (dim,), card = shapes["out_norm.weight"], shapes["linears.0.weight"][0]
        hidden = shapes["transformer.layers.0.linear1.weight"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"{solver.path} holds no language model of audiocraft; choose another file.") from error
    codebooks = sum(name.startswith("linears.") for name in shapes)
    channels = 2 if codebooks == 8 else 1
    led = f"{_WAVE_PROJECTION}.weight" in shapes
    kind = "style" if f"{_CONDITIONERS}.{_WAVE}.embed.weight" in shapes else "chroma_stem"
    sound = shapes.get(f"{_TEXT_PROJECTION}.weight", (0,))[-1:] == (_SOUND_TEXT_DIM,)
    return {
        **({"solver": "audiogen", "dataset": {"segment_duration": 10}} if sound else {}),
        "sample_rate": 16000 if sound else _RELEASED_RATE,
        "channels": channels,
        "interleave_stereo_codebooks": {"use": channels == 2},
        "codebooks_pattern": {"modeling": "delay", "delay": {"delays": [k // channels for k in range(codebooks)]}},
        "transformer_lm": {
            "dim": dim,
            "num_heads": max(dim // _HEAD_DIM, 1),
            "num_layers": sum(name.endswith(".linear1.weight") for name in shapes),
            "hidden_scale": hidden / max(dim, 1),
            "n_q": codebooks,
            "card": card,
        },
        "fuser": {"prepend": [_WAVE, _TEXT], "cross": []} if led else {"prepend": [], "cross": [_TEXT]},
        "conditioners": {
            _WAVE: {"model": kind},
            _TEXT: {"model": "t5", "t5": {"name": "t5-large" if sound else "t5-base"}},
        },
    }
