"""The language model over codes."""

from .language_model import LMModel
from .rows import Conditions, Rows

__all__ = ["Conditions", "LMModel", "Rows"]
