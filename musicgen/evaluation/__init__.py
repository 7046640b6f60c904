"""Measures of music, and the program that takes them: `python -m musicgen.evaluation REFERENCE CANDIDATES`.

Plain functions take audio `[B, L]` (mono), codes `[B, K, T]` or embeddings `[N, D]`, and need no training. The models
that listen (CLAP, MERT, VGGish, EnCodec, a classifier of tags) are in `embedders`, and their weights on the user's
disk; :func:`evaluate` measures whole folders.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .likelihood import likelihood

if TYPE_CHECKING:
    from .asked import key_asked, key_name, parse_key, tempo_asked
    from .beats import beat_times
    from .comparison import Options, evaluate, save_statistics
    from .embedders import Clap, EncodecStates, MertStates, TagClassifier, Vggish
    from .frechet import distance_of, frechet_distance, frechet_infinity
    from .intervals import bootstrap_interval, wilson_interval
    from .kernel import kernel_distance, median_bandwidth
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

_PLACES = {
    "key_asked": "asked",
    "key_name": "asked",
    "parse_key": "asked",
    "tempo_asked": "asked",
    "beat_times": "beats",
    "Clap": "embedders",
    "EncodecStates": "embedders",
    "MertStates": "embedders",
    "TagClassifier": "embedders",
    "Vggish": "embedders",
    "Options": "comparison",
    "evaluate": "comparison",
    "save_statistics": "comparison",
    "distance_of": "frechet",
    "frechet_distance": "frechet",
    "frechet_infinity": "frechet",
    "bootstrap_interval": "intervals",
    "wilson_interval": "intervals",
    "kernel_distance": "kernel",
    "median_bandwidth": "kernel",
    "Ears": "measures",
    "closest_match": "memorisation",
    "code_match": "memorisation",
    "memorised": "memorisation",
    "nearest_neighbours": "memorisation",
    "Asked": "ranking",
    "Ranked": "ranking",
    "rank_batch": "ranking",
    "Figure": "report",
    "Report": "report",
    "onset_autocorrelation": "rhythm",
    "onset_envelope": "rhythm",
    "pulse_strength": "rhythm",
    "tempo_fit": "rhythm",
    "tempo_found": "rhythm",
    "tempo_of": "rhythm",
    "clipped_share": "sound",
    "codebook_perplexity": "sound",
    "is_clipped": "sound",
    "is_silent": "sound",
    "is_stuck": "sound",
    "longest_repetition": "sound",
    "samples_beyond_full_scale": "sound",
    "silent_seconds": "sound",
    "RunningStatistics": "statistics",
    "Statistics": "statistics",
    "statistics_of": "statistics",
    "kl_divergence": "tags",
    "chroma_agreement": "tonality",
    "chroma_cosine": "tonality",
    "chroma_similarity": "tonality",
    "chromagram": "tonality",
    "in_key_energy": "tonality",
    "key_fit": "tonality",
    "key_of": "tonality",
    "pitch_classes": "tonality",
}
"""The module of each name. It is imported where the name is asked for, so that those who need one pay for one."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)
