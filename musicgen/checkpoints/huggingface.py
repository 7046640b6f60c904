"""The Hugging Face layout: config.json and safetensors of `musicgen` and `musicgen_melody` models."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..config import RELEASED_CHROMA, RELEASED_STRIDE, ChromaConfig, CodecConfig, LMConfig, ModelConfig
from .tensors import Recipe

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
GENERATION_FILE = "generation_config.json"
RELEASED_FRAMES = 1500
MODEL_TYPES = ("musicgen", "musicgen_melody")
_TEXT_PROJECTION = "enc_to_dec_proj.weight"

_DECODER = "decoder.model.decoder"
# A table of positions, which are computed here.
_IGNORED = (f"{_DECODER}.embed_positions.weights", f"{_DECODER}.embed_positions.weight")
# T5's embedding, one tensor under two names: files hold either or both.
_T5_EMBEDDING = ("text_encoder.shared.weight", "text_encoder.encoder.embed_tokens.weight")
# What shapes a T5 encoder. Older files repeat every default of transformers beside these, some no longer allowed.
_T5_NUMBERS = (
    "vocab_size",
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_heads",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
)
_T5_ACTIVATIONS = ("relu", "gelu", "gated-gelu", "gated-silu")


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder looks like a model in this layout."""
    return (folder / CONFIG_FILE).is_file()


