"""EnCodec: sound to codes and back."""

from .encodec import EnCodec

__all__ = ["EnCodec"]
