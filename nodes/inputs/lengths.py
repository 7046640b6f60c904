"""The length of a video, of images, of a sound, or of bars: in seconds, exact to the frame."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor

from ...musicgen.audio import check_rate, shown
from ..sockets import MAX_SECONDS
from .sound import field

SOURCES = CONNECTED, VIDEO, IMAGES, AUDIO, BARS = "connected", "video", "images", "audio", "bars"


@dataclass(frozen=True)
class Length:
    """A length in seconds, the number of images in it, and their rate. origin: in words."""

    seconds: float
    frames: int
    fps: float
    origin: str


def read_length(
    source: str, *, fps: float, bars: float, bpm: float, beats_per_bar: int, video: Any, images: Any, audio: Any
) -> Length:
    """The length that a user asks for; of several connected things, `connected` takes the first."""
    there = {VIDEO: video, IMAGES: images, AUDIO: audio}
    if source == CONNECTED:
        source = next((name for name, value in there.items() if value is not None), BARS)
    if source in there and there[source] is None:
        raise ValueError(f"source is {source!r}, but nothing is connected to {source}; connect it, or choose another.")
    if source == VIDEO:
        length = _of_video(video)
    elif source == IMAGES:
        if not isinstance(images, Tensor) or images.dim() != 4:
            raise ValueError(f"images is {shown(images)}; allowed is a batch [images, height, width, channels].")
        length = _of_frames(len(images), _rate(fps), "images")
    elif source == AUDIO:
        seconds = Fraction(field(audio, "waveform").shape[-1], check_rate(field(audio, "sample_rate"), "the audio"))
        length = _of_seconds(seconds, fps, "as the audio")
    else:
        beats = Fraction(str(round(bars * beats_per_bar, 6)))
        seconds = beats * 60 / Fraction(str(round(bpm, 6)))
        length = _of_seconds(seconds, fps, f"{bars:g} bars of {beats_per_bar} at {bpm:g} bpm")
    if not 0 < length.seconds <= MAX_SECONDS:
        raise ValueError(
            f"the length is {length.seconds:g} seconds; allowed is more than 0 and at most {MAX_SECONDS:g}, so "
            f"shorten the {source}."
        )
    return length


def _rate(fps: float) -> Fraction:
    """A rate that was typed -> the exact one: 23.98 and 29.97 stand for 24000/1001 and 30000/1001."""
    for whole in (24, 30, 48, 60, 120):
        if abs(fps - whole * 1000 / 1001) < 0.006:
            return Fraction(whole * 1000, 1001)
    return Fraction(str(round(fps, 6)))


def _of_video(video: Any) -> Length:
    if not hasattr(video, "get_components"):
        raise ValueError(f"video is {shown(video)}; allowed is a VIDEO, as from Load Video.")
    if hasattr(video, "get_frame_count"):
        return _of_frames(int(video.get_frame_count()), Fraction(video.get_frame_rate()), "video frames")
    parts = video.get_components()  # hosts that can only count the frames by reading them
    return _of_frames(len(parts.images), Fraction(parts.frame_rate), "video frames")


def _of_frames(frames: int, fps: Fraction, noun: str) -> Length:
    return Length(float(frames / fps), frames, float(fps), f"{frames} {noun} at {float(fps):.6g} fps")


def _of_seconds(seconds: Fraction, fps: float, origin: str) -> Length:
    return Length(float(seconds), round(seconds * _rate(fps)), float(_rate(fps)), origin)


def describe_length(length: Length) -> str:
    """A line that tells the length and where it comes from."""
    return f"{length.seconds:.6g} s: {length.origin}"