class _Fields:
    """A JSON object whose missing or mistyped fields raise an error that names them."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise ValueError(f"{where} is {type(values).__name__}, where a JSON object is needed; fetch it again.")
        self.values, self.where = values, where

    def part(self, name: str) -> _Fields:
        return _Fields(self._get(name), f"{self.where}: {name}")

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{self.where}: {name} is {value!r}; allowed is a whole number from 1 on.")
        return value

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise ValueError(f"{self.where}: {name} is {value!r}; allowed are true and false.")
        return value

    def number(self, name: str) -> float:
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{self.where}: {name} is {value!r}; allowed is a number above 0.")
        return float(value)

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self._get(name, default)
        if value not in allowed:
            raise ValueError(f"{self.where}: {name} is {value!r}; this pack implements {', '.join(allowed)}.")
        return str(value)

    def _get(self, name: str, default: Any = None) -> Any:
        value = self.values.get(name, default)
        if value is None:
            raise ValueError(f"{self.where} lacks the field {name!r}; fetch the model's own config.json.")
        return value


def read_config(folder: Path, stored: Collection[str] = ()) -> ModelConfig:
    """Read `config.json` (and `preprocessor_config.json`, `generation_config.json`) of a model folder.

    stored: names of the stored tensors, which tell whether the text is projected where the
    configuration does not: transformers leaves the projection out if the widths agree.
    Raises FileNotFoundError without a config.json, ValueError on a field that is missing, out of
    range or of a feature that is not implemented.
    """
    if not is_checkpoint(folder):
        raise FileNotFoundError(f"{folder} holds no {CONFIG_FILE}; give the folder of a model in Hugging Face layout.")
    root = _read_json(folder / CONFIG_FILE)
    melody = root.choice("model_type", MODEL_TYPES) == "musicgen_melody"
    decoder, text = root.part("decoder"), root.part("text_encoder")
    codec = _codec_config(root.part("audio_encoder"))
    channels = decoder.integer("audio_channels", 1)
    lm = LMConfig(
        dim=decoder.integer("hidden_size"),
        num_layers=decoder.integer("num_hidden_layers"),
        num_heads=decoder.integer("num_attention_heads"),
        ffn_dim=decoder.integer("ffn_dim"),
        num_codebooks=decoder.integer("num_codebooks"),
        card=decoder.integer("vocab_size"),
        cross_attention=not melody,
        text_dim=text.integer("d_model"),
        text_projection=text.integer("d_model") != decoder.integer("hidden_size") or _TEXT_PROJECTION in stored,
        chroma_dim=root.integer("num_chroma", RELEASED_CHROMA.num_chroma) if melody else None,
        style_dim=None,
    )
    decoder.choice("activation_function", ("gelu",), "gelu")
    if channels > 2 or lm.num_codebooks != codec.num_codebooks * channels or lm.card != codec.card:
        raise ValueError(
            f"{folder / CONFIG_FILE}: a decoder of {lm.num_codebooks} x {lm.card} codes for {channels} channel(s) does "
            f"not fit a codec of {codec.num_codebooks} x {codec.card}; allowed are 1 or 2 channels of the codec's size."
        )
    window = _window(folder, codec.frame_rate)
    return ModelConfig(
        name=folder.name,
        lm=lm,
        codec=codec,
        text_encoder=_t5_fields(text),
        chroma=_chroma_config(folder, root, codec) if melody else None,
        style=None,
        audio_channels=channels,
        # The layout does not store the delays: one per level of the codec, the same for both channels.
        delays=tuple(q // channels for q in range(lm.num_codebooks)),
        window=window,
        extend_stride=RELEASED_STRIDE * window,
    )


def _window(folder: Path, frame_rate: int) -> float:
    """Seconds that a model was trained on; the layout has them as the frames that transformers samples at most."""
    if not (folder / GENERATION_FILE).is_file():
        return RELEASED_FRAMES / frame_rate
    return _read_json(folder / GENERATION_FILE).integer("max_length", RELEASED_FRAMES) / frame_rate


def _t5_fields(fields: _Fields) -> dict[str, Any]:
    """What shapes a T5 encoder. Files repeat every default of transformers beside it, some no longer allowed."""
    return {
        **{name: fields.integer(name) for name in _T5_NUMBERS},
        "layer_norm_epsilon": fields.number("layer_norm_epsilon"),
        "feed_forward_proj": fields.choice("feed_forward_proj", _T5_ACTIVATIONS),
    }


def _codec_config(fields: _Fields) -> CodecConfig:
    ratios = fields.values.get("upsampling_ratios")
    if not isinstance(ratios, list) or not ratios or not all(type(r) is int and r > 0 for r in ratios):
        raise ValueError(f"{fields.where}: upsampling_ratios is {ratios!r}; allowed is a list of whole numbers.")
    bandwidths = fields.values.get("target_bandwidths")
    if not isinstance(bandwidths, list) or not bandwidths or not all(type(b) in (int, float) for b in bandwidths):
        raise ValueError(f"{fields.where}: target_bandwidths is {bandwidths!r}; allowed is a list of numbers.")
    if fields.integer("audio_channels") != 1 or fields.flag("normalize"):
        raise ValueError(f"{fields.where}: only mono codecs without normalisation are implemented.")
    fields.choice("norm_type", ("weight_norm", "none"))
    if fields.values.get("chunk_length_s"):
        raise ValueError(f"{fields.where}: chunk_length_s is not implemented; allowed is none.")
    sample_rate, card = fields.integer("sampling_rate"), fields.integer("codebook_size")
    if card < 2 or card & (card - 1):
        raise ValueError(f"{fields.where}: codebook_size is {card}; allowed is a power of two from 2 on.")
    frame_rate = math.ceil(sample_rate / math.prod(ratios))
    num_codebooks = int(1000 * bandwidths[-1] // (frame_rate * math.log2(card)))
    return CodecConfig(
        sample_rate=sample_rate,
        channels=1,
        dimension=fields.integer("hidden_size"),
        n_filters=fields.integer("num_filters"),
        n_residual_layers=fields.integer("num_residual_layers"),
        ratios=tuple(ratios),
        kernel_size=fields.integer("kernel_size"),
        last_kernel_size=fields.integer("last_kernel_size"),
        residual_kernel_size=fields.integer("residual_kernel_size"),
        dilation_base=fields.integer("dilation_growth_rate"),
        compress=fields.integer("compress"),
        lstm=fields.integer("num_lstm_layers"),
        causal=fields.flag("use_causal_conv"),
        pad_mode=fields.choice("pad_mode", ("reflect", "constant", "replicate"), "reflect"),
        true_skip=not fields.flag("use_conv_shortcut"),
        trim_right_ratio=fields.number("trim_right_ratio"),
        num_codebooks=num_codebooks,
        card=card,
    )


def _chroma_config(folder: Path, root: _Fields, codec: CodecConfig) -> ChromaConfig:
    path = folder / PREPROCESSOR_FILE
    features = _read_json(path) if path.is_file() else _Fields({}, str(path))
    num_chroma = root.integer("num_chroma", RELEASED_CHROMA.num_chroma)
    if num_chroma != 12:
        raise ValueError(f"{root.where}: num_chroma is {num_chroma}; this pack implements 12, the pitch classes.")
    return ChromaConfig(
        sample_rate=features.integer("sampling_rate", codec.sample_rate),
        n_fft=features.integer("n_fft", RELEASED_CHROMA.n_fft),
        hop_length=features.integer("hop_length", RELEASED_CHROMA.hop_length),
        num_chroma=num_chroma,
        chroma_length=root.integer("chroma_length", RELEASED_CHROMA.chroma_length),
    )


def _read_json(path: Path) -> _Fields:
    try:
        return _Fields(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not readable JSON ({error}); fetch it again.") from error


def ignored_names(stored: Iterable[str]) -> set[str]:
    """Stored names that are not needed: a position table, and what only training the codec needs."""
    training = re.compile(r"audio_encoder\.quantizer\.layers\.\d+\.codebook\.(inited|cluster_size|embed_avg)$")
    return {name for name in stored if name in _IGNORED or training.match(name)}


def lm_recipes(config: ModelConfig) -> dict[str, Recipe]:
    """Our parameter names of the language model, and the stored tensors that each is made of."""
    K = range(config.num_codebooks)
    recipes = {
        "embedding.weight": Recipe("concat", tuple(f"{_DECODER}.embed_tokens.{k}.weight" for k in K)),
        "head.weight": Recipe("concat", tuple(f"decoder.lm_heads.{k}.weight" for k in K)),
    }
    copies = {"out_norm": f"{_DECODER}.layer_norm"}
    if config.lm.text_projection:
        copies["description_proj"] = _TEXT_PROJECTION.removesuffix(".weight")
    if not config.lm.cross_attention:
        copies["melody_proj"] = "audio_enc_to_dec_proj"
    for index in range(config.lm.num_layers):
        ours, theirs = f"transformer.layers.{index}", f"{_DECODER}.layers.{index}"
        recipes[f"{ours}.self_attn.qkv.weight"] = _join(f"{theirs}.self_attn", "qkv")
        recipes[f"{ours}.self_attn.out.weight"] = Recipe("copy", (f"{theirs}.self_attn.out_proj.weight",))
        recipes[f"{ours}.ffn_in.weight"] = Recipe("copy", (f"{theirs}.fc1.weight",))
        recipes[f"{ours}.ffn_out.weight"] = Recipe("copy", (f"{theirs}.fc2.weight",))
        copies[f"{ours}.norm_self"] = f"{theirs}.self_attn_layer_norm"
        copies[f"{ours}.norm_ffn"] = f"{theirs}.final_layer_norm"
        if config.lm.cross_attention:
            recipes[f"{ours}.cross_attn.q.weight"] = _join(f"{theirs}.encoder_attn", "q")
            recipes[f"{ours}.cross_attn.kv.weight"] = _join(f"{theirs}.encoder_attn", "kv")
            recipes[f"{ours}.cross_attn.out.weight"] = Recipe("copy", (f"{theirs}.encoder_attn.out_proj.weight",))
            copies[f"{ours}.norm_cross"] = f"{theirs}.encoder_attn_layer_norm"
    for ours, theirs in copies.items():
        for kind in ("weight", "bias"):
            recipes[f"{ours}.{kind}"] = Recipe("copy", (f"{theirs}.{kind}",))
    return recipes


def _join(attention: str, letters: str) -> Recipe:
    return Recipe("concat", tuple(f"{attention}.{letter}_proj.weight" for letter in letters))


def text_recipes(names: Iterable[str], stored: Collection[str]) -> dict[str, Recipe]:
    """The T5 encoder's parameters: transformers' own names under a prefix, the embedding under either of its two."""
    first, second = _T5_EMBEDDING
    recipes = {name: Recipe("copy", (f"text_encoder.{name}",)) for name in names}
    if first not in stored:
        recipes[first.removeprefix("text_encoder.")] = Recipe("copy", (second,))
    elif second not in stored:
        del recipes[second.removeprefix("text_encoder.")]
    return recipes


def codec_recipes(names: Iterable[str], stored: Iterable[str]) -> dict[str, Recipe]:
    """The codec's parameters. A convolution's weight may be stored plain, or as weight
    normalisation's magnitude and direction under the old or the new names."""
    stored, recipes = set(stored), {}
    for name in names:
        if name.endswith(("inited", "cluster_size", "embed_avg")):
            continue
        theirs = "audio_encoder." + _codec_name(name)
        module = theirs.removesuffix(".weight")
        pairs = (
            (f"{module}.parametrizations.weight.original0", f"{module}.parametrizations.weight.original1"),
            (f"{module}.weight_g", f"{module}.weight_v"),
        )
        pair = next((pair for pair in pairs if theirs.endswith(".weight") and pair[0] in stored), None)
        recipes[name] = Recipe("weight_norm", pair) if pair else Recipe("copy", (theirs,))
    return recipes


def _codec_name(name: str) -> str:
    """From the `encodec` package's names to those of transformers."""
    name = name.replace("quantizer.vq.layers.", "quantizer.layers.").replace("._codebook.", ".codebook.")
    name = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", name)
    return name.replace(".conv.conv.", ".conv.").replace(".convtr.convtr.", ".conv.")
