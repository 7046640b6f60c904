"""EnCodec as a listener: the states before its quantiser, and the codes after it, by a MusicGen model's codec."""

from __future__ import annotations

from torch import Tensor

from ...codec.encodec import EnCodec


class EncodecStates:
    """The encoder's states of a mono sound, one a frame: 128 numbers, 50 a second in the released models."""

    name = "encodec"
    aliases: tuple[str, ...] = ()

    def __init__(self, codec: EnCodec) -> None:
        self._codec = codec
        self.sample_rate = codec.sample_rate
        self.fingerprint = f"{codec.fingerprint}-states"

    def listen(self, audio: Tensor) -> Tensor:
        """Return the states `[frames, D]` of audio `[L]`."""
        return self._codec.states(audio[None, None], self.sample_rate)[0].t().cpu()


class EncodecCodes:
    """The codes of a sound as rows, one a frame: int16 `[frames, K]`."""

    name = "codes"
    aliases: tuple[str, ...] = ()

    def __init__(self, codec: EnCodec) -> None:
        self._codec = codec
        self.sample_rate = codec.sample_rate
        self.fingerprint = f"{codec.fingerprint}-{codec.num_codebooks}-codes"

    def listen(self, audio: Tensor) -> Tensor:
        """Return the codes `[frames, K]` of audio `[L]`; a stereo codec gets it on both channels."""
        return self._codec.encode(audio[None, None], self.sample_rate)[0].t().cpu().short()
