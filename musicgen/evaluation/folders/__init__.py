"""Sounds in folders: their files and captions, published statistics in their place, and the cache of their rows."""

from .captions import read_captions
from .sounds import list_sounds, read_sound, write_sound

__all__ = ["list_sounds", "read_captions", "read_sound", "write_sound"]
