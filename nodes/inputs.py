"""Values from the sockets, checked and put into the library's terms: AUDIO, CONDITIONING, tokens, melodies.

Each refusal is one ValueError with the value, the values that are allowed and the remedy. No value from a
socket is ever written to: ComfyUI caches and shares it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..musicgen.audio import as_audio, check_audio, check_rate, describe_downmix, downmix, shown
from ..musicgen.conditioning.condition import TextCondition
from ..musicgen.conditioning.melody import Melody
from ..musicgen.conditioning.text import TextEncoder
from ..musicgen.generation.params import GenerationParams
from ..musicgen.generation.request import Request
from .host import progress
from .sockets import (
    MAX_SECONDS,
    CodecHandle,
    MelodyBatch,
    ModelHandle,
    StyleBatch,
    StyleHandle,
    TextEncoderHandle,
    Tokens,
)

_CONDITIONING = (
    "allowed is a list of [states, options] from MusicGen Text Encode (or core's T5-base), so connect its CONDITIONING"
)


def read_audio(audio: Any, node_id: str | None = None, max_seconds: float = MAX_SECONDS) -> tuple[Tensor, int]:
    """An AUDIO value -> waveform float32 [B, C, L] with C of 1 or 2, and its sample rate.

    Surround sound is mixed to stereo, and the node says so.
    """
    if audio is None:
        raise ValueError(
            "the audio is None, as from a video without sound; connect a node that gives sound, such as Load Audio."
        )
    waveform, rate = _field(audio, "waveform"), check_rate(_field(audio, "sample_rate"), "the audio")
    waveform = as_audio(waveform, "the audio's waveform")
    if waveform.dim() == 3 and waveform.shape[2] > max_seconds * rate:
        raise ValueError(
            f"the audio is {waveform.shape[2] / rate:.0f} seconds long; allowed are {max_seconds:.0f} seconds, "
            "so cut it first, for example with Trim Audio Duration."
        )
    waveform = check_audio(waveform, rate, "the audio's waveform")
    if waveform.shape[1] > 2:
        progress.show(node_id, describe_downmix(waveform.shape[1]))
    return downmix(waveform), rate


def _field(audio: Any, name: str) -> Any:
    """A field of an AUDIO value, which may be a dict or a mapping that reads its file only now."""
    try:
        value = audio[name]
    except (KeyError, TypeError, IndexError, AttributeError):
        value = None
    if value is None:
        is_dict = isinstance(audio, Mapping)
        arrived = f"holds {', '.join(map(str, audio)) or 'nothing'}" if is_dict else f"is {shown(audio)}"
        raise ValueError(
            f"the audio {arrived} and has no {name}; allowed is a dict with a waveform [batch, channels, samples] "
            "and a sample_rate, so connect the AUDIO output of a node such as Load Audio."
        )
    return value


def read_request(
    model: ModelHandle,
    params: GenerationParams,
    batch_size: int,
    *,
    positive: Sequence[Sequence[Any]],
    negative: Sequence[Sequence[Any]] | None,
    melody: MelodyBatch | None,
    style: StyleBatch | None,
    prompt: Tokens | None,
) -> Request:
    """Everything that arrives at the sampler -> one request that fits the model."""
    return Request(
        params=params,
        positive=read_conditioning(positive, model, batch_size),
        negative=read_conditioning(negative or [], model, batch_size),
        batch_size=batch_size,
        melodies=read_melody(melody, model, batch_size),
        styles=read_style(style, model, batch_size),
        prompt=read_prompt(prompt, model, batch_size),
    )


def read_conditioning(
    conditioning: Sequence[Sequence[Any]], model: ModelHandle, batch_size: int
) -> tuple[TextCondition, ...]:
    """Native CONDITIONING -> one TextCondition per entry.

    Core nodes change states without their mask: Concat appends rows, ZeroOut leaves ones. So a row
    counts if its own mask says so (rows beyond the mask do) and if it is not all zeros. Core's own
    T5 (CLIP Loader of type stable_audio) gives no mask and pads with zeros; its empty prompt is one
    row, T5's end token, which MusicGen was never shown alone: it is read as no description.
    """
    if not isinstance(conditioning, Sequence) or isinstance(conditioning, str):
        raise ValueError(f"this conditioning is {shown(conditioning)}; {_CONDITIONING}.")
    return tuple(_read_entry(entry, model, batch_size) for entry in conditioning)


def _read_entry(entry: Any, model: ModelHandle, batch_size: int) -> TextCondition:
    is_pair = isinstance(entry, Sequence) and len(entry) == 2
    if not is_pair or not isinstance(entry[0], Tensor) or not isinstance(entry[1], Mapping):
        raise ValueError(f"this conditioning holds {shown(entry)}; {_CONDITIONING}.")
    states, extra = entry
    width = model.config.lm.text_dim
    if states.dim() != 3 or states.shape[2] != width or states.shape[1] == 0:
        raise ValueError(
            f"this conditioning has shape {list(states.shape)}; the model {model.name} needs [1, tokens, {width}], "
            "so make it with the MusicGenTextEncode node (MusicGen Text Encode) of the same model (or, if that is 768, "
            "with core's T5-base: CLIP Loader of type stable_audio)."
        )
    if states.shape[0] not in (1, batch_size):
        raise ValueError(
            f"this conditioning holds a batch of {states.shape[0]}; allowed is 1 or the batch size {batch_size}."
        )
    states = states.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(states).all()):
        raise ValueError("this conditioning holds NaN or infinite numbers; encode the description again.")
    return TextCondition(
        states,
        _row_mask(states, extra.get("attention_mask")),
        strength=_number(extra, "strength", 1.0),
        start=_number(extra, "start_percent", 0.0),
        end=_number(extra, "end_percent", 1.0),
    )


def _row_mask(states: Tensor, own: Any) -> Tensor:
    """Rows of states [B, n, C] that count [B, n], by the conditioning's own mask and by their numbers."""
    mask = (states != 0).any(dim=2)
    if own is None:
        return mask & (mask.sum(dim=1, keepdim=True) > 1)
    if not isinstance(own, Tensor) or own.numel() == 0 or own.dim() == 0 or own[..., 0].numel() not in (1, len(mask)):
        raise ValueError(
            f"this conditioning has {shown(own)} as its attention_mask; allowed is a tensor [{len(mask)}, tokens], so "
            "encode the description with MusicGen Text Encode."
        )
    own = own.to("cpu").bool().reshape(-1, own.shape[-1])[:, : states.shape[1]]
    mask[:, : own.shape[1]] &= own
    return mask


