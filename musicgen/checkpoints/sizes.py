"""The numbers of a layout, held against each other before a module is built: which tensors they would make.

PyTorch and the packages that the modules come from answer numbers out of all range in words of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..config import CodecConfig, LMConfig, ModelConfig, StyleConfig

_LARGEST_TENSOR = 1 << 36
_LARGEST_DILATION = 1 << 20
_LONGEST_PREFIX = 1 << 16

Tensors = Iterable[tuple[str, dict[str, int]]]
"""The tensors of a network that may be large: a word for each, and its sizes by the names of the settings."""


def check_sizes(config: ModelConfig, where: Path) -> None:
    """Raise ValueError where a model's numbers make a tensor that no computer holds, or a layer that cannot be."""
    _check_tensors(where, "the language model", _lm_tensors(config.lm))
    _check_tensors(where, "the text encoder", _text_tensors(config.text_encoder))
    _check_codec(where, config.codec)
    if config.style is not None:
        _check_tensors(where, "the style condition", _style_tensors(config.style))
    if config.chroma is not None and config.chroma.chroma_length > _LONGEST_PREFIX:
        raise ValueError(
            f"{where}: the melody condition has {config.chroma.chroma_length} frames; allowed are 1 to "
            f"{_LONGEST_PREFIX}."
        )


def check_mert_sizes(fields: Mapping[str, Any], where: Path) -> None:
    """Raise ValueError where the fields of a MERT make no network."""
    layers = [list(fields[name]) for name in ("conv_dim", "conv_kernel", "conv_stride")]
    if len({len(layer) for layer in layers}) > 1:
        raise ValueError(f"{where}: conv_dim, conv_kernel and conv_stride differ in length; allowed is one length.")
    width = fields["hidden_size"]
    for name in ("num_attention_heads", "num_conv_pos_embedding_groups"):
        if width % fields[name]:
            raise ValueError(f"{where}: hidden_size is {width}; allowed are multiples of {name}, {fields[name]}.")
    _check_tensors(where, "MERT", _mert_tensors(fields))


def _check_tensors(where: Path, network: str, tensors: Tensors) -> None:
    for word, sizes in tensors:
        count = math.prod(sizes.values())
        if count > _LARGEST_TENSOR:
            product = " x ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(
                f"{where}: {network} has {word} of {product} numbers; allowed are {_LARGEST_TENSOR} in one tensor."
            )


def _lm_tensors(lm: LMConfig) -> Tensors:
    text = {"text_dim": lm.text_dim, "dim": lm.dim}
    return [
        ("embeddings", {"num_codebooks": lm.num_codebooks, "card": lm.card + 1, "dim": lm.dim}),
        ("a projection of the text", text),
        *_transformer_tensors(lm.dim, lm.ffn_dim),
    ]


def _transformer_tensors(dim: int, ffn_dim: int) -> Tensors:
    return [
        ("attention matrices", {"queries, keys, values": 3, "dim": dim, "dim again": dim}),
        ("feed-forward matrices", {"dim": dim, "ffn_dim": ffn_dim}),
    ]


def _text_tensors(t5: Mapping[str, Any]) -> Tensors:
    def sizes(*names: str) -> dict[str, int]:
        return {name: t5[name] for name in names}

    return [
        ("an embedding", sizes("vocab_size", "d_model")),
        ("attention matrices", sizes("num_heads", "d_kv", "d_model")),
        ("feed-forward matrices", sizes("d_ff", "d_model")),
        ("an attention bias", sizes("relative_attention_num_buckets", "num_heads")),
    ]


def _style_tensors(style: StyleConfig) -> Tensors:
    features = {"feature_codebooks": style.feature_codebooks, "feature_dim": style.feature_dim, "dim": style.dim}
    return [
        ("an embedding", features),
        ("codebooks", {"num_codebooks": style.num_codebooks, "card": style.card, "dim": style.dim}),
        *_transformer_tensors(style.dim, style.ffn_dim),
    ]


def _check_codec(where: Path, codec: CodecConfig) -> None:
    widest = codec.n_filters * 2 ** len(codec.ratios)
    width = {"n_filters": codec.n_filters, f"2^{len(codec.ratios)}": 2 ** len(codec.ratios)}
    longest = max(codec.residual_kernel_size, 2 * max(codec.ratios))
    tensors = [
        ("codebooks", {"card": codec.card, "dimension": codec.dimension}),
        ("an LSTM", {"gates": 4, **width, "width again": widest}),
        ("an outer convolution", {**width, "kernel_size": codec.kernel_size, "dimension": codec.dimension}),
        ("an inner convolution", {**width, "last_kernel_size": codec.last_kernel_size, "dimension": codec.dimension}),
        ("a convolution", {**width, "half of it": -(-widest // 2), "kernel": longest}),
    ]
    _check_tensors(where, "the codec", tensors)
    dilation = codec.dilation_base ** max(codec.n_residual_layers - 1, 0)
    if dilation > _LARGEST_DILATION:
        raise ValueError(
            f"{where}: the codec's dilation_base is {codec.dilation_base} over {codec.n_residual_layers} residual "
            f"layers; allowed are dilations up to {_LARGEST_DILATION}."
        )
    if not codec.causal and codec.trim_right_ratio != 1.0:
        raise ValueError(
            f"{where}: the codec's trim_right_ratio is {codec.trim_right_ratio:g}; allowed is 1, and another only in "
            "a causal codec."
        )


def _mert_tensors(fields: Mapping[str, Any]) -> Tensors:
    hidden, inputs = fields["hidden_size"], [1, *fields["conv_dim"]]
    positions = hidden // fields["num_conv_pos_embedding_groups"]
    convolutions = [
        ("a convolution", {"conv_dim": width, "inputs": before, "conv_kernel": kernel})
        for before, width, kernel in zip(inputs, fields["conv_dim"], fields["conv_kernel"], strict=False)
    ]
    return [
        *convolutions,
        ("attention matrices", {"hidden_size": hidden, "hidden_size again": hidden}),
        ("feed-forward matrices", {"hidden_size": hidden, "intermediate_size": fields["intermediate_size"]}),
        ("a projection of the features", {"conv_dim": inputs[-1], "hidden_size": hidden}),
        (
            "positions",
            {
                "hidden_size": hidden,
                "a group": positions,
                "num_conv_pos_embeddings": fields["num_conv_pos_embeddings"],
            },
        ),
    ]
