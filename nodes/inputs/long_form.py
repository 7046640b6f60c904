"""MUSICGEN_LONG_FORM: made from widgets, used by the sampler and by the decoder."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from ...musicgen.evaluation.drift import DriftGuard
from ...musicgen.finishing import fade, hold_level
from ...musicgen.generation.params import GenerationParams
from ...musicgen.generation.request import Request
from ...musicgen.times import Meter, parse_length
from ..sockets import CodecHandle, LongForm, ModelHandle
from .parts import check_codec

OPEN, FADE, KEY_NOTE = ENDINGS = ("as it comes", "fade out", "on the key note")
_SHOWN = 12


def read_long_form(
    *,
    tries: int,
    tolerance: float,
    even: bool,
    ending: str,
    fade_out: str,
    fade_in: str,
    bpm: float,
    beats_per_bar: int,
    **lengths: str,
) -> LongForm:
    """The widgets of MusicGen Long Form -> MUSICGEN_LONG_FORM, lengths in seconds."""
    meter = Meter(bpm, beats_per_bar)
    window, overlap = (
        parse_length(lengths[name], meter) if lengths[name].strip() else None for name in ("window", "overlap")
    )
    if window is not None and overlap is not None and not 0 < overlap < window:
        raise ValueError(
            f"the overlap is {overlap:g} s and the window {window:g} s; allowed is an overlap above 0 and below the "
            "window, such as two fifths of it."
        )
    out = 0.0 if ending == OPEN else parse_length(fade_out, meter)
    return LongForm(
        window=window,
        overlap=overlap,
        tries=tries,
        tolerance=tolerance,
        rests=ending == KEY_NOTE,
        even=even,
        fade_in=parse_length(fade_in, meter),
        fade_out=out / 2 if ending == KEY_NOTE else out,
    )


def with_windows(params: GenerationParams, long_form: LongForm | None, model: ModelHandle) -> GenerationParams:
    """Numbers of a request with the windows of a long form."""
    if long_form is None:
        return params
    window = long_form.window or model.config.window
    stride = None if long_form.overlap is None else window - long_form.overlap
    if stride is not None and stride <= 0:
        raise ValueError(
            f"the overlap is {long_form.overlap:g} s; allowed is less than the window, {window:g} s, so shorten it."
        )
    return replace(params, window=long_form.window, extend_stride=stride)


def guard_of(
    long_form: LongForm | None, model: ModelHandle, codec: CodecHandle | None, request: Request
) -> tuple[DriftGuard | None, CodecHandle | None]:
    """The guard of a request and the codec that it hears with; neither for a piece of one window."""
    windows = request.windows(model.config)
    if long_form is None or len(windows) == 1:
        return None, None
    heard = check_codec(codec, model) if codec is not None else model.parts and model.parts[1]
    if heard is None:
        raise ValueError("the guard of MusicGen Long Form hears the music and needs a codec; connect codec as well.")
    module = heard.patcher.model
    guard = DriftGuard(
        module.decode,
        module.sample_rate,
        module.frame_rate,
        tries=long_form.tries,
        tolerance=long_form.tolerance,
        melodies=request.checked(model.config).melodies,
        last_frame=windows[-1].first + windows[-1].num_frames if long_form.rests else None,
    )
    return guard, heard


def told_drift(guard: DriftGuard) -> str:
    """The drift of the first piece, window by window, in lines for the node; of many windows the farthest ones."""
    windows = guard.windows.get(0, [])[1:]
    if not windows:
        return ""
    again = sum(each.drawn > 1 for each in windows)
    farthest = sorted(sorted(windows, key=lambda each: -each.drift.cost)[:_SHOWN], key=lambda each: each.start)
    lines = [f"Drift from the first window; {again} of {len(windows)} windows were drawn again:"]
    if len(windows) > _SHOWN:
        lines[0] = lines[0].removesuffix(":") + f". The {_SHOWN} farthest:"
    for each in farthest:
        drawn = f" (try {each.drawn})" if each.drawn > 1 else ""
        lines.append(f"{each.start:g} to {each.end:g} s: {each.drift}{drawn}")
    return "\n".join(lines)


def finished(audio: Tensor, sample_rate: int, long_form: LongForm | None) -> Tensor:
    """Sound [1, C, L] with an even level, a beginning and an end, where a long form asks for them."""
    if long_form is None:
        return audio
    even = hold_level(audio[0], sample_rate) if long_form.even else audio[0]
    return fade(even, sample_rate, beginning=long_form.fade_in, ending=long_form.fade_out)[None]


def recipe_of_long_form(long_form: LongForm | None) -> dict[str, Any]:
    """The part of a recipe that a long form adds."""
    return {} if long_form is None else {"long_form": asdict(long_form)}
