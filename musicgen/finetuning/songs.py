"""The songs of a folder: their files, captions and contents, and a sentence for each one that is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evaluation.folders import list_sounds, read_captions
from ..evaluation.folders.sounds import content_hash

_NAMED = 5


@dataclass(frozen=True)
class Song:
    """A file of sound, the SHA-256 of its content, and the description that the model learns for it."""

    path: Path
    content: str
    caption: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name


def find_songs(
    folder: str | Path, *, caption: str = "", trigger: str = "", listed: Path | None = None
) -> tuple[list[Song], list[str]]:
    """Find the songs of a folder and of those below it.

    Args:
        folder: holds the sounds, and their captions: `name.txt` beside a sound, or captions.jsonl, .csv or .tsv.
        caption: for songs without one of their own.
        trigger: a word that stands before each caption, to ask for this music later.
        listed: a list of captions in place of the folder's own.

    Returns:
        The songs by name, and sentences about files of equal content.

    Raises:
        FileNotFoundError: there is no such folder or list.
        ValueError: the folder holds no sound, or songs have no caption.
    """
    folder = Path(folder)
    sounds = list_sounds(folder)
    captions = read_captions(folder, sounds, listed)
    trigger, caption = trigger.strip(), caption.strip()
    missing = [path for path in sounds if not captions.get(path, caption).strip()]
    if missing and not trigger:
        raise ValueError(
            f"{len(missing)} of {len(sounds)} songs in {folder} have no caption, first {_names(missing)}; write one "
            f"into {missing[0].stem}.txt, give a caption for all songs, or give a trigger word."
        )
    songs: dict[str, Song] = {}
    notes = []
    for path in sounds:
        content = content_hash(path)
        if content in songs:
            notes.append(f"{path.name} is left out: its content is that of {songs[content].name}.")
            continue
        parts = [trigger, captions.get(path, caption).strip()]
        songs[content] = Song(path, content, ", ".join(part for part in parts if part))
    return list(songs.values()), notes


def split_songs(songs: Sequence[Song], share: float) -> frozenset[int]:
    """Choose the songs that are held out: a share of them by their content, so that new songs do not move old ones.

    At least one of three or more songs is held out, unless the share is 0; of fewer songs none is.

    Raises:
        ValueError: the share is not 0 to 0.5.
    """
    if not 0.0 <= share <= 0.5:
        raise ValueError(f"the share of held-out songs is {share:g}; allowed is 0 to 0.5.")
    if len(songs) < 3 or share == 0.0:
        return frozenset()
    order = sorted(range(len(songs)), key=lambda index: songs[index].content)
    return frozenset(order[: max(1, round(share * len(songs)))])


def _names(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(path.name for path in paths[:_NAMED]) + more
