"""The plan of a compiled step: one table of numbers and addresses that tells the machine code where everything is.

The table is int64. It begins with the words named here; behind them, from LAYER_TABLE on, stand
LAYER_WORDS for each layer. A matrix takes three words: the address of its numbers `[outputs,
inputs]`, their kind, and the address of one float32 scale per output (0 without scales).
"""

from __future__ import annotations

# Sizes of the model and of the generation.
LAYERS, ROWS, BATCH, DIM, HEADS, HEAD_DIM, FFN, CODEBOOKS, CARD, CAPACITY = range(10)
# The place in the cache that this step writes; rows with a condition, and places for each in its keys.
PLACE, CROSS_ROWS, CROSS_CAPACITY = range(10, 13)
# Inputs: codes int64 [B, K], embedding table, sinusoids [places, dim], first key and condition's length of each row.
CODES, EMBEDDING, POSITIONS, FIRST_KEYS, CROSS_LENGTHS = range(13, 18)
# Work space, float32. NORMED and SCORES are there once for each thread.
STATES, NORMED, QKV, ATTENDED, INNER, SCORES, LOGITS = range(18, 25)
# The closing norm (weight, bias) and the heads (a matrix).
OUT_NORM, HEAD = 25, 27
# The barrier: arrivals and rounds, each with a cache line of its own, and whether the team was given up.
ARRIVED, ROUND, GIVEN_UP = 32, 40, 48
# The address of the system's function that gives the core to others, 0 without one.
YIELD = 49
# The numbers of each thread's part of SCORES.
SCORES_SIZE = 50
# Where the phases' times stand, int64 `[len(PHASES)]`, and the time at which the last one ended. Measured builds only.
TIMES, LAST_TIME = 51, 52
LAYER_TABLE = 56

# A layer's words: norms (weight, bias), matrices, and addresses of keys and values.
NORM_SELF, NORM_CROSS, NORM_FFN = 0, 2, 4
SELF_QKV, SELF_OUT, CROSS_Q, CROSS_OUT, FFN_IN, FFN_OUT = 6, 9, 12, 15, 18, 21
KEYS, VALUES, CROSS_KEYS, CROSS_VALUES = 24, 25, 26, 27
# The cache's kind, and how often a number was too large for it.
CACHE_KIND, TOO_LARGE = 28, 29
LAYER_WORDS = 30

# A matrix's kind is an index of this.
KINDS = ("float32", "float16", "bfloat16", "int8")
CACHE_KINDS = ("float32", "float16")

# The phases of a step whose times a measured build adds up; waiting for the other threads is part of each.
PHASES = (
    "embedding", "norms", "self: qkv", "self: attention", "self: out", "cross: q", "cross: attention", "cross: out",
    "ffn: in", "ffn: gelu", "ffn: out", "heads",
)  # fmt: skip
