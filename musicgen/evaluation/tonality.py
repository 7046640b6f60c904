"""Measures of pitch: chroma, likeness to a melody, energy inside a key, and the key itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..conditioning.melody import chroma_filter_bank
from ..config import ChromaConfig

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Weights of the scale's degrees: home first, then fifth and third (a plain form of Krumhansl's profiles).
_DEGREE_WEIGHTS = (1.0, 0.35, 0.7, 0.45, 0.8, 0.4, 0.35)


def _spectrogram(audio: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Power `[B, bins, F]` over windows of about a quarter of a second, and the frequency of each bin."""
    n_fft = 1 << round(math.log2(sample_rate * 0.25))
    window = torch.hann_window(n_fft)
    spectrum = torch.stft(audio, n_fft, n_fft // 4, window=window, return_complex=True, pad_mode="constant")
    return spectrum.abs().pow(2), torch.arange(n_fft // 2 + 1) * (sample_rate / n_fft)


def chromagram(audio: Tensor, sample_rate: int) -> Tensor:
    """Energy of the 12 pitch classes, C first: `[B, F, 12]` of audio `[B, L]`, about 16 frames a second.

    The filters are those of the melody condition, over windows of about a quarter of a second.
    """
    power, _ = _spectrogram(audio, sample_rate)
    n_fft = 2 * (power.shape[1] - 1)
    config = ChromaConfig(sample_rate, n_fft, n_fft // 4, num_chroma=12, chroma_length=1)
    return (chroma_filter_bank(config) @ power).transpose(-1, -2)


def chroma_similarity(audio: Tensor, other: Tensor, sample_rate: int) -> Tensor:
    """Mean cosine of the chroma of audio `[B, L]` and of another `[B, L]`, frame by frame: `[B]`.

    Copet et al. 2023, section 4, for continuous chroma. Frames where the other is silent do not count.
    """
    length = min(audio.shape[-1], other.shape[-1])
    ours, theirs = (chromagram(each[..., :length], sample_rate) for each in (audio, other))
    loudness = theirs.sum(dim=-1)
    heard = (loudness > 1e-4 * loudness.amax(dim=-1, keepdim=True)).float()
    cosine = torch.cosine_similarity(ours, theirs, dim=-1, eps=1e-12)
    return (cosine * heard).sum(dim=-1) / heard.sum(dim=-1).clamp_min(1.0)


def chroma_agreement(audio: Tensor, other: Tensor, sample_rate: int) -> Tensor:
    """Share of frames in which both have the same strongest pitch class: `[B]`."""
    length = min(audio.shape[-1], other.shape[-1])
    ours, theirs = (chromagram(each[..., :length], sample_rate).argmax(dim=-1) for each in (audio, other))
    return (ours == theirs).float().mean(dim=-1)


def pitch_classes(audio: Tensor, sample_rate: int) -> Tensor:
    """The share of each pitch class in the sound of audio `[B, L]`: `[B, 12]`, sums to 1; even where silent.

    Unlike the chromagram it does not smear: the energy of spectral peaks between 100 and 1000 Hz
    goes to the nearest semitone alone, which leaves out most of what drums are made of.
    """
    power, hertz = _spectrogram(audio, sample_rate)
    peaks = power * (F.max_pool1d(power.transpose(1, 2), 3, 1, 1).transpose(1, 2) == power)
    pitch = torch.round(12 * torch.log2(hertz.clamp_min(1.0) / 440.0) + 69).long() % 12
    heard = ((hertz > 100) & (hertz < 1000)).float()
    profile = peaks.sum(dim=-1) @ (F.one_hot(pitch, 12).float() * heard[:, None]) + 1e-9
    return profile / profile.sum(dim=-1, keepdim=True)


def share_in_key(profile: Tensor, keys: Sequence[int], modes: Sequence[str]) -> Tensor:
    """Share of pitch classes `[B, 12]` that lies in the scale of each row's key (0 = C): `[B]`."""
    inside = torch.zeros_like(profile)
    for row, (key, mode) in enumerate(zip(keys, modes, strict=True)):
        inside[row, [(key + step) % 12 for step in SCALES[mode]]] = 1.0
    return (profile * inside).sum(dim=-1)


def in_key_energy(audio: Tensor, sample_rate: int, keys: Sequence[int], modes: Sequence[str]) -> Tensor:
    """Share of the sound of audio `[B, L]` that lies in the scale of each row's key: `[B]`.

    7 of 12 pitch classes are in a scale, so that a random key gives 0.58.
    """
    return share_in_key(pitch_classes(audio, sample_rate), keys, modes)


def key_of(audio: Tensor, sample_rate: int) -> list[tuple[int, str]]:
    """The likeliest key of each row of audio `[B, L]`: pitch class of home (0 = C) and mode.

    Relative keys share their scale, and differ only in which notes are heard most.
    """
    names = [(key, mode) for mode in SCALES for key in range(12)]
    templates = torch.zeros(len(names), 12)
    for row, (key, mode) in enumerate(names):
        templates[row, [(key + step) % 12 for step in SCALES[mode]]] = torch.tensor(_DEGREE_WEIGHTS)
    templates = templates - templates.mean(dim=-1, keepdim=True)
    templates = templates / templates.norm(dim=-1, keepdim=True)
    best = (pitch_classes(audio, sample_rate).pow(0.3) @ templates.t()).argmax(dim=-1)
    return [names[index] for index in best.tolist()]
