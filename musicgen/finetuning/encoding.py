"""The pieces of a song as codes, encoded once: a safetensors file for each song in a cache.

A file is named after the song's content and the settings of its cutting, in a folder named after the codec, so a
changed song, another length or another codec has another file.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..audio import convert_channels, resample
from ..codec.encodec import EnCodec
from ..conditioning.melody import extract_melody
from ..config import ChromaConfig
from ..environment import imported
from ..evaluation.folders import read_sound
from ..writing import write_file
from .pieces import cut_song
from .songs import Song

logger = logging.getLogger("musicgen")

_VERSION = 1


@dataclass(frozen=True)
class Encoder:
    """The codec of a model and how songs are cut for it.

    Args:
        codec: encodes the pieces.
        seconds: length of a piece.
        overlap: share of a piece that the next one repeats.
        chroma: settings of a melody model's chroma, which is kept beside the codes; None without.
        cache: folder for the encodings; None keeps nothing.
    """

    codec: EnCodec
    seconds: float
    overlap: float
    chroma: ChromaConfig | None = None
    cache: Path | None = None

    def path(self, song: Song) -> Path | None:
        """The file in the cache for a song."""
        if self.cache is None:
            return None
        settings = f"{_VERSION} {self.seconds} {self.overlap} {self.codec.audio_channels} {self.chroma}"
        digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
        return self.cache / self.codec.fingerprint / f"{song.content[:32]}-{digest}.safetensors"

    def encode(self, song: Song, on_piece: Callable[[], None] | None = None) -> EncodedSong:
        """Encode a song, or read its encoding from the cache.

        Args:
            song: the song.
            on_piece: called before each piece; an exception from it cancels, and nothing is kept of the song.

        Raises:
            ValueError: the file cannot be read as sound.
        """
        path = self.path(song)
        if path is not None and path.is_file():
            found = _read(path)
            if found is not None:
                return found
        encoded = self._encode(song, on_piece)
        if path is not None:
            (save,) = imported("safetensors.torch", "save")
            data = save(encoded.tensors())
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, lambda file: file.write(data), len(data))
        return encoded

    def _encode(self, song: Song, on_piece: Callable[[], None] | None) -> EncodedSong:
        audio, rate = read_sound(song.path)
        seconds = audio.shape[1] / rate
        own = self.codec.sample_rate
        wave = resample(convert_channels(audio[None], self.codec.audio_channels), rate, own)[0]  # [C, L]
        codes, chromas, starts, levels = [], [], [], []
        for cut in cut_song(wave, own, self.seconds, self.overlap):
            if on_piece is not None:
                on_piece()
            part = wave[:, cut.start : cut.start + cut.length]
            codes.append(self.codec.encode(part[None], own)[0].cpu().to(torch.int16))  # [K, T]
            if self.chroma is not None:
                chromas.append(extract_melody(part, own, self.chroma).chroma.to(torch.float16))
            starts.append(cut.start / own)
            levels.append(cut.level)
        return EncodedSong(seconds, tuple(codes), tuple(starts), tuple(levels), tuple(chromas))


@dataclass(frozen=True)
class EncodedSong:
    """A song's pieces.

    Attributes:
        seconds: length of the whole song.
        codes: of each piece, int16 `[K, T]`.
        starts: seconds from the song's beginning at which each piece begins.
        levels: of each piece, in dB of full scale.
        chromas: of each piece, float16 `[F, 12]`; none for models without a melody.
    """

    seconds: float
    codes: tuple[Tensor, ...]
    starts: tuple[float, ...]
    levels: tuple[float, ...]
    chromas: tuple[Tensor, ...] = ()

    def tensors(self) -> dict[str, Tensor]:
        """The song as tensors by name, as the cache keeps it."""
        named = {f"codes.{index}": codes.contiguous() for index, codes in enumerate(self.codes)}
        named |= {f"chroma.{index}": chroma.contiguous() for index, chroma in enumerate(self.chromas)}
        numbers = torch.tensor([self.starts, self.levels], dtype=torch.float64)
        return named | {"pieces": numbers, "seconds": torch.tensor([self.seconds], dtype=torch.float64)}


def _read(path: Path) -> EncodedSong | None:
    """An encoding in the cache; None where the file is damaged, so that it is made again."""
    (load_file,) = imported("safetensors.torch", "load_file")
    try:
        named = load_file(path)
        starts, levels = named["pieces"].tolist()
        codes = tuple(named[f"codes.{index}"] for index in range(len(starts)))
        chromas = tuple(named[f"chroma.{index}"] for index in range(len(starts)) if f"chroma.{index}" in named)
        return EncodedSong(float(named["seconds"][0]), codes, tuple(starts), tuple(levels), chromas)
    except Exception as error:  # safetensors raises an exception class of its own
        logger.warning("%s in the cache of encodings is damaged (%s) and is made again.", path, error)
        return None
