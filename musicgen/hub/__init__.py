"""The released models and their downloads."""

from .download import fetch
from .releases import RELEASES, find_release

__all__ = ["RELEASES", "fetch", "find_release"]
