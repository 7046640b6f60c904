"""Files of sound: which ones a folder holds, their samples, and how one is written."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import torch
from torch import Tensor

from ...audio import check_audio, downmix
from ...environment import imported
from ...writing import write_file

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma", ".webm", ".mp4")
_PCM, _FLOAT = 1, 3
"""Kinds of samples in a WAV file; with floats, samples beyond full scale stay."""
_PLAIN = {(_PCM, 16): (torch.int16, 2.0**-15), (_PCM, 32): (torch.int32, 2.0**-31), (_FLOAT, 32): (torch.float32, 1.0)}
"""Samples of WAV files that are read directly, by kind and bits: their format and the value of one unit."""


def list_sounds(folder: str | Path) -> list[Path]:
    """Return the files of sound in a folder and the folders below it, by name; hidden ones are left out.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folder holds no sound.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give one that holds files of sound.")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    shown = sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    if not shown:
        raise ValueError(f"{folder} holds no sound; allowed are files that end in {', '.join(SUFFIXES)}.")
    return shown


def read_sound(path: Path) -> tuple[Tensor, int]:
    """Return a file's sound, float32 `[C, L]` of one or two channels, and its sample rate.

    Raises:
        ValueError: the file is damaged, has no sound, or holds samples that are not finite.
    """
    plain = _read_wave(path) if path.suffix.lower() == ".wav" else None
    if plain is not None:
        try:
            return downmix(check_audio(plain[0][None], plain[1], str(path)))[0], plain[1]
        except ValueError as error:
            raise _unreadable(path, error) from error
    av = imported("av")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError("it has no sound")
            stream = container.streams.audio[0]
            rate = int(stream.rate)
            resampler = av.AudioResampler(format="fltp")
            frames = [part for frame in container.decode(stream) for part in resampler.resample(frame)]
            frames += resampler.resample(None)
            pieces = [torch.from_numpy(frame.to_ndarray()) for frame in frames]
        if not pieces:
            raise ValueError("it has no samples")
        audio = check_audio(torch.cat(pieces, dim=1)[None], rate, str(path))
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    return downmix(audio)[0], rate


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = f"{error}".splitlines()[0][:200] if f"{error}" else type(error).__name__
    return ValueError(f"{path} cannot be read as sound ({reason}); mend the file or leave it out.")


def _read_wave(path: Path) -> tuple[Tensor, int] | None:
    """The samples `[C, L]` and the rate of a plain WAV file, fifteen times as fast as by av; None of any other one."""
    data = path.read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at, layout = 12, None
    while at + 8 <= len(data):
        name, size, body = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little"), at + 8
        if body + size > len(data):
            return None
        if name == b"fmt " and size >= 16:
            layout = struct.unpack_from("<HHIIHH", data, body)
        elif name == b"data" and layout is not None:
            kind, channels, rate, _, _, bits = layout
            if (kind, bits) not in _PLAIN or not channels or not rate or not size or size % (channels * bits // 8):
                return None
            dtype, unit = _PLAIN[kind, bits]
            samples = torch.frombuffer(bytearray(data[body : body + size]), dtype=dtype)
            return samples.view(-1, channels).t().to(torch.float32) * unit, rate
        at = body + size + size % 2
    return None


def write_sound(path: Path, audio: Tensor, sample_rate: int) -> None:
    """Write audio `[C, L]` as a WAV file of 32-bit floats, as a whole or not at all."""
    samples = audio.detach().cpu().float().t().contiguous()  # [L, C]
    data, channels = samples.numpy().astype("<f4").tobytes(), samples.shape[1]
    layout = struct.pack("<HHIIHHH", _FLOAT, channels, sample_rate, 4 * channels * sample_rate, 4 * channels, 32, 0)
    chunks = [(b"fmt ", layout), (b"fact", struct.pack("<I", len(samples))), (b"data", data)]
    body = b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    write_file(path, lambda file: file.write(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body))


def content_hash(path: Path) -> str:
    """Return a file's SHA-256, by which its rows are kept and equal files are found."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
