"""How far the sound of a long piece moves away from its beginning, window by window, and a guard against it.

A window is compared with the first one by three numbers: loudness, shape of the spectrum, and pitch classes (or, along
a melody, the agreement with it). Nothing here changes sound; :class:`DriftGuard` lets `generate` draw windows again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from ..audio import resample
from ..conditioning.melody import Melody, chroma_of
from ..environment import torch_defaults
from ..generation.windows import Window
from ..loudness import integrated_loudness
from .rhythm import log_mel
from .tonality import correlate_profiles, key_of, pitch_classes

LEVEL_DB, SPECTRUM_DB, KEY = 2.0, 3.0, 0.15
"""The drift that costs 1: decibels of loudness, mean decibels of a band of the spectrum, and the loss of correlation of
the pitch classes or of agreement with the melody."""
SILENT = -60.0
"""Loudness in LUFS below which a window is silent."""
_DEPTH_DB = 40.0
_DB_PER_NEPER = 20 / math.log(10)
_CONTEXT = 1.0

Decode = Callable[[Tensor], Tensor]
"""Codes `[1, K, T]` -> audio `[1, C, L]`."""


@dataclass(frozen=True)
class Traits:
    """The numbers of a stretch of sound.

    Attributes:
        loudness: LUFS, -inf for silence.
        spectrum: decibels of 40 mel bands with a mean of 0, `[40]`; 40 dB below the highest counts as the floor.
        pitches: share of each pitch class, `[12]`.
        agreement: share of frames with the melody's note; None without a melody.
    """

    loudness: float
    spectrum: Tensor
    pitches: Tensor
    agreement: float | None = None


@dataclass(frozen=True)
class Drift:
    """How far traits are from those of the first window.

    Attributes:
        level: decibels of loudness; -inf where the sound is gone.
        spectrum: mean decibels of a band, without the level.
        key: loss of the correlation of pitch classes, 0 to 2; along a melody the loss of agreement with it.
    """

    level: float = 0.0
    spectrum: float = 0.0
    key: float = 0.0

    @property
    def cost(self) -> float:
        """The largest of the three in units of :data:`LEVEL_DB`, :data:`SPECTRUM_DB` and :data:`KEY`."""
        return max(abs(self.level) / LEVEL_DB, self.spectrum / SPECTRUM_DB, self.key / KEY)

    def __str__(self) -> str:
        """For example `level +0.4 dB, spectrum 1.2 dB, key 0.02`."""
        level = "silent" if math.isinf(self.level) else f"level {self.level:+.1f} dB"
        return f"{level}, spectrum {self.spectrum:.1f} dB, key {self.key:.2f}"


@torch.no_grad()
@torch_defaults()
def traits_of(audio: Tensor, sample_rate: int, tune: Tensor | None = None, melody: Melody | None = None) -> Traits:
    """Measure a stretch of sound.

    Args:
        audio: `[C, L]`, half a second or more.
        sample_rate: samples per second.
        tune: chroma `[F, 12]` that the stretch should follow, one row for each frame of the melody's config.
        melody: the melody whose config the tune has.
    """
    mono = audio.mean(dim=0, keepdim=True)
    loudness = float(integrated_loudness(audio[None], sample_rate))
    power = (2 * log_mel(mono, sample_rate)[0]).exp().mean(dim=-1)
    bands = power.log() * _DB_PER_NEPER / 2
    bands = bands.clamp_min(float(bands.max()) - _DEPTH_DB)
    agreement = None
    if tune is not None and melody is not None:
        ours = chroma_of(resample(mono[0], sample_rate, melody.config.sample_rate), melody.config)
        count = min(len(ours), len(tune))
        agreement = float(torch.cosine_similarity(ours[:count], tune[:count], dim=-1, eps=1e-12).mean())
    return Traits(
        loudness if loudness > SILENT else -math.inf,
        bands - bands.mean(),
        pitch_classes(mono, sample_rate)[0],
        agreement,
    )


def drift_from(first: Traits, now: Traits) -> Drift:
    """Return how far a stretch is from the first one."""
    if math.isinf(first.loudness):
        return Drift()  # nothing can be near silence or far from it
    level = now.loudness - first.loudness
    if first.agreement is not None and now.agreement is not None:
        key = max(0.0, first.agreement - now.agreement)
    else:
        key = 1.0 - float(correlate_profiles(first.pitches, now.pitches))
    return Drift(level, float((first.spectrum - now.spectrum).abs().mean()), key)


def drift_over_time(audio: Tensor, sample_rate: int, seconds: float) -> list[Drift]:
    """Return the drift of each whole stretch of a sound `[C, L]` from the first one that is not silent."""
    size = round(seconds * sample_rate)
    found = [traits_of(audio[:, a:b], sample_rate) for a, b in pairwise(range(0, audio.shape[1] + 1, size))]
    first = next((each for each in found if math.isfinite(each.loudness)), found[0])
    return [drift_from(first, each) for each in found]


@dataclass(frozen=True)
class WindowDrift:
    """The new part of a window as it stayed: its time in seconds, its drift, and how often it was drawn."""

    start: float
    end: float
    drift: Drift
    drawn: int


@dataclass
class DriftGuard:
    """A :class:`Guard` for one call of `generate`: keeps each window near the first one of its item.

    Attributes:
        decode: the codec's decoder.
        sample_rate: of the decoded sound.
        frame_rate: of the codes.
        tries: how often a window is drawn at most; 1 only measures.
        tolerance: the cost of a drift that is near enough; the larger, the less is drawn again.
        melodies: one per item, or empty.
        last_frame: end of the piece, for a piece that should end on the key note; None for one that need not.
        windows: the result, one list for each item.
    """

    decode: Decode
    sample_rate: int
    frame_rate: int
    tries: int = 4
    tolerance: float = 1.0
    melodies: Sequence[Melody | None] = ()
    last_frame: int | None = None
    windows: dict[int, list[WindowDrift]] = field(default_factory=dict)
    _first: dict[int, Traits] = field(default_factory=dict, repr=False)
    _key: dict[int, tuple[int, str]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that guard nothing."""
        if self.tries < 1:
            raise ValueError(f"tries is {self.tries}; allowed is at least 1, which measures and draws nothing again.")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance:g}; allowed is above 0, such as 1.")

    def cost(self, item: int, codes: Tensor, window: Window) -> float:
        """Return the drift of a window in units of the tolerance; the first window has none."""
        sound = self._sound(codes, window)
        drift = self._drift(item, sound, window)
        cost = drift.cost / self.tolerance
        if codes.shape[1] != self.last_frame or item not in self._key:
            return cost
        # Near enough is not enough for the end: all tries are made, and the last second decides between the good ones.
        return 1.0 + max(cost, 1.0) - ending_fit(sound, self.sample_rate, self._key[item])

    def accept(self, item: int, codes: Tensor, window: Window, drawn: int) -> None:
        """Keep the first window that is not silent as the measure, and note the drift of every other one."""
        sound = self._sound(codes, window)
        traits = self._traits(item, sound, window)
        if item not in self._first and math.isfinite(traits.loudness):
            self._first[item] = traits
            self._key[item] = key_of(sound.mean(dim=0, keepdim=True), self.sample_rate)[0]
        start, end = self._start(window) / self.frame_rate, codes.shape[1] / self.frame_rate
        drift = self._drift(item, sound, window)
        self.windows.setdefault(item, []).append(WindowDrift(start, end, drift, drawn))

    def _start(self, window: Window) -> int:
        """The first frame to measure: of the new part, and of a whole first window, prompt included."""
        return window.first + (window.prompt_frames if window.first else 0)

    def _sound(self, codes: Tensor, window: Window) -> Tensor:
        """The new part of a window as sound `[C, L]`, decoded with a second before it."""
        start = self._start(window)
        before = min(start, round(_CONTEXT * self.frame_rate))
        audio = self.decode(codes[None, :, start - before :])[0].cpu()
        return audio[:, before * self.sample_rate // self.frame_rate :]

    def _traits(self, item: int, sound: Tensor, window: Window) -> Traits:
        melody = self.melodies[item] if self.melodies else None
        tune = None
        if melody is not None:
            rate, hop = melody.config.sample_rate, melody.config.hop_length
            samples = round(sound.shape[1] * rate / self.sample_rate)
            tune = melody.window(self._start(window) * rate // self.frame_rate, samples, max(1, samples // hop))
        return traits_of(sound, self.sample_rate, tune, melody)

    def _drift(self, item: int, sound: Tensor, window: Window) -> Drift:
        if item not in self._first or sound.shape[1] < self.sample_rate // 2:  # too short to measure
            return Drift()
        return drift_from(self._first[item], self._traits(item, sound, window))


def ending_fit(audio: Tensor, sample_rate: int, key: tuple[int, str], seconds: float = 1.0) -> float:
    """Return how well the last second of a sound `[C, L]` rests on the chord of a key: 0 to 1."""
    end = audio[:, -round(seconds * sample_rate) :].mean(dim=0, keepdim=True)
    third = 4 if key[1] == "major" else 3
    chord = [key[0], (key[0] + third) % 12, (key[0] + 7) % 12]
    return float(pitch_classes(end, sample_rate)[0][chord].sum())
