"""The recipe of a sampled piece: everything that made it, as JSON can hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from typing import Any

from ...musicgen.generation.params import GenerationParams
from ...musicgen.generation.request import Request
from ..sockets import SPAN_KEY, TEXT_KEY, WEIGHT_KEY, ModelHandle, StyleBatch

_OPTIONS = ("strength", "start_percent", "end_percent", SPAN_KEY, WEIGHT_KEY)
_NUMBERS = ("duration", "seed", "cfg_coef", "cfg_coef_beta", "temperature", "top_k", "top_p", "pattern")


def recipe_of(
    model: ModelHandle,
    params: GenerationParams,
    request: Request,
    positive: Sequence[Sequence[Any]],
    negative: Sequence[Sequence[Any]] | None,
    style: StyleBatch | None,
) -> dict[str, Any]:
    """The recipe of the pieces that a request samples; a pattern of None is the model's own, by delays and trained."""
    config = model.config
    return {
        "model": model.name,
        "weights": model.weights,
        "dtype": str(model.patcher.model.dtype).removeprefix("torch."),
        "loras": [{"name": name, "strength": strength} for name, strength in model.loras],
        "positive": [_description(entry) for entry in positive],
        "negative": [_description(entry) for entry in negative or []],
        "melody": bool(request.melodies),
        "style": style and style.model,
        "prompt_frames": request.prompt_frames,
        "batch_size": request.batch_size,
        **{name: getattr(params, name) for name in _NUMBERS},
        **({"schedules": _points(request)} if request.schedules.given else {}),
        "delays": list(config.delays),
        "trained": config.pattern and asdict(config.pattern),
    }


def _points(request: Request) -> dict[str, list[list[float]]]:
    """The numbers that change over time: seconds, value and glide of each point."""
    given = request.schedules.given
    return {name: [list(astuple(point)) for point in schedule.points] for name, schedule in given.items()}


def _description(entry: Sequence[Any]) -> dict[str, Any]:
    """The text of an entry of CONDITIONING, as far as it is known, and the core options that change its use."""
    options = entry[1] if isinstance(entry[1], Mapping) else {}
    found = {
        name: options[name]
        for name in ("strength", "start_percent", "end_percent", SPAN_KEY, WEIGHT_KEY)
        if name in options
    }
    text = options.get(TEXT_KEY)
    return {"text": text if isinstance(text, str) else None, **found}
