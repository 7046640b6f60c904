"""Decoding: sequences of codes out of a language model."""
