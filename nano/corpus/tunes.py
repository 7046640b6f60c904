"""Real tunes, all in the public domain, written out as notes.

A note is a degree of the scale (1 to 7; `'` an octave up, `,` an octave down, `+` and `-` a semitone up and down,
0 a rest) and its length in eighths after a colon, 2 where none is given. The minor scale is the natural one. Tunes
with `held_out` set are never trained on: the melody model is measured on them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_NOTE = re.compile(r"([0-7])([+-]?)([',]*)(?::(\d+))?$")


@dataclass(frozen=True)
class Tune:
    """A tune: its mode, the beats of its bar, its notes as text; the notes begin on the first beat of a bar."""

    mode: str
    beats: int
    text: str
    held_out: bool = False

    @cached_property
    def notes(self) -> list[tuple[int, int, int | None]]:
        """Start and length in eighths, and semitones above the home note, None a rest.

        `Tune("major", 4, "1 3:1 5'").notes` is `[(0, 2, 0), (2, 1, 4), (3, 2, 19)]`.
        """
        scale = (0, 2, 4, 5, 7, 9, 11) if self.mode == "major" else (0, 2, 3, 5, 7, 8, 10)
        found, at = [], 0
        for word in self.text.split():
            match = _NOTE.match(word)
            if match is None:
                raise ValueError(f"{word!r} is no note; a note is for example 5, 5':3 or 0:4.")
            degree, sign, octaves, length = match.groups()
            frames = int(length or 2)
            pitch = None
            if degree != "0":
                pitch = scale[int(degree) - 1] + {"+": 1, "-": -1}.get(sign, 0)
                pitch += 12 * (octaves.count("'") - octaves.count(","))
            found.append((at, frames, pitch))
            at += frames
        return found


TUNES = {
    "Twinkle, Twinkle": Tune(
        "major", 4, "1 1 5 5 6 6 5:4 4 4 3 3 2 2 1:4 5 5 4 4 3 3 2:4 5 5 4 4 3 3 2:4 1 1 5 5 6 6 5:4 4 4 3 3 2 2 1:4"
    ),
    "Ode to Joy": Tune(
        "major",
        4,
        "3 3 4 5 5 4 3 2 1 1 2 3 3:3 2:1 2:4 3 3 4 5 5 4 3 2 1 1 2 3 2:3 1:1 1:4 "
        "2 2 3 1 2 3:1 4:1 3 1 2 3:1 4:1 3 2 1 2 5,:4 3 3 4 5 5 4 3 2 1 1 2 3 2:3 1:1 1:4",
    ),
    "London Bridge": Tune("major", 4, "5:3 6:1 5 4 3 4 5:4 2 3 4:4 3 4 5:4 5:3 6:1 5 4 3 4 5:4 2:4 5:4 3 1:6"),
    "Oh! Susanna": Tune(
        "major",
        4,
        "0:6 1:1 2:1 3 5 5:3 6:1 5 3 1:3 2:1 3 3 2 1 2:6 1:1 2:1 3 5 5:3 6:1 5 3 1:3 2:1 3 3 2 2 1:8",
    ),
    "Jingle Bells": Tune(
        "major",
        4,
        "3 3 3:4 3 3 3:4 3 5 1:3 2:1 3:8 4 4 4:3 4:1 4 3 3 3:1 3:1 3 2 2 3 2:4 5:4 "
        "3 3 3:4 3 3 3:4 3 5 1:3 2:1 3:8 4 4 4:3 4:1 4 3 3 3:1 3:1 5 5 4 2 1:8",
    ),
    "Greensleeves": Tune(
        "minor",
        3,
        "1 3:4 4 5:3 6+:1 5 4:4 2 7,:3 1:1 2 3:4 1 1:3 7+,:1 1 2:4 7+, 5,:4 1 "
        "3:4 4 5:3 6+:1 5 4:4 2 7,:3 1:1 2 3:3 2:1 1 7+,:3 6+,:1 7+, 1:4 0:2",
    ),
    "Amazing Grace": Tune(
        "major",
        3,
        "0:4 5, 1:4 3:1 1:1 3:4 2 1:4 6, 5,:4 5, 1:4 3:1 1:1 3:4 2 5:6 "
        "5:4 3 5:4 3:1 1:1 3:4 2 1:4 6, 5,:4 5, 1:4 3:1 1:1 3:4 2 1:6",
    ),
    "Auld Lang Syne": Tune(
        "major",
        4,
        "0:6 5, 1:3 1:1 1 3 2:3 1:1 2 3 1:3 1:1 3 5 6:6 6 5:3 3:1 3 1 2:3 1:1 2 3 1:3 6,:1 6, 5, 1:6 0:2",
    ),
    "Deck the Halls": Tune(
        "major",
        4,
        "5:3 4:1 3 2 1 2 3 1 2:1 3:1 4:1 2:1 3:3 2:1 1 7, 1:4 5:3 4:1 3 2 1 2 3 1 2:1 3:1 4:1 2:1 3:3 2:1 1 7, 1:4",
    ),
    "Silent Night": Tune(
        "major", 3, "5:3 6:1 5 3:6 5:3 6:1 5 3:6 2':4 2' 7:6 1':4 1' 5:6 6:4 6 1':3 7:1 6 5:3 6:1 5 3:6"
    ),
    "Scarborough Fair": Tune(
        "minor", 3, "1:4 1 5:4 5 2:3 3:1 2 1:6 0:2 5 7 1':4 7 5 6+ 4 5:6 0:6 1':4 1' 1' 7 5 5 4 3 2:3 7,:1 7, 0:2"
    ),
    "Skip to My Lou": Tune(
        "major", 4, "3 3 1 1 3:1 3:1 3 5:4 2 2 7, 7, 2:1 2:1 2 4:4 3 3 1 1 3:1 3:1 3 5:4 2 3:1 4:1 3 2 1:4 1:4"
    ),
    "Camptown Races": Tune("major", 4, "5 5 3 5 6 5 3:4 3 2:6 3 2:6 5 5 3 5 6 5 3:4 2:3 3:1 2 1:8 0:2"),
    "Au clair de la lune": Tune(
        "major", 4, "1 1 1 2 3:4 2:4 1 3 2 2 1:8 1 1 1 2 3:4 2:4 1 3 2 2 1:8 2 2 2 2 6,:4 6,:4 2 1 7, 6, 5,:8"
    ),
    "The First Nowell": Tune(
        "major", 3, "0:4 3:1 2:1 1:3 2:1 3:1 4:1 5:4 6:1 7:1 1' 7 6 5:4 6:1 7:1 1' 7 6 5 6 7 1' 5 4 3:4"
    ),
    "Swan Lake": Tune(
        "minor",
        4,
        "5:4 1:1 2:1 3:1 4:1 5:3 3:1 5:3 3:1 5:3 1:1 3:1 1:1 6,:1 3:1 1:4 0:2 4:1 3:1 2:4 1:1 2:1 3:1 4:1 5:4",
    ),
    "Frere Jacques": Tune(
        "major",
        4,
        "1 2 3 1 1 2 3 1 3 4 5:4 3 4 5:4 5:1 6:1 5:1 4:1 3 1 5:1 6:1 5:1 4:1 3 1 1 5, 1:4 1 5, 1:4",
        True,
    ),
    "Mary Had a Little Lamb": Tune(
        "major", 4, "3:3 2:1 1 2 3 3 3:4 2 2 2:4 3 5 5:4 3:3 2:1 1 2 3 3 3 3 2 2 3 2 1:8", True
    ),
    "Row, Row, Row Your Boat": Tune(
        "major",
        3,
        "1:3 1:3 1:2 2:1 3:3 3:2 2:1 3:2 4:1 5:6 1':1 1':1 1':1 "
        "5:1 5:1 5:1 3:1 3:1 3:1 1:1 1:1 1:1 5:2 4:1 3:2 2:1 1:6",
        True,
    ),
    "Yankee Doodle": Tune("major", 4, "1 1 2 3 1 3 2 5, 1 1 2 3 1:4 7,:4 1 1 2 3 4 3 2 1 7, 5, 6, 7, 1:4 1:4", True),
    "When the Saints": Tune(
        "major",
        4,
        "0:2 1 3 4 5:8 0:2 1 3 4 5:8 0:2 1 3 4 5:4 3:4 1:4 3:4 "
        "2:8 0:2 3 3 2 1:6 1 3:4 5:4 5 4:6 0:2 3 4 5:4 3:4 1:4 2:4 1:8",
        True,
    ),
    "Brahms's Lullaby": Tune(
        "major",
        3,
        "0:4 3:1 3:1 5:4 3:1 3:1 5:4 3:1 5:1 1' 7:3 6:1 6 5 2:1 3:1 4 2 2:1 3:1 4:4 2:1 4:1 7:1 6:1 5 7 1':4",
        True,
    ),
    "Clementine": Tune(
        "major",
        3,
        "0:4 1:1 1:1 1 5, 3:1 3:1 3 1 1:1 3:1 5:3 5:1 4:1 3:1 "
        "2:4 2:1 3:1 4 4 3:1 2:1 3 1 1:1 3:1 2:3 5,:1 7,:1 2:1 1:4",
        True,
    ),
    "Good King Wenceslas": Tune(
        "major", 4, "1 1 1 2 1 1 5,:4 6, 5, 6, 7, 1:4 1:4 1 1 1 2 1 1 5,:4 6, 5, 6, 7, 1:4 1:4", True
    ),
    "Joy to the World": Tune("major", 4, "1':4 7:3 6:1 5:6 4 3:4 2:4 1:6 5 6:6 6 7:6 7 1':6 0:2", True),
    "Morning Mood": Tune("major", 3, "5:2 3 2 1 2 3 5:2 3 2 1 2:1 3:1 2:1 3:1 5 3 5 6 3 6 5 3 2 1:6", True),
    "God Rest Ye Merry": Tune(
        "minor", 4, "0:6 1 1 5 5 4 3 2 1 7, 1 2 3 4 5:6 1 1 5 5 4 3 2 1 7, 1 2 3 4 5:6 0:2", True
    ),
    "We Three Kings": Tune(
        "minor", 3, "5:4 4 3:4 1 2 3 2 1:6 5:4 4 3:4 1 2 3 2 1:6 3:4 3 4:4 4 5:4 5 7 6 5 4 5 4 3:4 2 1:6", True
    ),
}
