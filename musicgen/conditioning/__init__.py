"""Conditions: turn strings and audio into the tensors that condition the language model."""

from .condition import Lead, TextCondition
from .fuser import fuse
from .melody import Melody, MelodyLead, RecordedMelody, Tune, extract_melody
from .style import StyleConditioner, StyleLead
from .text import TextEncoder
from .written_melody import WrittenMelody

__all__ = [
    "Lead",
    "Melody",
    "MelodyLead",
    "RecordedMelody",
    "StyleConditioner",
    "StyleLead",
    "TextCondition",
    "TextEncoder",
    "Tune",
    "WrittenMelody",
    "extract_melody",
    "fuse",
]
