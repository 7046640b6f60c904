"""All measures of a set of clips at once: how well they are as asked, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from musicgen.evaluation.report import Figure
from musicgen.evaluation.rhythm import pulse_strength, tempo_of
from musicgen.evaluation.sound import codebook_perplexity, is_clipped, is_silent, is_stuck
from musicgen.evaluation.tonality import chroma_agreement, chroma_cosine, chroma_similarity, pitch_classes, share_in_key
from musicgen.fidelity import mel_distance, si_snr

from .corpus.captions import Labels
from .corpus.genres import TEMPI
from .corpus.notes import SongPlan
from .probes import Probe, clip_statistics

_PROBED = {
    "drums": "drums present or not",
    "bass": "bass present or not",
    "lead": "lead instrument, of 16",
    "chords": "chord instrument, of 8",
    "kit": "drum kit, of 6",
    "drum_pattern": "drum pattern, of 9",
    "genre": "genre, of 16",
    "tempo_bpm": "tempo, of 19, by the probe",
    "key": "key, of 24, by the probe",
}
_CHUNK = 32


def asked_of(plan: SongPlan) -> Labels:
    """All that a song's labels promise, in the form of :func:`read_caption`."""
    labels: Labels = {**asdict(plan), "tempo_bpm": plan.tempo_bpm, "bass": plan.bass, "drums": plan.drums}
    return {name: value for name, value in labels.items() if value is not None}


def _answer(asked: Labels, attribute: str) -> object:
    if attribute == "key":
        return (asked["key"], asked["mode"]) if "key" in asked else None
    return asked.get(attribute)


@dataclass(frozen=True)
class Hearing:
    """Findings in N clips, whatever was asked: the probe's answers and embeddings `[N, D]`, tempo, pulse `[N]`
    and pitch classes `[N, 12]`."""

    answers: dict[str, list[object]]
    embeddings: Tensor
    tempo_bpm: list[int]
    pulse: Tensor
    pitch_classes: Tensor


@torch.no_grad()
def hear(audio: Tensor, sample_rate: int, probe: Probe) -> Hearing:
    """Listen to clips `[N, L]` once."""
    statistics = _in_chunks(lambda part: clip_statistics(part, sample_rate), audio)
    tempi = list(TEMPI.values())
    return Hearing(
        probe.answers(statistics),
        probe.embed(statistics),
        [tempi[index] for index in _in_chunks(lambda part: tempo_of(part, sample_rate, tempi), audio).tolist()],
        _in_chunks(lambda part: pulse_strength(part, sample_rate), audio),
        _in_chunks(lambda part: pitch_classes(part, sample_rate), audio),
    )


def _in_chunks(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    pieces: Iterator[Any] = zip(*(tensor.split(_CHUNK) for tensor in tensors), strict=True)
    return torch.cat([function(*piece) for piece in pieces])


def _figure(name: str, kind: str, values: Sequence[float] | Tensor) -> list[Figure]:
    """A figure, or none where no clip was asked for it."""
    numbers = tuple(float(value) for value in values)
    return [Figure(name, kind, numbers)] if numbers else []


def score_requests(heard: Hearing, asked: Sequence[Labels]) -> list[Figure]:
    """How often clips are as asked; clips that were not asked for an attribute do not count in it."""
    figures: list[Figure] = []
    for attribute, name in _PROBED.items():
        wanted = [_answer(each, attribute) for each in asked]
        right = [a == w for a, w in zip(heard.answers[attribute], wanted, strict=True) if w is not None]
        figures += _figure(name, "share", right)
    timed = [(tempo, each["tempo_bpm"]) for tempo, each in zip(heard.tempo_bpm, asked, strict=True) if _timed(each)]
    figures += _figure("tempo, of 19, by onsets", "share", [tempo == wanted for tempo, wanted in timed])
    drummed = [row for row, each in enumerate(asked) if each.get("drums")]
    figures += _figure("pulse where drums were asked", "median", heard.pulse[drummed])
    keyed = [row for row, each in enumerate(asked) if "key" in each]
    keys = [int(str(asked[row]["key"])) for row in keyed]
    modes = [str(asked[row]["mode"]) for row in keyed]
    return figures + _figure("energy in key", "mean", share_in_key(heard.pitch_classes[keyed], keys, modes))


def _timed(asked: Labels) -> bool:
    return asked.get("tempo_bpm") in TEMPI.values()


def score_melody(audio: Tensor, melody: Tensor, sample_rate: int) -> list[Figure]:
    """How clips `[N, L]` follow melodies `[N, L]`."""
    cosine = _in_chunks(lambda ours, theirs: chroma_similarity(ours, theirs, sample_rate), audio, melody)
    same = _in_chunks(lambda ours, theirs: chroma_agreement(ours, theirs, sample_rate), audio, melody)
    papers = _in_chunks(lambda ours, theirs: chroma_cosine(ours, theirs, sample_rate), audio, melody)
    return [
        *_figure("chroma cosine to the melody", "mean", papers),
        *_figure("continuous chroma to the melody", "mean", cosine),
        *_figure("strongest pitch class same", "mean", same),
    ]


def score_health(audio: Tensor, codes: Tensor | None = None, card: int = 0) -> list[Figure]:
    """Shares of silent and clipped clips `[N, L]`; with codes `[N, K, T]` also stuck ones, and codebook use."""
    figures = _figure("silent clips", "share", is_silent(audio)) + _figure("clipped clips", "share", is_clipped(audio))
    if codes is not None:
        figures += _figure("clips stuck on one frame for 1 s", "share", is_stuck(codes))
        for book, used in enumerate(codebook_perplexity(codes, card).tolist()):
            figures.append(Figure(f"perplexity / size, codebook {book + 1}", "value", (used / card,)))
    return figures


def score_reconstruction(audio: Tensor, original: Tensor, sample_rate: int) -> list[Figure]:
    """How near a codec's output `[N, L]` is to its input."""
    snr = _in_chunks(si_snr, audio, original)
    mel = _in_chunks(lambda ours, theirs: mel_distance(ours, theirs, sample_rate), audio, original)
    chroma = _in_chunks(lambda ours, theirs: chroma_similarity(ours, theirs, sample_rate), audio, original)
    return [
        *_figure("SI-SNR, dB", "mean", snr),
        *_figure("mel L1, dB", "mean", mel),
        *_figure("continuous chroma to the original", "mean", chroma),
    ]
