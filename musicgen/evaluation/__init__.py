"""Measures of music: agreement with a description or a melody, and defects such as silence and clipping.

Plain functions of audio `[B, L]` (mono) or codes `[B, K, T]`. Pulse, tempo, key and chroma need no
training. Instruments are recognised by a small probe in `nano`, trained on its corpus;
`python -m nano.measure score` prints all measures as one table.
"""

from .clap import Clap
from .frechet import frechet_distance
from .intervals import bootstrap_interval, wilson_interval
from .rhythm import onset_autocorrelation, onset_envelope, pulse_strength, tempo_of
from .sound import codebook_perplexity, is_clipped, is_silent, is_stuck, mel_distance, samples_beyond_full_scale, si_snr
from .tonality import chroma_agreement, chroma_similarity, chromagram, in_key_energy, key_of, pitch_classes

__all__ = [
    "Clap",
    "bootstrap_interval",
    "chroma_agreement",
    "chroma_similarity",
    "chromagram",
    "codebook_perplexity",
    "frechet_distance",
    "in_key_energy",
    "is_clipped",
    "is_silent",
    "is_stuck",
    "key_of",
    "mel_distance",
    "onset_autocorrelation",
    "onset_envelope",
    "pitch_classes",
    "pulse_strength",
    "samples_beyond_full_scale",
    "si_snr",
    "tempo_of",
    "wilson_interval",
]
