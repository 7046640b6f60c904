"""MUSICGEN_TOKENS from the sockets, checked; and new ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...musicgen.generation.params import GenerationParams
from ..sockets import CodecHandle, ModelHandle, Tokens


def read_prompt(tokens: Tokens | None, model: ModelHandle, batch_size: int) -> Tensor | None:
    """MUSICGEN_TOKENS to continue from -> codes [batch_size, K, T], or None."""
    if tokens is None:
        return None
    needed = model.config.num_codebooks
    _check_tokens(tokens, f"the model {model.name}", needed, model.config.audio_channels, model.codec)
    codes = tokens["codes"]
    if codes.shape[0] not in (1, batch_size):
        raise ValueError(f"the prompt holds {codes.shape[0]} items; allowed are 1 or the batch size {batch_size}.")
    return codes.expand(batch_size, -1, -1)


def read_tokens(tokens: Tokens, codec: CodecHandle) -> Tensor:
    """MUSICGEN_TOKENS to decode -> codes [B, K, T]."""
    module = codec.patcher.model
    owner = f"the codec of {codec.name}"
    _check_tokens(tokens, owner, module.num_codebooks, module.audio_channels, codec.fingerprint)
    return tokens["codes"]


def _check_tokens(tokens: Tokens, owner: str, num_codebooks: int, channels: int, fingerprint: str) -> None:
    found = tokens["codes"].shape[1]
    if found != num_codebooks:
        raise ValueError(
            f"these tokens of {tokens['model']} have {found} codebooks ({_layout(tokens['audio_channels'])}), but "
            f"{owner} works with {num_codebooks} ({_layout(channels)}); use tokens, model and codec of one loader."
        )
    if tokens["codec"] != fingerprint:
        raise ValueError(
            f"these tokens belong to the codec of {tokens['model']}, which is not {owner} "
            f"({tokens['codec']} is not {fingerprint}); use tokens, model and codec of one loader."
        )


def sampled_tokens(
    codes: Tensor, model: ModelHandle, params: GenerationParams, seconds: float, recipe: dict[str, Any]
) -> Tokens:
    """Codes that a model sampled -> MUSICGEN_TOKENS. seconds: the wanted length, to the sample."""
    config = model.config
    hop, num_samples = config.sample_rate // config.frame_rate, round(seconds * config.sample_rate)
    return Tokens(
        codes=codes,
        frame_rate=config.frame_rate,
        sample_rate=config.sample_rate,
        audio_channels=config.audio_channels,
        card=config.card,
        codec=model.codec,
        model=model.name,
        num_samples=num_samples if num_samples < codes.shape[2] * hop else None,
        pattern=params.pattern,
        seed=params.seed,
        recipe={**recipe, "frames": codes.shape[2]},
    )


def encoded_tokens(codes: Tensor, codec: CodecHandle, num_samples: int) -> Tokens:
    """Codes of a recording of num_samples at the codec's rate -> MUSICGEN_TOKENS."""
    module = codec.patcher.model
    return Tokens(
        codes=codes,
        frame_rate=module.frame_rate,
        sample_rate=module.sample_rate,
        audio_channels=module.audio_channels,
        card=module.config.card,
        codec=codec.fingerprint,
        model=codec.name,
        num_samples=num_samples,
        pattern=None,
        seed=None,
        recipe=None,
    )


def _layout(channels: int) -> str:
    return "stereo" if channels == 2 else "mono"
