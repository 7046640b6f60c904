"""Measures of music, and the program that takes them: `python -m musicgen.evaluation REFERENCE CANDIDATES`.

Plain functions take audio `[B, L]` (mono), codes `[B, K, T]` or embeddings `[N, D]`, and need no training. The models
that listen (CLAP, MERT, VGGish, EnCodec, a classifier of tags) are in `embedders`, and their weights on the user's
disk; :func:`evaluate` measures whole folders.
"""

from .asked import key_asked, key_name, parse_key, tempo_asked
from .beats import beat_times
from .embedders import Clap, EncodecStates, MertStates, TagClassifier, Vggish
from .evaluate import Options, evaluate, save_statistics
from .frechet import distance_of, frechet_distance, frechet_infinity
from .intervals import bootstrap_interval, wilson_interval
from .kernel import kernel_distance, median_bandwidth
from .likelihood import likelihood
from .measures import Ears
from .memorisation import closest_match, code_match, memorised, nearest_neighbours
from .ranking import Asked, Ranked, rank_batch
from .report import Figure, Report
from .rhythm import onset_autocorrelation, onset_envelope, pulse_strength, tempo_fit, tempo_found, tempo_of
from .sound import (
    clipped_share,
    codebook_perplexity,
    is_clipped,
    is_silent,
    is_stuck,
    longest_repetition,
    samples_beyond_full_scale,
    silent_seconds,
)
from .statistics import RunningStatistics, Statistics, statistics_of
from .tags import kl_divergence
from .tonality import (
    chroma_agreement,
    chroma_cosine,
    chroma_similarity,
    chromagram,
    in_key_energy,
    key_fit,
    key_of,
    pitch_classes,
)

__all__ = [
    "Asked",
    "Clap",
    "Ears",
    "EncodecStates",
    "Figure",
    "MertStates",
    "Options",
    "Ranked",
    "Report",
    "RunningStatistics",
    "Statistics",
    "TagClassifier",
    "Vggish",
    "beat_times",
    "bootstrap_interval",
    "chroma_agreement",
    "chroma_cosine",
    "chroma_similarity",
    "chromagram",
    "clipped_share",
    "closest_match",
    "code_match",
    "codebook_perplexity",
    "distance_of",
    "evaluate",
    "frechet_distance",
    "frechet_infinity",
    "in_key_energy",
    "is_clipped",
    "is_silent",
    "is_stuck",
    "kernel_distance",
    "key_asked",
    "key_fit",
    "key_name",
    "key_of",
    "kl_divergence",
    "likelihood",
    "longest_repetition",
    "median_bandwidth",
    "memorised",
    "nearest_neighbours",
    "onset_autocorrelation",
    "onset_envelope",
    "parse_key",
    "pitch_classes",
    "pulse_strength",
    "rank_batch",
    "samples_beyond_full_scale",
    "save_statistics",
    "silent_seconds",
    "statistics_of",
    "tempo_asked",
    "tempo_fit",
    "tempo_found",
    "tempo_of",
    "wilson_interval",
]
