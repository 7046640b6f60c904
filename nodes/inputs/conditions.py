"""Conditions from the sockets, checked and put into one request: CONDITIONING, melodies, styles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...musicgen.audio import shown
from ...musicgen.conditioning.condition import Span, TextCondition
from ...musicgen.conditioning.melody import Melody
from ...musicgen.generation.params import GenerationParams
from ...musicgen.generation.request import Request
from ...musicgen.generation.schedule import Schedules
from ..sockets import SPAN_KEY, WEIGHT_KEY, MelodyBatch, ModelHandle, StyleBatch, StyleHandle, Tokens
from .tokens import read_prompt

_CONDITIONING = (
    "allowed is a list of [states, options] from MusicGen Text Encode (or core's T5-base), so connect its CONDITIONING"
)


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
    guidance: Schedules | None = None,
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
        schedules=_read_guidance(guidance),
    )


def _read_guidance(guidance: Schedules | None) -> Schedules:
    if guidance is not None and not isinstance(guidance, Schedules):
        raise ValueError(f"guidance is {shown(guidance)}; allowed is the output of MusicGen Guidance.")
    return guidance or Schedules()


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
        span=_read_span(extra.get(SPAN_KEY)),
        weight=_number(extra, WEIGHT_KEY, 1.0),
    )


def _read_span(fields: Any) -> Span | None:
    if fields is None:
        return None
    numbers = isinstance(fields, Sequence) and all(each is None or isinstance(each, int | float) for each in fields)
    if not numbers or len(fields) != 5 or None in (fields[0], *fields[2:4]):
        raise ValueError(f"this conditioning has {shown(fields)} as its times; make it with MusicGen Timeline.")
    return Span(*fields)


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
