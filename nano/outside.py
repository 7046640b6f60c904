"""Measures by librosa, which knows nothing of this project; they stand beside those of the probe.

librosa is wanted for measuring only (requirements-test.txt).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from musicgen.evaluation.report import Figure

from .corpus.captions import Labels

SLICE_SECONDS = 2.0
DRUM_FLOOR = 0.05
"""Least share of percussive energy in two seconds of music with drums: of 128 songs of the corpus (`calibrate`)."""
_SHARP = 0.04
"""How far a tempo may be off."""


def _librosa() -> Any:
    try:
        import librosa
    except ImportError as error:
        raise ModuleNotFoundError("these measures need librosa: pip install -r requirements-test.txt") from error
    return librosa


def percussive_shares(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Share of the energy that is percussive in each whole slice of 2 s of audio `[L]`.

    Harmonic and percussive parts by median filters of the spectrogram (Fitzgerald 2010), as librosa takes them.
    """
    librosa = _librosa()
    spectrum = librosa.stft(audio, n_fft=1024, hop_length=256)
    harmonic, percussive = librosa.decompose.hpss(spectrum)
    length = round(SLICE_SECONDS * sample_rate / 256)
    shares = []
    for first in range(0, spectrum.shape[1] - length + 1, length):
        part = slice(first, first + length)
        struck, held = (float((np.abs(each[:, part]) ** 2).sum()) for each in (percussive, harmonic))
        shares.append(struck / max(struck + held, 1e-9))
    return np.array(shares)


def has_drums_throughout(audio: np.ndarray, sample_rate: int, floor: float = DRUM_FLOOR) -> bool:
    """Whether every slice of 2 s has more than the floor."""
    return bool((percussive_shares(audio, sample_rate) > floor).all())


def tempo(audio: np.ndarray, sample_rate: int) -> float:
    """Beats per minute, by librosa's own estimate."""
    return float(np.atleast_1d(_librosa().feature.tempo(y=audio, sr=sample_rate))[0])


def is_tempo(found: float, wanted: float) -> bool:
    """Whether a tempo is the wanted one within 4 %.

    `is_tempo(124, 120)` is True, `is_tempo(60, 120)` is False.
    """
    return abs(found / wanted - 1) <= _SHARP


def is_tempo_or_double(found: float, wanted: float) -> bool:
    """As :func:`is_tempo`, of the tempo, its double or its half, which estimates often take for it."""
    return any(is_tempo(found, factor * wanted) for factor in (0.5, 1.0, 2.0))


def chroma_likeness(audio: np.ndarray, melody: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """Mean cosine of the chroma (constant Q) of audio and of a melody `[L]`, where the melody sounds, and the share of
    these frames in which the strongest pitch class is the same."""
    librosa = _librosa()
    length = min(len(audio), len(melody))
    ours, theirs = (
        librosa.feature.chroma_cqt(y=part[:length], sr=sample_rate, hop_length=512) for part in (audio, melody)
    )
    loudness = librosa.feature.rms(y=melody[:length], frame_length=2048, hop_length=512)[0][: theirs.shape[1]]
    sounds = loudness > 0.1 * loudness.max()
    ours, theirs = ours[:, : len(sounds)][:, sounds], theirs[:, : len(sounds)][:, sounds]
    norms = np.linalg.norm(ours, axis=0) * np.linalg.norm(theirs, axis=0)
    cosine = (ours * theirs).sum(axis=0) / np.maximum(norms, 1e-9)
    return float(cosine.mean()), float((ours.argmax(axis=0) == theirs.argmax(axis=0)).mean())


def drift(audio: np.ndarray, sample_rate: int, seconds: float = 10.0) -> tuple[float, float]:
    """How the last seconds of a piece differ from its first: decibels of loudness, and the spectral centroid's
    quotient less one."""
    librosa = _librosa()
    length = round(seconds * sample_rate)
    parts = audio[:length], audio[-length:]
    levels = [20 * np.log10(max(float(np.sqrt((part**2).mean())), 1e-6)) for part in parts]
    centres = [float(librosa.feature.spectral_centroid(y=part, sr=sample_rate).mean()) for part in parts]
    return levels[1] - levels[0], centres[1] / centres[0] - 1


def score_requests(audio: Tensor, asked: Sequence[Labels], sample_rate: int) -> list[Figure]:
    """How often clips `[N, L]` have drums throughout or not at all, and the tempo, as they were asked to."""
    drummed: list[float] = []
    silent: list[float] = []
    exact: list[float] = []
    near: list[float] = []
    for clip, wanted in zip(rows(audio), asked, strict=True):
        if "drums" in wanted and not wanted.get("ending"):
            shares = percussive_shares(clip, sample_rate)
            if wanted["drums"]:
                drummed.append(bool((shares > DRUM_FLOOR).all()))
            else:
                silent.append(bool((shares > DRUM_FLOOR).mean() < 0.5))
        if "tempo_bpm" in wanted:
            found, tempo_bpm = tempo(clip, sample_rate), float(str(wanted["tempo_bpm"]))
            exact.append(is_tempo(found, tempo_bpm))
            near.append(is_tempo_or_double(found, tempo_bpm))
    named = {
        "drums in every 2 s where asked (librosa)": drummed,
        "no drums where none were asked (librosa)": silent,
        "tempo within 4 % (librosa)": exact,
        "tempo, its double or half (librosa)": near,
    }
    return [Figure(name, "share", tuple(map(float, values))) for name, values in named.items() if values]


def score_melody(audio: Tensor, melody: Tensor, sample_rate: int) -> list[Figure]:
    """How clips `[N, L]` follow melodies `[N, L]`."""
    pairs = zip(rows(audio), rows(melody), strict=True)
    cosine, same = zip(*(chroma_likeness(ours, theirs, sample_rate) for ours, theirs in pairs), strict=True)
    return [
        Figure("chroma_cqt cosine to the melody (librosa)", "mean", cosine),
        Figure("strongest pitch class same (librosa)", "mean", same),
    ]


def rows(audio: Tensor) -> list[np.ndarray]:
    """Clips `[N, L]` as arrays `[L]`."""
    return [np.ascontiguousarray(row, dtype=np.float32) for row in audio.numpy()]


def best_floor(with_drums: Sequence[np.ndarray], without: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """The floor that tells music with drums from music without best, by the slices' shares of each; and how often it
    is right of either."""
    candidates = np.unique(np.concatenate([*with_drums, *without]).round(3))

    def right(floor: float) -> tuple[float, float]:
        found = [float(np.mean([(shares > floor).all() for shares in group])) for group in (with_drums, without)]
        return found[0], 1 - found[1]

    floor = max(candidates, key=lambda each: min(right(each)))
    return (float(floor), *right(floor))
