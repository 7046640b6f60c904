"""Tiny models of transformers' own making, with seeded random weights: what parity is tried on."""

from __future__ import annotations

import string
from typing import Any

import torch

CARD = 64
_TEXT_SPREAD, _LM_SPREAD = 0.5, 0.2


def char_tokenizer() -> Any:
    """A T5 tokenizer over single characters."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import T5TokenizerFast

    special = ["<pad>", "</s>", "<unk>"]
    pieces = [(token, 0.0) for token in special]
    pieces += [(char, -4.0) for char in "\u2581" + string.ascii_lowercase + string.digits + ".,-!?'&"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return T5TokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", extra_ids=0
    )


def tiny_config(melody: bool, vocab_size: int) -> Any:
    """transformers' configuration of a tiny text or melody model."""
    from transformers import EncodecConfig, MusicgenConfig, MusicgenMelodyConfig, T5Config

    text = T5Config(
        vocab_size=vocab_size, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="relu"
    )
    codec = EncodecConfig(
        target_bandwidths=[1.2],
        sampling_rate=32000,
        audio_channels=1,
        normalize=False,
        hidden_size=16,
        num_filters=4,
        num_residual_layers=1,
        upsampling_ratios=[8, 5, 4, 4],
        norm_type="weight_norm",
        kernel_size=7,
        residual_kernel_size=3,
        dilation_growth_rate=2,
        use_causal_conv=False,
        pad_mode="reflect",
        compress=2,
        num_lstm_layers=2,
        codebook_size=CARD,
        codebook_dim=16,
        use_conv_shortcut=False,
    )
    decoder = {
        "vocab_size": CARD,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 192,
        "num_codebooks": 4,
        "pad_token_id": CARD,
        "bos_token_id": CARD,
        "audio_channels": 1,
    }
    kind = MusicgenMelodyConfig if melody else MusicgenConfig
    return kind(text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder)


def spread_weights(model: Any, generator: torch.Generator) -> None:
    """Seeded numbers in every tensor, wide enough that conditions and codes make a difference."""
    for name, tensor in sorted(model.state_dict().items()):
        if not tensor.is_floating_point() or name.endswith(("inited", "cluster_size", "original0", "embed_positions")):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.startswith("audio_encoder"):
            fan_in = tensor[0].numel() if tensor.dim() > 1 else 100
            scale = 1.0 if "quantizer" in name else 1.2 / fan_in**0.5
        elif "norm" in name:
            noise, scale = 1.0 + 0.1 * noise, 1.0
        else:
            scale = _TEXT_SPREAD if name.startswith("text_encoder") else _LM_SPREAD
        tensor.copy_(noise * scale)
    for name, tensor in model.state_dict().items():
        if name.endswith("original0"):
            direction = model.state_dict()[name[:-1] + "1"]
            tensor.copy_(direction.flatten(1).norm(dim=1).view(tensor.shape))
