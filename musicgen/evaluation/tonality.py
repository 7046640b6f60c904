"""Measures of pitch: chroma, agreement with a melody, energy inside a key, and the key itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio import resample
from ..conditioning.melody import chroma_filter_bank, chroma_of
from ..config import RELEASED_CHROMA, ChromaConfig

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Weights of the scale's degrees, first to seventh: a plain form of Krumhansl's profiles.
_DEGREE_WEIGHTS = (1.0, 0.35, 0.7, 0.45, 0.8, 0.4, 0.35)


def _spectrogram(audio: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Return the power `[B, bins, F]` in windows of about a quarter of a second, and each bin's frequency in Hz."""
    n_fft = 1 << round(math.log2(sample_rate * 0.25))
    window = torch.hann_window(n_fft)
    spectrum = torch.stft(audio, n_fft, n_fft // 4, window=window, return_complex=True, pad_mode="constant")
    return spectrum.abs().pow(2), torch.arange(n_fft // 2 + 1) * (sample_rate / n_fft)


def chromagram(audio: Tensor, sample_rate: int) -> Tensor:
    """Compute the energy of the 12 pitch classes, C first: audio `[B, L]` -> `[B, F, 12]`, about 16 frames a second.

    The filters are the same as for the melody condition, in windows of about a quarter of a second.
    """
    power, _ = _spectrogram(audio, sample_rate)
    n_fft = 2 * (power.shape[1] - 1)
    config = ChromaConfig(sample_rate, n_fft, n_fft // 4, num_chroma=12, chroma_length=1)
    return (chroma_filter_bank(config) @ power).transpose(-1, -2)


def chroma_cosine(audio: Tensor, other: Tensor, sample_rate: int) -> Tensor:
    """Return the chroma cosine similarity of Copet et al. 2023 (section 4) of recordings `[B, L]`: `[B]`.

    Audiocraft's metric: the one-hot chroma of the melody condition (windows of 16,384 samples at 32 kHz) of
    both, and the share of frames in which both are equal, as two one-hot rows have a cosine of 1 or 0. The
    shorter recording decides the length. Silent frames count as C.

    >>> a440 = torch.sin(2 * torch.pi * 440 * torch.arange(64000) / 32000)[None]
    >>> chroma_cosine(a440, a440, 32000)
    tensor([1.])
    """
    length = min(audio.shape[-1], other.shape[-1])
    config = RELEASED_CHROMA
    ours, theirs = (resample(each[..., :length], sample_rate, config.sample_rate) for each in (audio, other))
    # The frame centred on the very end, where there is one, does not count.
    frames = -(-ours.shape[-1] // config.hop_length)
    rows = zip(ours, theirs, strict=True)
    return torch.stack(
        [(chroma_of(a, config)[:frames] * chroma_of(b, config)[:frames]).sum(dim=-1).mean() for a, b in rows]
    )


def chroma_similarity(audio: Tensor, other: Tensor, sample_rate: int) -> Tensor:
    """Return the mean cosine similarity of the chroma of two recordings `[B, L]`, frame by frame: `[B]`.

    For continuous chroma, which is kinder than :func:`chroma_cosine`. Frames in which `other` is silent do not count.
    """
    length = min(audio.shape[-1], other.shape[-1])
    ours, theirs = (chromagram(each[..., :length], sample_rate) for each in (audio, other))
    loudness = theirs.sum(dim=-1)
    heard = (loudness > 1e-4 * loudness.amax(dim=-1, keepdim=True)).float()
    cosine = torch.cosine_similarity(ours, theirs, dim=-1, eps=1e-12)
    return (cosine * heard).sum(dim=-1) / heard.sum(dim=-1).clamp_min(1.0)


def chroma_agreement(audio: Tensor, other: Tensor, sample_rate: int) -> Tensor:
    """Return the share of frames in which two recordings `[B, L]` have the same strongest pitch class: `[B]`."""
    length = min(audio.shape[-1], other.shape[-1])
    ours, theirs = (chromagram(each[..., :length], sample_rate).argmax(dim=-1) for each in (audio, other))
    return (ours == theirs).float().mean(dim=-1)


def pitch_classes(audio: Tensor, sample_rate: int) -> Tensor:
    """Return the share of each pitch class in the energy of audio `[B, L]`: `[B, 12]`, 1/12 each for silence.

    Only spectral peaks between 100 and 1000 Hz count, each for the nearest semitone alone. This
    leaves out most of the energy of drums, and unlike the chromagram it does not blur neighbours.
    """
    power, hertz = _spectrogram(audio, sample_rate)
    peaks = power * (F.max_pool1d(power.transpose(1, 2), 3, 1, 1).transpose(1, 2) == power)
    pitch = torch.round(12 * torch.log2(hertz.clamp_min(1.0) / 440.0) + 69).long() % 12
    heard = ((hertz > 100) & (hertz < 1000)).float()
    profile = peaks.sum(dim=-1) @ (F.one_hot(pitch, 12).float() * heard[:, None]) + 1e-9
    return profile / profile.sum(dim=-1, keepdim=True)


def share_in_key(profile: Tensor, keys: Sequence[int], modes: Sequence[str]) -> Tensor:
    """Return the share of pitch classes `[B, 12]` in the scale of each row's key (0 = C): `[B]`.

    >>> share_in_key(torch.full((1, 12), 1 / 12), keys=[0], modes=["major"])
    tensor([0.5833])
    """
    inside = torch.zeros_like(profile)
    for row, (key, mode) in enumerate(zip(keys, modes, strict=True)):
        inside[row, [(key + step) % 12 for step in SCALES[mode]]] = 1.0
    return (profile * inside).sum(dim=-1)


def in_key_energy(audio: Tensor, sample_rate: int, keys: Sequence[int], modes: Sequence[str]) -> Tensor:
    """Return the share of the energy of audio `[B, L]` in the scale of each row's key: `[B]`.

    A scale has 7 of the 12 pitch classes, so evenly spread energy gives 0.58.
    """
    return share_in_key(pitch_classes(audio, sample_rate), keys, modes)


def key_of(audio: Tensor, sample_rate: int) -> list[tuple[int, str]]:
    """Return the likeliest key of each row of audio `[B, L]`: pitch class of the tonic (0 = C) and mode.

    Relative keys share one scale and differ only in the weights of its notes.
    """
    names = [(key, mode) for mode in SCALES for key in range(12)]
    profile = pitch_classes(audio, sample_rate)
    fits = torch.stack([key_fit(profile, key, mode) for key, mode in names], dim=-1)
    return [names[index] for index in fits.argmax(dim=-1).tolist()]


def key_fit(profile: Tensor, key: int, mode: str) -> Tensor:
    """Correlate pitch classes `[B, 12]`, as :func:`pitch_classes` returns them, with a key's: `[B]`, -1 to 1."""
    template = torch.zeros(12)
    template[[(key + step) % 12 for step in SCALES[mode]]] = torch.tensor(_DEGREE_WEIGHTS)
    return _correlate(profile.pow(0.3), template)


def correlate_profiles(profile: Tensor, other: Tensor) -> Tensor:
    """Correlate pitch classes `[..., 12]` with each other, small ones raised: `[...]`, -1 to 1."""
    return _correlate(profile.pow(0.3), other.pow(0.3))


def _correlate(first: Tensor, second: Tensor) -> Tensor:
    first, second = (each - each.mean(dim=-1, keepdim=True) for each in (first, second))
    return (first * second).sum(dim=-1) / (first.norm(dim=-1) * second.norm(dim=-1)).clamp_min(1e-12)
