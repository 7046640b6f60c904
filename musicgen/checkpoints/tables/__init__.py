"""Every setting of every format that is known here, in one place: read, refused, or of no matter at inference."""

from .audiocraft import CODEC, LM
from .table import REASONS, Table
from .transformers import FEATURES, GENERAL, GENERATION, MERT, MODEL

FORMATS = {
    "transformers: a model": MODEL,
    "transformers: the feature extractor of a melody model": FEATURES,
    "transformers: generation": GENERATION,
    "transformers: MERT": MERT,
    "transformers: any table of a model, its parts and MERT": GENERAL,
    "audiocraft: a language model": LM,
    "audiocraft: a codec": CODEC,
}
"""The files with settings, and the table of each."""

__all__ = ["CODEC", "FEATURES", "FORMATS", "GENERAL", "GENERATION", "LM", "MERT", "MODEL", "REASONS", "Table"]
