"""Decoding: sequences of codes from a language model."""

from .engine import CachedDecoder, FullDecoder, SamplingParams, decode_sequence
from .sampling import exponential_noise, sample_codes

__all__ = ["CachedDecoder", "FullDecoder", "SamplingParams", "decode_sequence", "exponential_noise", "sample_codes"]
