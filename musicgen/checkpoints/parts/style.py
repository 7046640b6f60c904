"""The style condition in audiocraft's layout: its settings and its names. MERT, which it hears through, lies apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...config import StyleConfig
from ..checkpoint import Part
from ..files.settings import Fields, is_number, shown
from ..files.tensors import Recipe, StoredTensors

PREFIX = "condition_provider.conditioners.self_wav."
# Heads of attention, which no shape tells; the other numbers of a scale are those of the tensors.
_HEADS = {"default": 8, "xsmall": 8, "large": 16}
_MERT_RATE = 24000
_CODEC = "//pretrained/facebook/encodec_32khz"
_TRAINING_ONLY = ("._codebook.inited", "._codebook.cluster_size", "._codebook.embed_avg", ".num_batches_tracked")


def style_config(fields: Fields, stored: StoredTensors, codec_rate: int, codec: object = None) -> StyleConfig:
    """The numbers of the style condition among the tensors of a language model's file.

    fields: its settings, `conditioners.self_wav.style`. codec_rate: samples per second of the model's
    codec, whose codes are the features where MERT's states are not. codec: its name. Raises ValueError on
    a field that is missing, out of range or not implemented.
    """
    is_mert = fields.choice("model_name", ("mert", "encodec"), "mert") == "mert"
    shapes = {name.removeprefix(PREFIX): shape for name, shape in stored.shapes().items() if name.startswith(PREFIX)}
    codebooks = sum(name.endswith("._codebook.embed") for name in shapes)
    try:
        hidden, dim = shapes["transformer.layers.0.linear1.weight"]
        card, _ = shapes["rvq.vq.layers.0._codebook.embed"]
        embed = shapes["embed.weight" if is_mert else "embed.0.weight"]
        feature_dim = embed[1 if is_mert else 0]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"{stored.where} lacks tensors of its style condition ({error}); fetch it again.") from error
    _require_stored(fields, {"n_q_out": codebooks, "bins": card})
    if not is_mert:
        _require_stored(fields, {"encodec_n_q": sum(name.startswith("embed.") for name in shapes)})
        fields.require("encodec_checkpoint", _CODEC, codec)
    low, high = _range(fields)
    eval_q, length = fields.integer("eval_q", 3), fields.number("length", 3.0)
    if eval_q > codebooks or not low <= length <= high:
        raise ValueError(
            f"{fields.where}: eval_q is {eval_q} and length {length:g}; allowed are at most {codebooks}, the stored "
            f"codebooks, and {low:g} to {high:g} seconds, the varying_lengths."
        )
    return StyleConfig(
        dim=dim,
        num_layers=sum(name.endswith(".linear1.weight") for name in shapes),
        num_heads=_HEADS[fields.choice("transformer_scale", tuple(_HEADS), "default")],
        ffn_dim=hidden,
        cross_attention=False,
        features="mert" if is_mert else "encodec",
        feature_dim=feature_dim,
        feature_codebooks=1 if is_mert else sum(name.startswith("embed.") for name in shapes),
        sample_rate=_MERT_RATE if is_mert else codec_rate,
        num_codebooks=codebooks,
        card=card,
        eval_q=eval_q,
        stride=fields.integer("ds_factor", 15),
        excerpt_length=length,
        min_excerpt=low,
        max_excerpt=high,
    )


def _require_stored(fields: Fields, stored: Mapping[str, int]) -> None:
    """Refuse numbers that contradict the stored tensors."""
    for name, number in stored.items():
        if fields.get(name, number) != number:
            raise ValueError(
                f"{fields.where}: {name} is {shown(fields.get(name))}, but the tensors are those of {number}; fetch "
                "the file again."
            )


def _range(fields: Fields) -> tuple[float, float]:
    """The seconds that training varied the excerpt over."""
    value = fields.get("varying_lengths", [1.5, 4.5])
    if not isinstance(value, list) or len(value) != 2 or not all(is_number(v) for v in value):
        raise ValueError(f"{fields.where}: varying_lengths is {shown(value)}; allowed are two numbers.")
    return float(value[0]), float(value[1])


def style_part(config: StyleConfig, stored: StoredTensors) -> Part:
    """The style condition among the tensors of its file; the projection of its tokens belongs to the language model."""
    own = [name for name in stored.records if name.startswith(PREFIX)]
    ignored = frozenset(name for name in own if name.endswith(_TRAINING_ONLY))
    return Part(stored, lambda names: _recipes(config, names), ignored)


def _recipes(config: StyleConfig, names: Iterable[str]) -> dict[str, Recipe]:
    books = (f"{PREFIX}rvq.vq.layers.{k}._codebook.embed" for k in range(config.num_codebooks))
    special = {
        "mean": Recipe("copy", (f"{PREFIX}batch_norm.running_mean",)),
        "variance": Recipe("copy", (f"{PREFIX}batch_norm.running_var",)),
        "codebooks.weight": Recipe("concat", tuple(books)),
    }
    if config.features == "encodec":
        tables = tuple(f"{PREFIX}embed.{k}.weight" for k in range(config.feature_codebooks))
        special["embed.weight"] = Recipe("concat", tables)
    return {name: special.get(name) or Recipe("copy", (PREFIX + _stored_name(name),)) for name in names}


_OURS_AND_THEIRS: Mapping[str, str] = {
    ".self_attn.qkv.weight": ".self_attn.in_proj_weight",
    ".self_attn.out.": ".self_attn.out_proj.",
    ".norm_self.": ".norm1.",
    ".norm_ffn.": ".norm2.",
    ".ffn_in.": ".linear1.",
    ".ffn_out.": ".linear2.",
}


def _stored_name(name: str) -> str:
    for ours, theirs in _OURS_AND_THEIRS.items():
        name = name.replace(ours, theirs)
    return name
