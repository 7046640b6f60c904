"""Plots of sound: spectrogram, waveform, loudness, melody."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..evaluation.rhythm import log_mel
from ..images import colours
from ..loudness import integrated_loudness, momentary_loudness, peak_db
from .canvas import Canvas, Look

_MELS, _RANGE_DB = 96, 70.0
_LOUDNESS_RANGE = 50.0
_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_BLACK = (1, 3, 6, 8, 10)
_DB_PER_NEPER = 20 / math.log(10)


def spectrogram_plot(audio: Tensor, sample_rate: int, look: Look | None = None) -> Tensor:
    """Plot the mel spectrogram of audio `[C, L]`, mixed to mono: float32 `[H, W, 3]`, in dB below the loudest cell."""
    canvas = Canvas(look or Look(), "mel spectrogram (Hz)", bar=(f"-{_RANGE_DB:g}", "0 dB"))
    levels = log_mel(audio.mean(dim=0, keepdim=True), sample_rate, _MELS)[0] * _DB_PER_NEPER  # [mels, F]
    silent = levels.max() < -79.0
    shares = torch.zeros_like(levels) if silent else 1 + (levels - levels.max()) / _RANGE_DB
    canvas.fill(colours(shares.flip(0)))
    top = _mel(sample_rate / 2)
    hertz = [h for h in (300, 1000, 2000, 4000, 8000, 16000) if h < sample_rate / 2]
    canvas.y_labels([(_mel(h) / top, f"{h // 1000}k" if h >= 1000 else str(h)) for h in hertz])
    canvas.seconds(audio.shape[1] / sample_rate)
    return canvas.tensor()


def waveform_plot(audio: Tensor, sample_rate: int, look: Look | None = None) -> Tensor:
    """Plot the samples of audio `[C, L]`, one lane per channel, with its peak: float32 `[H, W, 3]`."""
    channels, length = audio.shape
    peak = float(peak_db(audio[None]))
    canvas = Canvas(look or Look(), f"waveform, peak {'-inf' if math.isinf(peak) else f'{peak:.1f}'} dBFS")
    edges = (torch.arange(canvas.width + 1) * length // canvas.width).tolist()
    canvas.seconds(length / sample_rate, lines=True)
    labels = [((channels - 1 - lane + 0.5) / channels, _lane(lane, channels)) for lane in range(channels)]
    canvas.y_labels(labels, lines=True)
    for lane in range(channels):
        middle, half = (channels - 1 - lane + 0.5) / channels, 0.48 / channels
        for column in range(canvas.width):
            part = audio[lane, edges[column] : max(edges[column] + 1, edges[column + 1])]
            if not len(part):
                continue
            x, rms = canvas.left + column, float(part.square().mean().sqrt())
            for low, high, shade in ((float(part.min()), float(part.max()), 0.05), (-rms, rms, 0.5)):
                low, high = max(-1.0, low), min(1.0, high)
                canvas.draw.line(
                    (x, canvas.y(middle + high * half), x, canvas.y(middle + low * half)), canvas.mark(shade)
                )
    return canvas.tensor()


def loudness_plot(audio: Tensor, sample_rate: int, look: Look | None = None) -> Tensor:
    """Plot the momentary loudness of mono or stereo audio `[C, L]` in LUFS, and the integrated one: `[H, W, 3]`."""
    whole = float(integrated_loudness(audio[None], sample_rate))
    curve, rate = momentary_loudness(audio[None], sample_rate)
    known = "silence" if math.isinf(whole) else f"{whole:.1f} LUFS as a whole"
    canvas = Canvas(look or Look(), f"momentary loudness, {known}")
    loudest = float(curve.max())
    top = 0.0 if math.isinf(loudest) else min(0.0, math.ceil((loudest + 3) / 10) * 10)
    top = max(top, whole if not math.isinf(whole) else top)
    bottom = top - _LOUDNESS_RANGE
    canvas.y_labels([((level - bottom) / _LOUDNESS_RANGE, f"{level:g}") for level in _tens(bottom, top)], lines=True)
    seconds = audio.shape[1] / sample_rate
    canvas.seconds(seconds, lines=True)
    thick = max(2, canvas.size // 5)
    if not math.isinf(whole):
        canvas.line([(whole - bottom) / _LOUDNESS_RANGE] * 2, canvas.mark(0.7), max(1, thick // 2))
    shares = [(max(level, bottom) - bottom) / _LOUDNESS_RANGE for level in curve[0].tolist()]
    end = len(shares) / rate / seconds
    points = [
        (canvas.x((index + 1) / len(shares) * min(1.0, end)), canvas.y(share)) for index, share in enumerate(shares)
    ]
    canvas.draw.line(points if len(points) > 1 else points * 2, canvas.mark(0.3), thick, joint="curve")
    return canvas.tensor()


def melody_plot(chroma: Tensor, seconds: float, look: Look | None = None) -> Tensor:
    """Plot chroma `[F, 12]` as a piano roll of one octave, C at the bottom: float32 `[H, W, 3]`."""
    if chroma.dim() != 2 or chroma.shape[1] != len(_NOTES):
        raise ValueError(f"chroma has shape {list(chroma.shape)}; allowed is [frames, 12].")
    canvas = Canvas(look or Look(), "melody, the loudest note of each frame")
    frames = chroma.shape[0]
    index = torch.arange(min(frames, canvas.width)) * frames // min(frames, canvas.width)
    rows = chroma[index].t().float()  # [12, F]
    keys = torch.tensor(canvas.theme.panel).repeat(len(_NOTES), 1) / 255
    keys[list(_BLACK)] = torch.tensor(canvas.theme.grid) / 255 * 0.35 + keys[list(_BLACK)] * 0.65
    low, high = canvas.theme.marks
    note = colours(low + rows * 0.6 * (high - low))
    cells = torch.where((rows > 0)[..., None], note, keys[:, None])
    canvas.fill(cells.flip(0))
    canvas.y_labels([((note + 0.5) / 12, name) for note, name in enumerate(_NOTES) if note not in _BLACK])
    canvas.seconds(seconds)
    return canvas.tensor()


def _mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


def _lane(lane: int, channels: int) -> str:
    return "" if channels == 1 else ("L", "R")[lane] if channels == 2 else str(lane + 1)


def _tens(bottom: float, top: float) -> list[int]:
    return [level for level in range(math.ceil(bottom / 10) * 10, math.floor(top) + 1, 10) if level > bottom]
