"""LAION's own files of CLAP (`.pt`), read without running them, under the names of transformers.

A file is what its trainer saved: a table with `state_dict`, whose names begin with `module.`. The architecture
(HTSAT-tiny, HTSAT-base or another width) follows from the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...checkpoints.files.pickled import load
from ...checkpoints.files.tensors import TensorRecord
from ...checkpoints.files.weights import tensors_of
from ...checkpoints.files.wrapped import plain_names, weights_of

_UNUSED = re.compile(
    r"audio_branch\.(spectrogram_extractor|logmel_extractor|tscam_conv|head)\."
    r"|(audio|text)_transform\.|.*\.(attn_mask|relative_position_index|num_batches_tracked)$|.*position_ids$"
)
"""Tensors of training and of the spectrogram, which transformers' extractor computes."""
_FUSION = ("audio_branch.patch_embed.mel_conv2d.", "audio_branch.patch_embed.fusion_model.")
_NAMES = (
    (r"^text_branch\.", "text_model."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"_projection\.0\.", "_projection.linear1."),
    (r"_projection\.2\.", "_projection.linear2."),
    (r"\.bn0\.", ".batch_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
)
_SPECTROGRAM: dict[str, Any] = {
    "feature_size": 64,
    "sampling_rate": 48000,
    "hop_length": 480,
    "fft_window_size": 1024,
    "max_length_s": 10,
    "frequency_min": 50,
    "frequency_max": 14000,
    "truncation": "rand_trunc",
    "padding": "repeatpad",
}
"""The settings of all of LAION's published checkpoints, for transformers' extractor."""


def extractor_settings() -> dict[str, Any]:
    """Return the arguments of transformers' `ClapFeatureExtractor`."""
    return dict(_SPECTROGRAM)


def read_laion(path: Path) -> dict[str, TensorRecord]:
    """Return a file's tensors under transformers' names.

    Raises:
        ValueError: the file is damaged, is no CLAP model, or fuses long sounds.
    """
    contents = load(path)
    table = (weights_of(contents) if isinstance(contents, dict) else None) or contents
    records = plain_names(path, tensors_of(table, path), ())
    if any(name.startswith(_FUSION) for name in records):
        raise ValueError(
            f"{path} is a CLAP model that fuses parts of long sounds, which this measure does not; take one without "
            "fusion, such as music_audioset_epoch_15_esc_90.14.pt."
        )
    if "audio_branch.patch_embed.proj.weight" not in records or "text_projection.0.weight" not in records:
        raise ValueError(f"{path} is no CLAP model with an HTSAT encoder; choose one of LAION's CLAP checkpoints.")
    return renamed(records)


def renamed(records: Mapping[str, TensorRecord]) -> dict[str, TensorRecord]:
    """Return tensors under transformers' names, without those that only training needs."""
    found: dict[str, TensorRecord] = {}
    for name, record in records.items():
        if not _UNUSED.match(name):
            found |= _renamed(name, record)
    return found


def _renamed(name: str, record: TensorRecord) -> dict[str, TensorRecord]:
    """One tensor under its new name, or the three thirds of one that holds queries, keys and values."""
    for pattern, new in _NAMES:
        name = re.sub(pattern, new, name)
    if ".self.qkv." not in name:
        return {name: record}
    rows = record.shape[0] // 3
    parts = enumerate(("query", "key", "value"))
    return {name.replace(".qkv.", f".{part}."): record.rows(at * rows, (at + 1) * rows) for at, part in parts}


def config_of(records: Mapping[str, TensorRecord]) -> dict[str, Any]:
    """Return the fields of transformers' `ClapConfig` that a file's shapes tell."""
    encoder = "audio_model.audio_encoder."
    width = records[f"{encoder}patch_embed.proj.weight"].shape[0]
    depths: list[int] = []
    heads: list[int] = []
    while (first := f"{encoder}layers.{len(depths)}.blocks.0.attention.self.relative_position_bias_table") in records:
        blocks = re.compile(rf"{re.escape(encoder)}layers\.{len(depths)}\.blocks\.(\d+)\.")
        depths.append(1 + max(int(found[1]) for name in records if (found := blocks.match(name))))
        heads.append(records[first].shape[1])
    words = records["text_model.embeddings.word_embeddings.weight"].shape
    layers = re.compile(r"text_model\.encoder\.layer\.(\d+)\.")
    projection = records["text_projection.linear2.weight"].shape[0]
    return {
        "audio_config": {
            "patch_embeds_hidden_size": width,
            "hidden_size": width * 2 ** (len(depths) - 1),
            "depths": depths,
            "num_attention_heads": heads,
            "num_hidden_layers": len(depths),
            "projection_dim": projection,
        },
        "text_config": {
            "vocab_size": words[0],
            "hidden_size": words[1],
            "num_attention_heads": words[1] // 64,
            "intermediate_size": records["text_model.encoder.layer.0.intermediate.dense.weight"].shape[0],
            "num_hidden_layers": 1 + max(int(found[1]) for name in records if (found := layers.match(name))),
            "max_position_embeddings": records["text_model.embeddings.position_embeddings.weight"].shape[0],
            "type_vocab_size": records["text_model.embeddings.token_type_embeddings.weight"].shape[0],
            "layer_norm_eps": 1e-5,
            "projection_dim": projection,
        },
        "projection_dim": projection,
    }
