"""A dataset: the pieces of a folder of songs as codes with their captions, in a part to train on and one held out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..codec.encodec import EnCodec
from ..config import ModelConfig
from .encoding import Encoder
from .songs import Song, find_songs, split_songs

OnSong = Callable[[int, int], None]
_FEW = 60.0


@dataclass(frozen=True)
class Piece:
    """A piece of a song: codes int16 `[K, T]`, and its chroma float16 `[F, 12]` for melody models.

    song: index of its song. start: seconds from the song's beginning. level: dB of full scale.
    """

    song: int
    start: float
    level: float
    codes: Tensor = field(repr=False)
    chroma: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SongDataset:
    """Songs cut into pieces and encoded for one codec.

    Attributes:
        name: of the folder.
        songs: those that have pieces.
        lengths: of each song, in seconds.
        pieces: song by song.
        held_out: indices of the songs that are not trained on.
        codec: fingerprint of the codec.
        frame_rate: frames of codes per second.
        melody: whether pieces have a chroma.
        notes: sentences about files that are left out, and warnings.
    """

    name: str
    songs: tuple[Song, ...]
    lengths: tuple[float, ...]
    pieces: tuple[Piece, ...]
    held_out: frozenset[int]
    codec: str
    frame_rate: int
    melody: bool
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> list[Piece]:
        """The pieces to train on."""
        return [piece for piece in self.pieces if piece.song not in self.held_out]

    @property
    def test(self) -> list[Piece]:
        """The pieces of the held-out songs."""
        return [piece for piece in self.pieces if piece.song in self.held_out]

    @property
    def captions(self) -> list[str]:
        """The different captions, in order."""
        return list(dict.fromkeys(song.caption for song in self.songs))

    def caption(self, piece: Piece) -> str:
        """The caption of a piece."""
        return self.songs[piece.song].caption

    def fingerprint(self) -> str:
        """Return twelve hexadecimal digits, equal for equal songs, captions and cutting."""
        digest = hashlib.sha256(f"{self.codec} {self.melody} {sorted(self.held_out)}".encode())
        for song in self.songs:
            digest.update(f"{song.content} {song.caption}\n".encode())
        for piece in self.pieces:
            digest.update(f"{piece.song} {piece.start} {list(piece.codes.shape)}".encode())
        return digest.hexdigest()[:12]

    def text(self) -> str:
        """Return the dataset in a few lines, and then its notes."""
        minutes, longest = sum(self.lengths) / 60.0, max(piece.codes.shape[1] for piece in self.pieces)
        levels = [piece.level for piece in self.pieces]
        lines = [
            f"{len(self.songs)} songs, {minutes:.1f} min, {len(self.captions)} captions",
            f"{len(self.pieces)} pieces of up to {longest / self.frame_rate:g} s, {len(self.test)} of them from "
            f"{len(self.held_out)} held-out songs",
            f"levels {min(levels):.0f} to {max(levels):.0f} dB",
        ]
        return "\n".join([*lines, *self.notes])


def make_dataset(
    folder: str | Path,
    codec: EnCodec,
    config: ModelConfig,
    *,
    caption: str = "",
    trigger: str = "",
    listed: Path | None = None,
    seconds: float | None = None,
    overlap: float = 0.25,
    held_out: float = 0.1,
    cache: Path | None = None,
    on_song: OnSong | None = None,
) -> SongDataset:
    """Cut and encode the songs of a folder.

    Args:
        folder: holds sounds of any length, rate and number of channels, and their captions; see :func:`find_songs`.
        codec: the model's codec.
        config: the model's numbers.
        caption: for songs without one of their own.
        trigger: a word that stands before each caption.
        listed: a list of captions in place of the folder's own.
        seconds: length of a piece; None takes the model's window.
        overlap: share of a piece that the next one repeats.
        held_out: share of the songs that are not trained on.
        cache: folder to keep the encodings in, or None.
        on_song: called before each song with the number done and of all, and before each piece; an exception
            from it cancels.

    Raises:
        FileNotFoundError: there is no such folder or list of captions.
        ValueError: nothing can be trained on: no sound, no caption, only broken or silent files, or a length that the
            model does not have.
    """
    window = config.window if seconds is None else seconds
    if not 1.0 <= window <= config.window:
        raise ValueError(
            f"the length of a piece is {window:g} s; allowed is 1 to {config.window:g} s, the window of {config.name}."
        )
    songs, notes = find_songs(folder, caption=caption, trigger=trigger, listed=listed)
    encoder = Encoder(codec, window, overlap, config.chroma, cache)
    kept: list[Song] = []
    lengths: list[float] = []
    pieces: list[Piece] = []
    for done, song in enumerate(songs):
        report = None if on_song is None else _reporter(on_song, done, len(songs))
        if report is not None:
            report()
        try:
            encoded = encoder.encode(song, report)
        except ValueError as error:
            notes.append(f"{song.name} is left out: {error}")
            continue
        if not encoded.codes:
            notes.append(f"{song.name} is left out: it has no second of sound above -60 dB.")
            continue
        chromas: Sequence[Tensor | None] = encoded.chromas or [None] * len(encoded.codes)
        rows = zip(encoded.starts, encoded.levels, encoded.codes, chromas, strict=True)
        pieces += [Piece(len(kept), *row) for row in rows]
        kept.append(song)
        lengths.append(encoded.seconds)
    if not pieces:
        raise ValueError(f"{folder} holds no song to train on. {' '.join(notes)}")
    total = sum(lengths)
    if total < _FEW:
        notes.append(f"only {total:.0f} s of music: the model will repeat it; give at least some minutes.")
    held = split_songs(kept, held_out)
    if held_out and not held:
        notes.append(f"{len(kept)} songs are too few to hold one out, so over-fitting is not noticed; give three.")
    rate = config.frame_rate
    made = SongDataset(
        name=Path(folder).name,
        songs=tuple(kept),
        lengths=tuple(lengths),
        pieces=tuple(pieces),
        held_out=held,
        codec=codec.fingerprint,
        frame_rate=rate,
        melody=config.chroma is not None,
        notes=tuple(notes),
    )
    return made


def _reporter(on_song: OnSong, done: int, total: int) -> Callable[[], None]:
    return lambda: on_song(done, total)
