"""Measures of rhythm: how steady the pulse is, and which of several given tempi fits best.

Both use the autocorrelation of the onset envelope (a beat histogram in Tzanetakis and Cook 2002).
They need no training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio import mel_filter_bank

ENVELOPE_RATE = 100
"""Frames per second of an onset envelope."""


def log_mel(audio: Tensor, sample_rate: int, num_mels: int = 40) -> Tensor:
    """Compute the log mel spectrogram `[B, num_mels, F]` of audio `[B, L]`.

    100 frames a second, in nepers relative to a full-scale sine; all below -80 dB counts as -80 dB.
    """
    hop = sample_rate // ENVELOPE_RATE
    n_fft = 1 << (3 * hop).bit_length()
    window = torch.hann_window(n_fft)
    spectrum = torch.stft(audio, n_fft, hop, window=window, return_complex=True, pad_mode="constant").abs()
    mel = mel_filter_bank(sample_rate, n_fft, num_mels) @ (spectrum * (4.0 / n_fft))
    return torch.log(mel.clamp_min(1e-4))


def onset_envelope(audio: Tensor, sample_rate: int) -> Tensor:
    """Compute the mean rise of the mel bands of audio `[B, L]` in each frame: `[B, F]`, 100 frames a second."""
    mel = log_mel(audio, sample_rate)
    return (mel[..., 2:] - mel[..., :-2]).clamp_min(0.0).mean(dim=1)


def onset_autocorrelation(audio: Tensor, sample_rate: int, max_seconds: float = 3.3) -> Tensor:
    """Correlate the onset envelope with itself after each delay: `[B, lags]`, 0.01 s a lag, 1 = equal.

    The envelope's mean is removed, and each lag is normalised by the energy of the two stretches that
    overlap at this lag.
    """
    envelope = onset_envelope(audio, sample_rate)  # [B, F]
    envelope = envelope - envelope.mean(dim=-1, keepdim=True)
    # Autocorrelation by way of the power spectrum, padded so that it does not wrap around.
    frames = envelope.shape[-1]
    size = 1 << (2 * frames - 1).bit_length()
    spectrum = torch.fft.rfft(envelope, size)
    shared = torch.fft.irfft(spectrum.abs().pow(2), size)[..., :frames]
    # Energy of the first F - lag frames and of the last F - lag frames.
    energy = envelope.pow(2).cumsum(dim=-1)
    lags = min(round(max_seconds * ENVELOPE_RATE) + 1, frames - 1)
    head = energy.flip(-1)[..., :lags]
    tail = energy[..., -1:] - F.pad(energy, (1, 0))[..., :lags]
    return shared[..., :lags] / (head * tail).clamp_min(1e-12).sqrt()


def pulse_strength(audio: Tensor, sample_rate: int) -> Tensor:
    """Return the highest autocorrelation of onsets at delays from 0.3 to 1 s: audio `[B, L]` -> `[B]`.

    Music with a beat repeats after some delay in this range; noise does not.
    """
    curve = onset_autocorrelation(audio, sample_rate, 1.0)
    return curve[..., round(0.3 * ENVELOPE_RATE) :].amax(dim=-1)


def tempo_of(audio: Tensor, sample_rate: int, tempi: Sequence[float]) -> Tensor:
    """Return the index of the tempo, in beats per minute, that fits audio `[B, L]` best: int64 `[B]`.

    A tempo's score is the autocorrelation after 1 to 4 of its beats, minus the autocorrelation a
    quarter beat before and after the first one. Half and double tempo are different tempi.
    """
    curve = onset_autocorrelation(audio, sample_rate)
    scores = torch.stack([_tempo_score(curve, 60.0 * ENVELOPE_RATE / tempo) for tempo in tempi], dim=-1)
    return scores.argmax(dim=-1)


def tempo_found(curve: Tensor) -> Tensor:
    """Return the tempo in beats per minute that a curve `[B, lags]` of :func:`onset_autocorrelation` shows best: `[B]`.

    There are 93 tempi from 40 to 247, each 2 % above the one before.
    """
    tempi = [40.0 * 1.02**step for step in range(93)]
    scores = torch.stack([_tempo_score(curve, 60.0 * ENVELOPE_RATE / tempo) for tempo in tempi], dim=-1)
    return torch.tensor(tempi)[scores.argmax(dim=-1)]


def tempo_fit(curve: Tensor, bpm: float) -> Tensor:
    """Return how well music keeps a tempo, 0 to 1: curve `[B, lags]` of :func:`onset_autocorrelation` -> `[B]`.

    Three quarters for the nearness of the tempo that is found, which falls to a third 5 % off, a fourth for the
    strength of the pulse at the wanted one.
    """
    octaves = (tempo_found(curve) / bpm).log2() / math.log2(1.05)
    beat = 60.0 * ENVELOPE_RATE / bpm
    strength = torch.stack([_tempo_score(curve, beat * factor) for factor in (0.985, 1.0, 1.015)], dim=-1).amax(dim=-1)
    return 0.75 * torch.exp(-octaves.square()) + 0.25 * strength.clamp(0.0, 1.0)


def _tempo_score(curve: Tensor, beat: float) -> Tensor:
    def at(beats: float) -> Tensor:
        lag = round(beats * beat)
        if lag + 2 > curve.shape[-1]:
            return curve.new_zeros(curve.shape[:-1])
        return curve[..., lag - 1 : lag + 2].amax(dim=-1)

    return (at(1) + at(2) + at(3) + at(4)) / 4 - (at(0.75) + at(1.25)) / 4
