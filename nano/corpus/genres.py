"""Habits of genres: tempo, instruments, drum patterns, how chords are struck and how the bass walks.

Times are in twelfths of a beat, so that sixteenths (3), triplets (4) and eighths (6) are whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

FRAME_RATE = 50
TEMPI = {
    frames: round(60 * FRAME_RATE / frames)
    for frames in (50, 46, 43, 40, 37, 34, 32, 30, 28, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17)
}
"""Frames of a beat, and the tempo that it makes in beats per minute: 60 to 176, within 4.2 % of any between."""
STEADY_TEMPI = (50, 46, 40, 34, 32, 30, 28, 26, 24, 22, 20, 18)
"""Frames of a beat of steady songs: even numbers, so that all eighths of a bar stand on the same place of a frame."""
STEP = 3
"""Twelfths of a beat in a sixteenth."""


def _steps(*sixteenths: int) -> tuple[int, ...]:
    return tuple(STEP * each for each in sixteenths)


_EIGHTHS, _QUARTERS = _steps(0, 2, 4, 6, 8, 10, 12, 14), _steps(0, 4, 8, 12)
_SIXTEENTHS = _steps(*range(16))
DRUM_PATTERNS: dict[str, tuple[dict[str, tuple[int, ...]], ...]] = {
    "rock": (
        {"kick": _steps(0, 8), "snare": _steps(4, 12), "hat": _EIGHTHS},
        {"kick": _steps(0, 8, 10), "snare": _steps(4, 12), "hat": _EIGHTHS},
    ),
    "heavy": (
        {"kick": _EIGHTHS, "snare": _steps(4, 12), "open hat": _QUARTERS},
        {"kick": _steps(0, 2, 6, 8, 10), "snare": _steps(4, 12), "open hat": _QUARTERS},
    ),
    "dance": (
        {"kick": _QUARTERS, "open hat": _steps(2, 6, 10, 14)},
        {"kick": _QUARTERS, "clap": _steps(4, 12), "open hat": _steps(2, 6, 10, 14)},
    ),
    "hip hop": (
        {"kick": _steps(0, 6, 8), "clap": _steps(4, 12), "hat": _EIGHTHS},
        {"kick": _steps(0, 7, 10), "snare": _steps(4, 12), "hat": _EIGHTHS},
    ),
    "brushes": (
        {"kick": _steps(0, 8), "snare": _steps(4, 12), "shaker": _EIGHTHS},
        {"kick": _steps(0), "snare": _steps(4, 12), "hat": _QUARTERS},
    ),
    "swing": (
        {"ride": (0, 12, 20, 24, 36, 44), "hat": _steps(4, 12), "kick": _steps(0, 8)},
        {"ride": (0, 12, 20, 24, 36, 44), "snare": _steps(4, 12), "kick": _steps(0, 8)},
    ),
    "funk": (
        {"kick": _steps(0, 6, 10), "snare": _steps(4, 12), "hat": _SIXTEENTHS},
        {"kick": _steps(0, 3, 8, 10), "snare": _steps(4, 12), "hat": _EIGHTHS, "tambourine": _steps(4, 12)},
    ),
    "reggae": (
        {"kick": _steps(8), "rim": _steps(8), "hat": _EIGHTHS},
        {"kick": _steps(0, 8), "rim": _steps(4, 12), "hat": _EIGHTHS},
    ),
    "latin": (
        {"kick": _steps(0, 6, 8, 14), "rim": _steps(0, 3, 6, 10, 12), "shaker": _EIGHTHS},
        {"kick": _steps(0, 6, 8, 14), "conga": _steps(4, 6, 12, 14), "shaker": _EIGHTHS},
    ),
}
"""For each pattern its variants: the hits of a bar of 4/4. A bar of 3/4 is the kick, then two backbeats."""
FILLS: tuple[dict[str, tuple[int, ...]], ...] = (
    {"snare": _steps(8, 10, 12, 13, 14, 15)},
    {"snare": _steps(8, 9), "high tom": _steps(10, 11), "low tom": _steps(12, 14)},
    {"high tom": _steps(12, 13), "low tom": _steps(14, 15)},
)
"""Ends of a bar that takes the place of every fourth bar's; each stands for the hits from its first on."""


@dataclass(frozen=True)
class Genre:
    """Preferences of a genre; each tuple is drawn from uniformly, None is an instrument that rests."""

    beats: tuple[int, ...]
    minor: float
    leads: tuple[str, ...]
    chords: tuple[str | None, ...]
    basses: tuple[str | None, ...]
    kits: tuple[str | None, ...]
    patterns: tuple[str, ...]
    comping: tuple[str, ...]
    walking: tuple[str, ...]
    waltz: float = 0.0


