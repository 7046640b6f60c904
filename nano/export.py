"""From trained networks to a model folder in the Hugging Face layout, in float16.

transformers builds the empty model and writes the files, so that the layout is its own; the place
of each tensor is read off the same recipes that the loader reads by.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen.checkpoints.files.tensors import Recipe
from musicgen.checkpoints.layouts import huggingface
from musicgen.checkpoints.parts.codec import codec_recipes
from musicgen.checkpoints.parts.text import text_recipes
from musicgen.codec.encodec import EnCodec
from musicgen.config import ChromaConfig, CodecConfig, LMConfig, ModelConfig

from .networks import TextAndCodes
from .vocabulary import Vocabulary


def codec_fields(config: CodecConfig) -> dict[str, Any]:
    """transformers' EncodecConfig of a codec."""
    bits = config.num_codebooks * config.frame_rate * math.log2(config.card)
    return {
        "target_bandwidths": [bits / 1000],
        "sampling_rate": config.sample_rate,
        "audio_channels": config.channels,
        "normalize": False,
        "hidden_size": config.dimension,
        "num_filters": config.n_filters,
        "num_residual_layers": config.n_residual_layers,
        "upsampling_ratios": list(config.ratios),
        "norm_type": "weight_norm",
        "kernel_size": config.kernel_size,
        "last_kernel_size": config.last_kernel_size,
        "residual_kernel_size": config.residual_kernel_size,
        "dilation_growth_rate": config.dilation_base,
        "use_causal_conv": config.causal,
        "pad_mode": config.pad_mode,
        "compress": config.compress,
        "num_lstm_layers": config.lstm,
        "trim_right_ratio": config.trim_right_ratio,
        "codebook_size": config.card,
        "codebook_dim": config.dimension,
        "use_conv_shortcut": not config.true_skip,
    }


def decoder_fields(config: LMConfig) -> dict[str, Any]:
    """transformers' decoder configuration of a language model."""
    return {
        "vocab_size": config.card,
        "hidden_size": config.dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "ffn_dim": config.ffn_dim,
        "num_codebooks": config.num_codebooks,
        "pad_token_id": config.special_token_id,
        "bos_token_id": config.special_token_id,
        "audio_channels": 1,
    }


def _empty_model(lm: LMConfig, codec: CodecConfig, text: Any, chroma: ChromaConfig | None) -> Any:
    from transformers import (
        EncodecConfig,
        MusicgenConfig,
        MusicgenForConditionalGeneration,
        MusicgenMelodyConfig,
        MusicgenMelodyForConditionalGeneration,
    )

    parts = {
        "text_encoder": text.to_dict(),
        "audio_encoder": EncodecConfig(**codec_fields(codec)).to_dict(),
        "decoder": decoder_fields(lm),
    }
    with torch.random.fork_rng(devices=[]):
        if chroma is None:
            return MusicgenForConditionalGeneration(MusicgenConfig(**parts)).eval()
        config = MusicgenMelodyConfig(**parts, num_chroma=chroma.num_chroma, chroma_length=chroma.chroma_length)
        return MusicgenMelodyForConditionalGeneration(config).eval()


def _fill(target: dict[str, Tensor], recipe: Recipe, weight: Tensor) -> None:
    """The recipe backwards: from one of our parameters to the stored tensors."""
    if recipe.how == "weight_norm":
        magnitude, direction = recipe.sources
        # Taken from the rounded direction, so that the two halves make one weight again.
        weight = weight.half().float()
        norm = weight.flatten(1).norm(dim=1).view_as(target[magnitude])
        target[magnitude].copy_(norm)
        # A channel of a widened encoder is 0: it gets any direction, of length 0.
        target[direction].copy_(torch.where(norm == 0, torch.ones(()), weight))
        return
    for name, part in zip(recipe.sources, weight.chunk(len(recipe.sources)), strict=True):
        target[name].copy_(part)


