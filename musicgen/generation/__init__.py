"""Generation: sample the codes of a request with `generate.generate`."""

from .params import GenerationParams
from .patterns import PATTERN_NAMES, named_pattern
from .request import Request
from .windows import plan_windows

__all__ = ["PATTERN_NAMES", "GenerationParams", "Request", "named_pattern", "plan_windows"]