def _number(extra: Mapping[str, Any], key: str, default: float) -> float:
    try:
        return float(extra.get(key, default))
    except (TypeError, ValueError) as error:
        raise ValueError(f"this conditioning has {shown(extra[key])} as its {key}; allowed is a number.") from error


def read_melody(melody: MelodyBatch | None, model: ModelHandle, batch_size: int) -> list[Melody]:
    """MUSICGEN_MELODY -> one melody per batch item, none without a melody."""
    if melody is None:
        return []
    if model.config.chroma is None:
        raise ValueError(
            f"the model {model.name} is a text model and cannot follow a melody; "
            "load a melody model, or disconnect the melody."
        )
    if len(melody.items) not in (1, batch_size):
        raise ValueError(f"{len(melody.items)} melodies arrived; allowed are 1 or the batch size {batch_size}.")
    return list(melody.items) * (batch_size // len(melody.items))


def style_of(model: ModelHandle) -> StyleHandle:
    """The style conditioner of a model, which must have one."""
    if model.style is None:
        raise ValueError(
            f"the model {model.name} has no style condition and cannot take a style; "
            "load a style model (facebook/musicgen-style), or disconnect the style."
        )
    return model.style


def read_style(style: StyleBatch | None, model: ModelHandle, batch_size: int) -> list[Tensor]:
    """MUSICGEN_STYLE -> tokens [n, dim] per batch item, none without a style."""
    if style is None:
        return []
    own = style_of(model).fingerprint
    if style.conditioner != own:
        raise ValueError(
            f"this style was made with the model {style.model}, whose styles the model {model.name} does not read "
            f"({style.conditioner} is not {own}); make it with MusicGen Style from the same model."
        )
    if len(style.items) not in (1, batch_size):
        raise ValueError(f"{len(style.items)} styles arrived; allowed are 1 or the batch size {batch_size}.")
    return list(style.items) * (batch_size // len(style.items))


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


def check_parts(model: ModelHandle, text_encoder: TextEncoderHandle, codec: CodecHandle) -> None:
    """Refuse a language model, text encoder and codec that make no whole model together."""
    module = text_encoder.patcher.model
    if not isinstance(module, TextEncoder):
        raise ValueError(
            f"the text encoder {text_encoder.name} is not from MusicGen Loader, so it cannot be saved; connect the "
            "loader's own."
        )
    if module.width != model.config.lm.text_dim:
        raise ValueError(
            f"the text encoder of {text_encoder.name} is {module.width} wide, but the model {model.name} takes "
            f"{model.config.lm.text_dim}; use model and text encoder of one loader."
        )
    if codec.fingerprint != model.codec:
        raise ValueError(
            f"the codec of {codec.name} is not that of the model {model.name} ({codec.fingerprint} is not "
            f"{model.codec}); use model and codec of one loader."
        )


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


def sampled_tokens(codes: Tensor, model: ModelHandle, params: GenerationParams) -> Tokens:
    """Codes that a model sampled -> MUSICGEN_TOKENS."""
    config = model.config
    return Tokens(
        codes=codes,
        frame_rate=config.frame_rate,
        sample_rate=config.sample_rate,
        audio_channels=config.audio_channels,
        card=config.card,
        codec=model.codec,
        model=model.name,
        num_samples=None,
        pattern=params.pattern,
        seed=params.seed,
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
    )


def _layout(channels: int) -> str:
    return "stereo" if channels == 2 else "mono"
