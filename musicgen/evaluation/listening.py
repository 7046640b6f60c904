"""One pass over a set of sounds: each file is read once, heard by every listener that needs it, and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..audio import resample
from ..conditioning.melody import chroma_of
from ..config import RELEASED_CHROMA
from .embedders.listener import Listener
from .folders.cache import RowCache
from .folders.sounds import content_hash, read_sound
from .sound import is_silent, samples_beyond_full_scale
from .statistics import RunningStatistics, check_embeddings

OnFile = Callable[[str, int, int], None]
"""Called after each file with the set's name, the number of files done and of all files."""


class ChromaFrames:
    """The pitch class of each frame of the melody condition's chroma, `[frames, 1]`: a :class:`Listener`."""

    name = "chroma"
    aliases: tuple[str, ...] = ()
    sample_rate = RELEASED_CHROMA.sample_rate
    fingerprint = "one-hot-2"

    def listen(self, audio: Tensor) -> Tensor:
        """Return the pitch classes int16 `[frames, 1]` of audio `[L]`, without a frame that is centred on its end."""
        frames = -(-len(audio) // RELEASED_CHROMA.hop_length)
        return chroma_of(audio, RELEASED_CHROMA)[:frames].argmax(dim=1, keepdim=True).short()


class SoundFacts:
    """Plain facts of a sound as it is in its file, int64 `[1, 3]`: a :class:`Listener` of all channels at its own rate.

    Silent or not, the number of samples beyond full scale, and the samples at full scale in a million.
    """

    name = "facts"
    aliases: tuple[str, ...] = ()
    sample_rate = 0
    fingerprint = "1"

    def listen(self, audio: Tensor) -> Tensor:
        """Return the facts of audio `[C, L]`."""
        beyond = samples_beyond_full_scale(audio).sum()
        at = (audio.abs() >= 0.999).double().mean(dim=-1).max() * 1e6
        return torch.stack([is_silent(audio).all().long(), beyond, at.long()])[None]


@dataclass
class Heard:
    """The results of one listener over a set.

    Attributes:
        running: streamed statistics of all rows, for listeners whose rows are embeddings.
        rows: per file, the rows themselves, where they were asked for.
        means: per file, the mean row, where it was asked for.
        figures: per file, the figure that `each` returned.
    """

    running: RunningStatistics = field(default_factory=RunningStatistics)
    rows: list[Tensor] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)
    figures: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """A listener, and which of its results a measure needs.

    each: a figure of one file's rows, taken as soon as they are there.
    """

    listener: Listener
    statistics: bool = False
    rows: bool = False
    means: bool = False
    each: Callable[[Tensor], float] | None = None


@dataclass
class SoundSet:
    """A set of sounds that was heard: its files without the bad ones, and the results by listener."""

    files: list[Path] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    heard: dict[str, Heard] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)


def hear_files(
    files: Sequence[Path],
    wanted: Sequence[Wanted],
    *,
    name: str = "sounds",
    cache: Path | None = None,
    skip_bad: bool = False,
    on_file: OnFile | None = None,
) -> SoundSet:
    """Hear files one by one.

    Args:
        files: of sound.
        wanted: the listeners, and which of their results to keep.
        name: of the set, for progress.
        cache: folder of all caches; None keeps nothing.
        skip_bad: leave a file out that cannot be read or heard, and list it.
        on_file: called after each file.

    Raises:
        ValueError: a file cannot be read or heard, and bad files are not skipped.
    """
    result = SoundSet(heard={each.listener.name: Heard() for each in wanted})
    with ExitStack() as stack:
        caches = {
            each.listener.name: stack.enter_context(RowCache(cache, each.listener.name, each.listener.fingerprint))
            for each in wanted
        }
        for done, path in enumerate(files, start=1):
            try:
                content = content_hash(path)
                rows = _rows(path, content, wanted, caches)
                _keep(path, rows, wanted, result)
                result.contents.append(content)
            except (ValueError, OSError) as error:
                if not skip_bad:
                    raise ValueError(f"{error} To leave out files like this, skip bad files (--skip-bad).") from error
                result.bad.append(str(error))
            if on_file is not None:
                on_file(name, done, len(files))
    if not result.files:
        raise ValueError(f"none of {len(files)} files can be heard; the first one: {result.bad[0]}")
    return result


def _rows(path: Path, content: str, wanted: Sequence[Wanted], caches: Mapping[str, RowCache]) -> dict[str, Tensor]:
    """The rows of a file by listener, from the caches where they are there."""
    found: dict[str, Tensor] = {}
    sound: tuple[Tensor, int] | None = None
    by_rate: dict[int, Tensor] = {}
    for each in wanted:
        listener = each.listener
        rows = caches[listener.name].get(content)
        if rows is None:
            sound = sound or read_sound(path)
            audio, rate = sound
            if listener.sample_rate and listener.sample_rate not in by_rate:
                by_rate[listener.sample_rate] = resample(audio.mean(dim=0), rate, listener.sample_rate).contiguous()
            try:
                rows = listener.listen(by_rate[listener.sample_rate] if listener.sample_rate else audio)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            rows = caches[listener.name].put(content, rows)
        found[listener.name] = rows
    return found


def _keep(path: Path, rows: Mapping[str, Tensor], wanted: Sequence[Wanted], result: SoundSet) -> None:
    for each in wanted:  # refuse a file before any of its rows count
        if each.statistics:
            check_embeddings(rows[each.listener.name].float(), f"{path}: its rows by {each.listener.name}", least=1)
    for each in wanted:
        own, kept = rows[each.listener.name], result.heard[each.listener.name]
        if each.statistics:
            kept.running.add(own.float())
        if each.rows:
            kept.rows.append(own)
        if each.means:
            kept.means.append(own.float().mean(dim=0))
        if each.each is not None:
            kept.figures.append(each.each(own.float()))
    result.files.append(path)
