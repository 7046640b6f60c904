"""Decoding: fill sequences of codes by a language model, step by step."""

from .engine import CachedDecoder, FullDecoder, SamplingParams, decode_sequence
from .sampling import exponential_noise, sample_codes

__all__ = ["CachedDecoder", "FullDecoder", "SamplingParams", "decode_sequence", "exponential_noise", "sample_codes"]
