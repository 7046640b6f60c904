"""How smooth a seam in a piece is, in standard deviations of the piece's own interior.

Three measures look at both sides of a place. `jump` compares the spectra of 50 ms before and after it: a click or a cut
note is a jump. `timbre` compares the spectra of a second before and after it: other instruments or another level.
`pulse` correlates the onsets after it with those before it, one period of the piece's rhythm earlier: a beat that
comes early or late lowers it. Each is taken at every place of the interior too; the seam's z is its distance from the
mean there, divided by the standard deviation there. So 0 is an ordinary place of this very piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..codec.cyclic import decode_cyclic
from ..codec.encodec import EnCodec
from ..evaluation.rhythm import ENVELOPE_RATE, log_mel

MEASURES = ("jump", "timbre", "pulse")

_SHORT = round(0.05 * ENVELOPE_RATE)
_LONG = ENVELOPE_RATE
_LAGS = (round(0.3 * ENVELOPE_RATE), 2 * ENVELOPE_RATE)
_PULSE = ENVELOPE_RATE
"""Onsets are compared over whole periods of at least this many frames."""
_AROUND, _MARGIN = 5.0, 0.1
"""Seconds that are decoded on either side of a section, and those beside a seam that are not its interior."""


@dataclass(frozen=True)
class Seam:
    """The z of a seam's measures: rougher than the interior above 0, for the pulse below 0."""

    jump: float
    timbre: float
    pulse: float

    @property
    def roughness(self) -> float:
        """How much rougher than the interior the seam is at its roughest, 0 for none."""
        return max(0.0, *(value for value in (self.jump, self.timbre, -self.pulse) if math.isfinite(value)))


def seam_of(audio: Tensor, sample_rate: int, seconds: float, interior: list[tuple[float, float]]) -> Seam:
    """Measure a seam.

    Args:
        audio: the piece, `[L]` or `[C, L]`.
        sample_rate: samples per second.
        seconds: the place of the seam.
        interior: ranges in seconds whose places the seam is compared with.

    Raises:
        ValueError: the interior has under two places with enough sound on both sides.
    """
    mel, envelope = _features(audio, sample_rate)
    curves = curves_of(mel, envelope)
    place = round(seconds * ENVELOPE_RATE)
    inside = torch.zeros(curves.shape[1], dtype=torch.bool)
    for start, end in interior:
        inside[round(start * ENVELOPE_RATE) : round(end * ENVELOPE_RATE)] = True
    found = []
    for curve in curves:
        values = curve[inside & torch.isfinite(curve)]
        if len(values) < 2:
            raise ValueError(
                f"the interior {interior} has {len(values)} places with sound on both sides; allowed are at least 2, "
                "so give a longer one."
            )
        here = curve[place] if place < len(curve) else curve.new_tensor(float("nan"))
        found.append(float((here - values.mean()) / values.std().clamp_min(1e-6)))
    return Seam(*found)


def section_listener(codec: EnCodec, first: int, stop: int) -> Callable[[Tensor], list[float]]:
    """Return a function that hears how rough the end of a section is in each of some pieces.

    Args:
        codec: decodes codes `[n, K, T]`, the section and some seconds on either side.
        first: first frame of the section.
        stop: first frame behind it.
    """

    def listen(codes: Tensor) -> list[float]:
        rate, around = codec.frame_rate, round(_AROUND * codec.frame_rate)
        start, end = max(0, first - around), min(codes.shape[2], stop + around)
        interior = [(0.0, (first - start) / rate - _MARGIN), ((stop - start) / rate + _MARGIN, (end - start) / rate)]
        return _roughness(codec.decode(codes[:, :, start:end]), codec.sample_rate, (stop - start) / rate, interior)

    return listen


def loop_listener(codec: EnCodec) -> Callable[[Tensor], list[float]]:
    """Return a function that hears how rough the turn of each of some loops `[n, K, frames]` is."""

    def listen(codes: Tensor) -> list[float]:
        audio, seconds = decode_cyclic(codec, codes), codes.shape[2] / codec.frame_rate
        interior = [(_MARGIN, seconds - _MARGIN), (seconds + _MARGIN, 2 * seconds)]
        return _roughness(torch.cat([audio, audio], dim=2), codec.sample_rate, seconds, interior)

    return listen


def _roughness(audio: Tensor, rate: int, place: float, interior: list[tuple[float, float]]) -> list[float]:
    """The roughness of each item of audio `[n, C, L]`; 0 for all where the interior is too short to compare with."""
    spans = [(start, end) for start, end in interior if end > start]
    try:
        return [seam_of(item, rate, place, spans).roughness for item in audio.cpu()]
    except ValueError:
        return [0.0] * len(audio)


def _features(audio: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Log mel spectrogram `[M, F]` and onset envelope `[F]`."""
    mono = audio if audio.dim() == 1 else audio.mean(dim=0)
    mel = log_mel(mono[None], sample_rate)[0]
    rise = (mel[:, 1:] - mel[:, :-1]).clamp_min(0.0).mean(dim=0)
    return mel, F.pad(rise, (1, 0))


def curves_of(mel: Tensor, envelope: Tensor) -> Tensor:
    """The three measures at every frame, `[3, F]`, NaN where a side is too short."""
    period = _period(envelope)
    return torch.stack([_difference(mel, _SHORT), _difference(mel, _LONG), _pulse(envelope, period)])


def _difference(mel: Tensor, size: int) -> Tensor:
    """Mean absolute difference of the mean spectra of `size` frames before and after each frame: `[F]`."""
    sums = F.pad(mel.cumsum(dim=1), (1, 0))  # [M, F + 1]
    means = (sums[:, size:] - sums[:, :-size]) / size  # [M, F + 1 - size]: from each frame on
    curve = torch.full((mel.shape[1],), float("nan"))
    if means.shape[1] > size:
        curve[size : size + means.shape[1] - size] = (means[:, size:] - means[:, :-size]).abs().mean(dim=0)
    return curve


def _period(envelope: Tensor) -> int:
    """Frames after which the onsets repeat best, a multiple of their period of at least _PULSE frames."""
    centred = envelope - envelope.mean()
    size = 1 << (2 * len(centred) - 1).bit_length()
    shared = torch.fft.irfft(torch.fft.rfft(centred, size).abs().pow(2), size)[: len(centred)]
    low, high = _PULSE, min(_LAGS[1] + 1, len(centred) // 2)
    if high <= low:
        return low
    overlap = torch.arange(len(centred), 0, -1)[low:high]
    return low + int((shared[low:high] / overlap).argmax())


def _pulse(envelope: Tensor, period: int) -> Tensor:
    """Correlation of the onsets of one period before and after each frame: `[F]`."""
    curve = torch.full_like(envelope, float("nan"))
    if len(envelope) < 2 * period:
        return curve
    spans = envelope.unfold(0, period, 1)  # [F - period + 1, period]
    spans = spans - spans.mean(dim=1, keepdim=True)
    before, after = spans[:-period], spans[period:]
    curve[period : period + len(after)] = torch.cosine_similarity(before, after, dim=1, eps=1e-6)
    return curve