@torch.no_grad()
def export_model(
    folder: Path,
    model: TextAndCodes,
    codec: EnCodec,
    vocabulary: Vocabulary,
    *,
    chroma: ChromaConfig | None = None,
    seconds: float = 10.0,
    patterns: Sequence[str] = (),
) -> None:
    """Write a model folder, whole or not at all; `folder` must not exist yet.

    chroma: how a melody model hears melodies. seconds: the length of music that it was trained on. patterns: the
    codebook patterns beside the delay pattern that it knows.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; remove it first.")
    hf = _empty_model(model.lm.config, codec.config, model.t5.config, chroma)
    # Fields of this pack's own, which transformers keeps and does not read.
    if model.lm.config.text_length is not None:
        hf.config.text_length = model.lm.config.text_length
    if patterns:
        hf.config.codebook_patterns = list(patterns)
    target = hf.state_dict()
    config = ModelConfig(
        name=folder.name,
        lm=model.lm.config,
        codec=codec.config,
        text_encoder={},
        chroma=chroma,
        style=None,
        audio_channels=1,
        delays=tuple(range(codec.config.num_codebooks)),
        window=0.0,
        extend_stride=0.0,
    )
    for recipes, weights in (
        (huggingface.lm_recipes(config), model.lm.state_dict()),
        (codec_recipes(codec.model.state_dict(), target), codec.model.state_dict()),
        (
            text_recipes([n for n, _ in model.t5.named_parameters()], target),
            dict(model.t5.named_parameters()),
        ),
    ):
        for name, recipe in recipes.items():
            _fill(target, recipe, weights[name].cpu().float())
    shared = target["text_encoder.shared.weight"]
    shared.copy_(shared[torch.tensor(vocabulary.fold)].clone())
    for book in hf.audio_encoder.quantizer.layers:
        book.codebook.inited.fill_(1.0)
        book.codebook.cluster_size.fill_(1.0)
        book.codebook.embed_avg.copy_(book.codebook.embed)
    _write(folder, hf, codec, vocabulary, chroma, seconds)


def _write(
    folder: Path, hf: Any, codec: EnCodec, vocabulary: Vocabulary, chroma: ChromaConfig | None, seconds: float
) -> None:
    frames = round(seconds * codec.frame_rate)
    special = hf.config.decoder.pad_token_id
    hf.generation_config.update(
        do_sample=True,
        guidance_scale=3.0,
        top_k=250,
        # As the released models have it: transformers' last columns are those of the delay pattern.
        max_length=frames,
        decoder_start_token_id=special,
        pad_token_id=special,
        bos_token_id=special,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        part = Path(scratch) / folder.name
        hf.half().save_pretrained(part)
        _write_older_word(part / "config.json")
        vocabulary.tokenizer.save_pretrained(part)
        _feature_extractor(codec.config, chroma, seconds).save_pretrained(part)
        part.rename(folder)


def _write_older_word(config: Path) -> None:
    """Name the number format `torch_dtype`: every transformers reads it, and `dtype` only those from 4.56 on."""
    table = json.loads(config.read_text(encoding="utf-8"))
    renamed = {"torch_dtype" if key == "dtype" else key: value for key, value in table.items()}
    config.write_text(json.dumps(renamed, indent=2) + "\n", encoding="utf-8")


def _feature_extractor(codec: CodecConfig, chroma: ChromaConfig | None, seconds: float) -> Any:
    """The writer of `preprocessor_config.json`."""
    from transformers import EncodecFeatureExtractor, MusicgenMelodyFeatureExtractor

    if chroma is None:
        return EncodecFeatureExtractor(feature_size=1, sampling_rate=codec.sample_rate, padding_side="left")
    return MusicgenMelodyFeatureExtractor(
        feature_size=chroma.num_chroma,
        sampling_rate=chroma.sample_rate,
        hop_length=chroma.hop_length,
        n_fft=chroma.n_fft,
        num_chroma=chroma.num_chroma,
        chunk_length=math.ceil(seconds),
    )
