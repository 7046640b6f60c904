"""Decode codes that repeat: the end of the sound flows into its beginning, and its length is exact to the sample.

The decoder reads the frames around each frame. For a loop these are the frames of the loop's other end, so the codes
are decoded between copies of themselves. A length between two whole frames is reached by resampling the loop as the
periodic signal that it is, by its Fourier series: no sample is cut or added, and no edge exists.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .encodec import EnCodec, OnProgress

WARM_SECONDS = 3.0
"""Seconds of the loop decoded before it, after which the state of the decoder's LSTM is that of an endless loop."""


def decode_cyclic(
    codec: EnCodec, codes: Tensor, num_samples: int | None = None, *, on_progress: OnProgress | None = None
) -> Tensor:
    """Decode a loop.

    Args:
        codec: the codec.
        codes: int `[B, K, T]`, one turn of the loop.
        num_samples: length of the sound; T x hop_length if None. The loop is resampled to it, which changes its
            pitch by as much as its length, so it should be within a frame of T x hop_length.
        on_progress: called after each chunk.

    Returns:
        float32 audio `[B, C, num_samples]`.

    Raises:
        ValueError: the codes do not fit the codec, or the length is not within a frame of the codes'.
    """
    hop, frames = codec.config.hop_length, codes.shape[2]
    if num_samples is not None and abs(num_samples - frames * hop) > hop:
        raise ValueError(
            f"a loop of {frames} frames was asked for {num_samples} samples; allowed is within a frame of "
            f"{frames * hop}, so make the loop anew in this length."
        )
    warm = round(WARM_SECONDS * codec.frame_rate)
    # Frames of the endless loop from -warm to frames + warm.
    places = torch.arange(-warm, frames + warm) % frames
    audio = codec.decode(codes[:, :, places], on_progress=on_progress)[..., warm * hop : (warm + frames) * hop]
    return audio if num_samples in (None, audio.shape[2]) else resized(audio, num_samples)


def resized(audio: Tensor, length: int) -> Tensor:
    """Resample periodic audio `[B, C, L]` to `[B, C, length]` by its Fourier series."""
    spectrum = torch.fft.rfft(audio.double())
    bins = min(spectrum.shape[2], length // 2 + 1)
    spectrum = spectrum[..., :bins].clone()
    if min(audio.shape[2], length) % 2 == 0 and audio.shape[2] != length:
        spectrum[..., -1] = 0.0  # the highest frequency has no phase of its own
    return (torch.fft.irfft(spectrum, length) * (length / audio.shape[2])).float()