GENRES = {
    "pop": Genre(
        (30, 28, 26, 25, 24),
        0.3,
        ("piano", "synth", "electric guitar", "flute", "choir"),
        ("piano", "pad", "acoustic guitar", "electric piano"),
        ("bass guitar", "synth bass"),
        ("standard", "electronic"),
        ("rock", "dance"),
        ("held", "beats"),
        ("halves", "eighths"),
    ),
    "rock": Genre(
        (26, 25, 24, 23, 22, 21),
        0.5,
        ("electric guitar", "distorted guitar", "organ"),
        ("distorted guitar", "organ", None),
        ("bass guitar",),
        ("standard", "power"),
        ("rock",),
        ("eighths", "held"),
        ("eighths", "halves"),
    ),
    "metal": Genre(
        (20, 19, 18, 17),
        0.9,
        ("distorted guitar",),
        ("distorted guitar", "strings"),
        ("bass guitar",),
        ("power",),
        ("heavy",),
        ("eighths",),
        ("eighths",),
    ),
    "electronic": Genre(
        (25, 24, 23, 22),
        0.7,
        ("synth", "chiptune"),
        ("pad", "strings", None),
        ("synth bass",),
        ("electronic", "808"),
        ("dance",),
        ("held", "offbeats"),
        ("offbeats", "eighths"),
    ),
    "synthwave": Genre(
        (30, 28, 26, 25),
        0.6,
        ("synth", "chiptune", "saxophone"),
        ("pad",),
        ("synth bass",),
        ("electronic",),
        ("rock", "dance"),
        ("held",),
        ("eighths",),
    ),
    "jazz": Genre(
        (32, 28, 25, 22, 20),
        0.5,
        ("saxophone", "trumpet", "piano", "vibraphone", "electric guitar"),
        ("piano", "electric piano"),
        ("acoustic bass",),
        ("jazz", "brushes"),
        ("swing", "brushes"),
        ("beats", "held"),
        ("walking",),
        0.1,
    ),
    "hip hop": Genre(
        (37, 34, 32, 30),
        0.8,
        ("electric piano", "flute", "piano", "synth"),
        ("pad", "strings", None),
        ("synth bass",),
        ("808", "electronic"),
        ("hip hop",),
        ("held",),
        ("halves",),
    ),
    "lofi": Genre(
        (43, 40, 37, 34),
        0.6,
        ("electric piano", "vibraphone", "acoustic guitar", "piano"),
        ("electric piano", "pad"),
        ("acoustic bass", "synth bass"),
        ("standard", "808"),
        ("hip hop",),
        ("held",),
        ("halves",),
    ),
    "ambient": Genre(
        (50, 46, 43, 40),
        0.5,
        ("choir", "synth", "flute", "vibraphone"),
        ("pad", "strings"),
        (None, None, "synth bass"),
        (None,),
        ("rock",),
        ("held",),
        ("halves",),
    ),
    "classical": Genre(
        (37, 32, 28, 25),
        0.4,
        ("violin", "flute", "piano", "trumpet", "choir"),
        ("strings", "piano"),
        (None, None, "acoustic bass"),
        (None,),
        ("rock",),
        ("held", "broken"),
        ("halves",),
        0.4,
    ),
    "folk": Genre(
        (30, 28, 26, 25),
        0.3,
        ("acoustic guitar", "accordion", "violin", "flute"),
        ("acoustic guitar",),
        ("acoustic bass", None),
        ("brushes", None, None),
        ("brushes",),
        ("beats", "broken"),
        ("halves",),
        0.3,
    ),
    "funk": Genre(
        (30, 28, 26, 25),
        0.6,
        ("electric guitar", "organ", "trumpet", "saxophone"),
        ("electric piano", "brass"),
        ("bass guitar",),
        ("standard",),
        ("funk",),
        ("offbeats", "beats"),
        ("octaves",),
    ),
    "reggae": Genre(
        (43, 40, 37, 34),
        0.4,
        ("organ", "saxophone", "trumpet", "electric guitar"),
        ("organ", "piano"),
        ("bass guitar",),
        ("standard",),
        ("reggae",),
        ("offbeats",),
        ("halves", "eighths"),
    ),
    "latin": Genre(
        (28, 26, 25, 23, 21),
        0.5,
        ("acoustic guitar", "trumpet", "flute", "accordion"),
        ("piano", "acoustic guitar"),
        ("acoustic bass",),
        ("standard",),
        ("latin",),
        ("offbeats", "beats"),
        ("halves", "octaves"),
    ),
    "blues": Genre(
        (40, 34, 30, 26),
        0.6,
        ("electric guitar", "distorted guitar", "organ", "saxophone", "piano"),
        ("piano", "organ"),
        ("bass guitar",),
        ("standard", "brushes"),
        ("swing", "rock"),
        ("beats", "held"),
        ("walking",),
    ),
    "lullaby": Genre(
        (46, 43, 40, 37),
        0.2,
        ("music box", "vibraphone", "flute", "choir"),
        ("piano", "strings", None),
        (None,),
        (None,),
        ("rock",),
        ("held", "broken"),
        ("halves",),
        0.5,
    ),
}
