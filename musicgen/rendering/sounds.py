"""Sound in files: recordings as tensors, and pieces as the bytes of a WAV, FLAC or MP3 file.

WAV files of 16 bits need nothing but Python; every other file is read and written by PyAV, which ComfyUI brings.
"""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..environment import imported

FORMATS = ("flac", "wav", "mp3")
_FULL_SCALE = 32767
_CODECS = {"flac": ("flac", "s16", None), "mp3": ("libmp3lame", "s16p", 320_000)}


def encode_sound(audio: Tensor, sample_rate: int, form: str) -> bytes:
    """Return the bytes of a file.

    Args:
        audio: float `[C, L]`; samples beyond full scale are clipped.
        sample_rate: samples per second.
        form: one of FORMATS. WAV and FLAC have 16 bits, MP3 320 kbit/s.

    Raises:
        ImportError: PyAV is missing or broken, and the format needs it.
    """
    samples = (audio.clamp(-1.0, 1.0) * _FULL_SCALE).round().to(torch.int16)  # [C, L]
    if form == "wav":
        return _wav(samples, sample_rate)
    av = imported("av")
    name, layout_of_samples, bit_rate = _CODECS[form]
    target = io.BytesIO()
    with av.open(target, "w", format=form) as container:
        layout = "mono" if len(samples) == 1 else "stereo"
        stream = container.add_stream(name, rate=sample_rate, layout=layout)
        stream.format = layout_of_samples
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        planar = layout_of_samples.endswith("p")
        array = samples if planar else samples.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(array.contiguous().numpy(), format=layout_of_samples, layout=layout)
        frame.sample_rate = sample_rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return target.getvalue()


def _wav(samples: Tensor, sample_rate: int) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.T.contiguous().numpy().astype("<i2").tobytes())
    return target.getvalue()


def read_sound(path: str | Path) -> tuple[Tensor, int]:
    """Read a recording: float32 `[C, L]` and its sample rate.

    Raises:
        FileNotFoundError: the file is missing.
        ImportError: PyAV is missing or broken, and the file is no WAV file of 16 bits.
        ValueError: the file is no sound, or an empty one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; allowed is an audio file.")
    found = _read_wav(path) or _read_other(path)
    if found[0].shape[1] == 0:
        raise ValueError(f"{path} holds no sound; allowed is an audio file with at least one sample.")
    return found


def _read_wav(path: Path) -> tuple[Tensor, int] | None:
    """A WAV file of 16 bits, or None for any other file."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                return None
            data, channels, rate = file.readframes(file.getnframes()), file.getnchannels(), file.getframerate()
    except (wave.Error, EOFError):
        return None
    samples = torch.frombuffer(bytearray(data or b"\0\0"), dtype=torch.int16)[: len(data) // 2]
    return samples.reshape(-1, channels).T.float() / 32768, rate


def _read_other(path: Path) -> tuple[Tensor, int]:
    av: Any = imported("av")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"{path} holds no sound; allowed is an audio file.")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp")
            frames = [out.to_ndarray() for frame in container.decode(stream) for out in resampler.resample(frame)]
            rate = stream.rate
    except av.FFmpegError as error:
        raise ValueError(f"{path} cannot be read as sound ({error}); allowed is an audio file.") from error
    if not frames:
        raise ValueError(f"{path} holds no sound; allowed is an audio file with at least one sample.")
    return torch.cat([torch.from_numpy(frame) for frame in frames], dim=1), rate
