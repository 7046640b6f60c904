"""The windows of a long piece, in whole frames.

A piece longer than the model's window is sampled window after window; each window continues the
last `window - extend_stride` seconds of the one before it (section 3.3 of the audiocraft write-up of
Copet et al. 2023). The reference adds and truncates seconds as floating-point numbers, and loses a
frame for some durations: 0.58 s gives 28 frames, and 4.5 s in windows of 2 s with a stride of 1.2 s
gives 224. This module converts seconds to frames once, tolerates the rounding error of that
multiplication, and adds frames only; it gives 29 and 225.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .params import GenerationParams


@dataclass(frozen=True)
class Window:
    """One call of the decoder: frames `first` to `first + num_frames - 1` of the piece.

    Attributes:
        first: the window's first frame, counted from the start of the piece.
        num_frames: length of the window.
        prompt_frames: how many frames at the start of the window are already known.
    """

    first: int
    num_frames: int
    prompt_frames: int


def to_frames(seconds: float, frame_rate: int) -> int:
    """Return the number of whole frames in a duration; a frame that only rounding error cuts short counts.

    >>> to_frames(0.58, 50)  # 0.58 * 50 is 28.999999999999996
    29
    """
    return math.floor(seconds * frame_rate + 1e-6)


def frames_seconds(seconds: float, frame_rate: int) -> float:
    """Return the seconds of the whole frames that hold a duration; rounding error adds none.

    >>> frames_seconds(1.001, 50)
    1.02
    """
    return math.ceil(seconds * frame_rate - 1e-6) / frame_rate if math.isfinite(seconds) else seconds


def plan_windows(
    params: GenerationParams,
    frame_rate: int,
    prompt_frames: int = 0,
    *,
    model_window: float = 30.0,
    model_stride: float = 18.0,
) -> list[Window]:
    """Plan the windows of a request.

    >>> plan_windows(GenerationParams(duration=4.0, window=3.0, extend_stride=2.0), frame_rate=50)
    [Window(first=0, num_frames=150, prompt_frames=0), Window(first=100, num_frames=100, prompt_frames=50)]

    Args:
        params: the request's duration, window and extend_stride, in seconds.
        frame_rate: frames per second.
        prompt_frames: length of the prompt. A prompt as long as the window or longer is continued
            from its last `window - extend_stride` seconds.
        model_window: seconds of music that the model was trained on at a time.
        model_stride: the model's extend_stride in seconds; another window in the request scales it.

    Raises:
        ValueError: the duration is under one frame, the prompt is no shorter than the duration, or
            several windows are needed and would not overlap.
    """
    total = to_frames(params.duration, frame_rate)
    window = model_window if params.window is None else params.window
    own_stride = model_stride * window / model_window
    extend_stride = own_stride if params.extend_stride is None else params.extend_stride
    size, stride = to_frames(window, frame_rate), to_frames(extend_stride, frame_rate)
    if total < 1:
        raise ValueError(
            f"duration is {params.duration} seconds; allowed is at least one frame, {1 / frame_rate:g} seconds."
        )
    if total > size and not 1 <= stride < size:
        raise ValueError(
            f"extend_stride is {extend_stride} seconds; windows must overlap, so allowed for a piece longer "
            f"than the window is at least one frame, {1 / frame_rate:g} s, and less than {window:g} s."
        )
    if prompt_frames >= total:
        raise ValueError(
            f"the prompt is {prompt_frames / frame_rate:g} seconds long; allowed is less than the duration, "
            f"{params.duration:g} seconds, which includes the prompt. Raise the duration or trim the prompt."
        )
    # The first window holds the prompt; each further one moves on by the stride until the piece ends.
    if prompt_frames < size:
        windows = [Window(0, min(total, size), prompt_frames)]
    else:
        # The prompt does not fit into the window: continue its last part, as a later window does.
        first = prompt_frames - (size - stride)
        windows = [Window(first, min(total - first, size), size - stride)]
    while windows[-1].first + windows[-1].num_frames < total:
        first = windows[-1].first + stride
        windows.append(Window(first, min(total - first, size), size - stride))
    return windows


@dataclass(frozen=True)
class Cut:
    """A place in frames where the music takes another turn: of the music before it, `keep` frames are heard."""

    frame: int
    keep: int


def plan_cut_windows(
    cuts: Sequence[Cut],
    params: GenerationParams,
    frame_rate: int,
    prompt_frames: int = 0,
    *,
    model_window: float = 30.0,
    model_stride: float = 18.0,
) -> list[Window]:
    """Plan the windows of a piece with cuts: each stretch between two cuts is planned like a piece of its own.

    >>> for window in plan_cut_windows([Cut(200, 25)], GenerationParams(duration=6.0), 50):
    ...     print(window)
    Window(first=0, num_frames=200, prompt_frames=0)
    Window(first=175, num_frames=125, prompt_frames=25)

    Args:
        cuts: in the order of their frames, all behind the prompt and before the end.
        params: the request's duration, window and extend_stride, in seconds.
        frame_rate: frames per second.
        prompt_frames: length of the prompt.
        model_window: seconds of music that the model was trained on at a time.
        model_stride: the model's extend_stride in seconds; another window in the request scales it.

    Raises:
        ValueError: as in :func:`plan_windows`.
    """
    size = {"model_window": model_window, "model_stride": model_stride}
    stops = [cut.frame for cut in cuts] + [to_frames(params.duration, frame_rate)]
    windows = plan_windows(replace(params, duration=stops[0] / frame_rate), frame_rate, prompt_frames, **size)
    for cut, stop in zip(cuts, stops[1:], strict=True):
        first = max(0, cut.frame - cut.keep)
        stretch = replace(params, duration=(stop - first) / frame_rate)
        part = plan_windows(stretch, frame_rate, cut.frame - first, **size)
        windows += [replace(window, first=first + window.first) for window in part]
    return windows


def plan_gap_windows(
    params: GenerationParams,
    frame_rate: int,
    first: int,
    stop: int,
    *,
    model_window: float = 30.0,
    model_stride: float = 18.0,
) -> list[Window]:
    """Plan the windows in which frames `first` to `stop - 1` of an otherwise known piece are sampled.

    A piece that fits into the window is seen as a whole. In a longer one, the window takes in the gap, half an overlap
    behind it and the music before it, at least a whole overlap; a gap that is too long for that takes several windows.

    >>> params = GenerationParams(duration=10.0, window=3.0, extend_stride=2.0)
    >>> plan_gap_windows(params, 50, 300, 350)
    [Window(first=225, num_frames=150, prompt_frames=75)]

    Args:
        params: the request's duration, window and extend_stride, in seconds.
        frame_rate: frames per second.
        first: first frame of the gap.
        stop: first frame behind the gap.
        model_window: seconds of music that the model was trained on at a time.
        model_stride: the model's extend_stride in seconds; another window in the request scales it.

    Raises:
        ValueError: several windows are needed and would not overlap.
    """
    plain = plan_windows(params, frame_rate, model_window=model_window, model_stride=model_stride)
    total = plain[-1].first + plain[-1].num_frames
    if len(plain) == 1:
        return [Window(0, total, first)]
    size, overlap = plain[0].num_frames, plain[1].prompt_frames
    end = min(total, stop + overlap // 2)
    start = max(0, min(first - overlap, end - size))
    windows = [Window(start, min(total - start, size), first - start)]
    while windows[-1].first + windows[-1].num_frames < stop:
        start = windows[-1].first + size - overlap
        windows.append(Window(start, min(total - start, size), overlap))
    return windows
