"""Conditions: turn strings and audio into the tensors that condition the language model."""

from .condition import Lead, TextCondition
from .fuser import fuse
from .melody import Melody, MelodyLead, extract_melody
from .style import StyleConditioner, StyleLead
from .text import TextEncoder

__all__ = [
    "Lead",
    "Melody",
    "MelodyLead",
    "StyleConditioner",
    "StyleLead",
    "TextCondition",
    "TextEncoder",
    "extract_melody",
    "fuse",
]
