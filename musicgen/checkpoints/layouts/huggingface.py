"""The Hugging Face layout: config.json and the tensors' names of `musicgen` and `musicgen_melody` models."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ...config import RELEASED_CHROMA, RELEASED_STRIDE, ChromaConfig, CodecConfig, LMConfig, ModelConfig
from ..checkpoint import Checkpoint, Part
from ..files.regular import is_there
from ..files.settings import Fields, read_json
from ..files.tensors import Recipe, StoredTensors
from ..files.weights import has_weights, read_weights
from ..parts.codec import CONFIG_FILE, codec_part, config_of_transformers
from ..parts.text import t5_fields, text_recipes
from ..tables import transformers as tables

PREPROCESSOR_FILE, PROCESSOR_FILE = "preprocessor_config.json", "processor_config.json"
GENERATION_FILE = "generation_config.json"
RELEASED_FRAMES = 1500
MODEL_TYPES = ("musicgen", "musicgen_melody")
_TEXT_PROJECTION, _CHROMA_PROJECTION = "enc_to_dec_proj.weight", "audio_enc_to_dec_proj.weight"

_DECODER = "decoder.model.decoder"
# A table of positions, which are computed here.
_IGNORED = (f"{_DECODER}.embed_positions.weights", f"{_DECODER}.embed_positions.weight")


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a model in this layout."""
    if not (folder / CONFIG_FILE).is_file() or not has_weights(folder):
        return False
    return read_json(folder / CONFIG_FILE).values.get("model_type") in MODEL_TYPES


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a model folder. Raises FileNotFoundError and ValueError that name the file and its fault."""
    read_config(folder)  # before the weights: its errors tell more than theirs
    stored = read_weights(folder, ("decoder.lm_heads.0.weight",))
    checkpoint = checkpoint_of(folder, read_config(folder, stored.records), stored)
    return replace(checkpoint, unknown=_unknown(folder, checkpoint.config))


def checkpoint_of(folder: Path, config: ModelConfig, stored: StoredTensors) -> Checkpoint:
    """The parts of a model whose numbers and tensors are known."""
    return Checkpoint(
        where=folder,
        config=config,
        tokenizer=folder,
        lm=Part(stored, lambda _names: lm_recipes(config), frozenset(_IGNORED) & stored.records.keys()),
        text=Part(stored, lambda names: text_recipes(names, stored.records)),
        codec=codec_part(stored, "audio_encoder.", renamed=True),
    )


def _unknown(folder: Path, config: ModelConfig) -> tuple[str, ...]:
    """The settings in the files that a model is made of that are not known here."""
    features = () if config.chroma is None else tables.FEATURES.unknown(_features(folder))
    return (*tables.MODEL.unknown(read_json(folder / CONFIG_FILE)), *features)


def read_config(folder: Path, stored: Collection[str] = ()) -> ModelConfig:
    """Read `config.json` (and `preprocessor_config.json` or `processor_config.json`, `generation_config.json`).

    stored: names of the stored tensors, which tell whether text and chroma are projected where the
    configuration does not: transformers leaves a projection out if the widths agree.
    Raises FileNotFoundError without a config.json, ValueError on a field that is missing, out of
    range or of a feature that is not implemented.
    """
    if not is_there(folder / CONFIG_FILE):
        raise FileNotFoundError(
            f"{folder} holds no {CONFIG_FILE} and no state_dict.bin; give the folder of a model in the layout of "
            "Hugging Face or audiocraft."
        )
    root = read_json(folder / CONFIG_FILE)
    melody = root.choice("model_type", MODEL_TYPES) == "musicgen_melody"
    tables.MODEL.require(root)
    decoder, text = root.part("decoder"), root.part("text_encoder")
    codec = config_of_transformers(root.part("audio_encoder"))
    channels = decoder.integer("audio_channels", 1)
    num_chroma = root.integer("num_chroma", RELEASED_CHROMA.num_chroma) if melody else None
    dim = decoder.integer("hidden_size")
    lm = LMConfig(
        dim=dim,
        num_layers=decoder.count("num_hidden_layers"),
        num_heads=decoder.integer("num_attention_heads"),
        ffn_dim=decoder.integer("ffn_dim"),
        num_codebooks=decoder.count("num_codebooks"),
        card=decoder.integer("vocab_size"),
        cross_attention=not melody,
        text_dim=text.integer("d_model"),
        text_projection=text.integer("d_model") != dim or _TEXT_PROJECTION in stored,
        chroma_dim=num_chroma,
        chroma_projection=num_chroma != dim or _CHROMA_PROJECTION in stored,
        style_dim=None,
        text_length=root.integer("text_length") if melody and root.get("text_length", None) is not None else None,
    )
    _require_special_token(folder, decoder, lm.card)
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
        text_encoder=t5_fields(text),
        chroma=_chroma_config(folder, root, codec) if melody else None,
        style=None,
        audio_channels=channels,
        # The layout does not store the delays: one per level of the codec, the same for both channels.
        delays=tuple(q // channels for q in range(lm.num_codebooks)),
        window=window,
        extend_stride=RELEASED_STRIDE * window,
        patterns=_patterns(root),
    )


def _require_special_token(folder: Path, decoder: Fields, card: int) -> None:
    """Refuse another token than the one behind the codes as the first one, and in cells that the pattern leaves."""
    generation = [read_json(folder / GENERATION_FILE)] if is_there(folder / GENERATION_FILE) else []
    for fields in (decoder, *generation):
        for name in ("pad_token_id", "bos_token_id", "decoder_start_token_id"):
            fields.require(name, card)
    decoder.require("eos_token_id", card)


def _patterns(root: Fields) -> tuple[str, ...]:
    """Codebook patterns beside the delays; transformers knows none of them and keeps the field."""
    names = root.get("codebook_patterns", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{root.where}: codebook_patterns is {names!r:.80}; allowed is a list of names.")
    return tuple(names)


def _window(folder: Path, frame_rate: int) -> float:
    """Seconds that a model was trained on; the layout has them as the frames that transformers samples at most."""
    if not is_there(folder / GENERATION_FILE):
        return RELEASED_FRAMES / frame_rate
    return read_json(folder / GENERATION_FILE).integer("max_length", RELEASED_FRAMES) / frame_rate


def _features(folder: Path) -> Fields:
    """The settings of the feature extractor: a file of their own, or since transformers 5 a part of the processor's."""
    if is_there(folder / PREPROCESSOR_FILE):
        return read_json(folder / PREPROCESSOR_FILE)
    if is_there(folder / PROCESSOR_FILE):
        return read_json(folder / PROCESSOR_FILE).part("feature_extractor", {})
    return Fields({}, str(folder / PREPROCESSOR_FILE))


def _chroma_config(folder: Path, root: Fields, codec: CodecConfig) -> ChromaConfig:
    features = _features(folder)
    tables.FEATURES.require(features)
    num_chroma = root.integer("num_chroma", RELEASED_CHROMA.num_chroma)
    if num_chroma != 12:
        raise ValueError(f"{root.where}: num_chroma is {num_chroma}; this pack implements 12, the pitch classes.")
    return ChromaConfig(
        sample_rate=features.integer("sampling_rate", codec.sample_rate),
        n_fft=features.integer("n_fft", RELEASED_CHROMA.n_fft, high=1 << 20),
        hop_length=features.integer("hop_length", RELEASED_CHROMA.hop_length),
        num_chroma=num_chroma,
        chroma_length=root.integer("chroma_length", RELEASED_CHROMA.chroma_length),
    )


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
    if not config.lm.cross_attention and config.lm.chroma_projection:
        copies["melody_proj"] = _CHROMA_PROJECTION.removesuffix(".weight")
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
