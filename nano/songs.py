"""Held-out songs of the corpus as files: `python -m nano.songs --out FOLDER`.

`FOLDER/songs` gets WAV files with a caption beside each, `FOLDER/melodies` their melodies alone, under the same names.
`python -m musicgen.evaluation --recipe nano --set songs=FOLDER` measures against them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from musicgen.evaluation.folders.sounds import write_sound

from .corpus.bank import SAMPLE_RATE
from .heldout import Songs


def write_songs(folder: Path, count: int, seconds: float, split: str = "test") -> None:
    """Write songs of a part of the corpus, their captions and their melodies.

    Args:
        folder: to write into.
        count: number of songs.
        seconds: length of each.
        split: part of the corpus, `test` or `valid`.
    """
    songs = Songs(split, count, seconds)
    for part in ("songs", "melodies"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, caption in enumerate(songs.captions):
        write_sound(folder / "songs" / f"{number:05}.wav", songs.audio[number][None], SAMPLE_RATE)
        write_sound(folder / "melodies" / f"{number:05}.wav", songs.melody[number][None], SAMPLE_RATE)
        (folder / "songs" / f"{number:05}.txt").write_text(caption + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m nano.songs", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--split", choices=("test", "valid"), default="test")
    options = parser.parse_args(arguments)
    write_songs(options.out, options.clips, options.seconds, options.split)
    sys.stdout.write(f"{options.clips} songs are in {options.out / 'songs'}\n")


if __name__ == "__main__":
    main()
