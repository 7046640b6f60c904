"""EnCodec: encode audio to codes and decode codes to audio."""

from .encodec import EnCodec

__all__ = ["EnCodec"]
