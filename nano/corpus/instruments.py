"""The band: which instruments there are, which General MIDI program plays each, and in which range.

A catalogue and nothing else; :mod:`nano.corpus.bank` renders it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Voice:
    """An instrument: its General MIDI program, the lowest and highest key (MIDI) of its part, and its release in s."""

    program: int
    low: int
    high: int
    release: float = 0.06


LEADS = {
    "piano": Voice(0, 52, 76, 0.08),
    "electric piano": Voice(4, 48, 72),
    "organ": Voice(16, 52, 76, 0.04),
    "accordion": Voice(21, 53, 77, 0.04),
    "acoustic guitar": Voice(25, 48, 72),
    "electric guitar": Voice(27, 48, 72),
    "distorted guitar": Voice(30, 45, 69, 0.04),
    "violin": Voice(40, 55, 79),
    "choir": Voice(52, 50, 74, 0.1),
    "trumpet": Voice(56, 52, 76, 0.04),
    "saxophone": Voice(66, 46, 70, 0.04),
    "flute": Voice(73, 58, 82),
    "vibraphone": Voice(11, 53, 77, 0.1),
    "music box": Voice(10, 60, 84, 0.1),
    "synth": Voice(81, 50, 74, 0.04),
    "chiptune": Voice(80, 52, 76, 0.03),
}
"""Instruments of the melody, two octaves each: low ones, since a small codec loses the waves of high notes first."""
CHORDS = {
    "piano": Voice(0, 52, 71, 0.08),
    "electric piano": Voice(4, 52, 71, 0.08),
    "acoustic guitar": Voice(25, 50, 69),
    "distorted guitar": Voice(30, 40, 62, 0.04),
    "organ": Voice(16, 52, 71, 0.04),
    "strings": Voice(48, 53, 72, 0.1),
    "brass": Voice(61, 53, 72, 0.06),
    "pad": Voice(89, 52, 71, 0.15),
}
BASSES = {
    "acoustic bass": Voice(32, 31, 50),
    "bass guitar": Voice(33, 31, 50),
    "synth bass": Voice(38, 31, 50, 0.04),
}
KITS = {"standard": 0, "power": 16, "electronic": 24, "808": 25, "jazz": 32, "brushes": 40}
"""Drum kits, and their programs in the bank of drums."""
DRUM_KEYS = {
    "kick": 36,
    "rim": 37,
    "snare": 38,
    "clap": 39,
    "hat": 42,
    "low tom": 45,
    "open hat": 46,
    "high tom": 48,
    "ride": 51,
    "tambourine": 54,
    "conga": 63,
    "shaker": 70,
}
"""Drums, and their keys in General MIDI."""
GAINS = {"lead": 1.2, "chords": 0.22, "bass": 0.56, "drums": 0.9}
"""How loud a note of each stem is; voices are equally loud before. The lead is loud enough that its pitch class is the
strongest of the whole in most frames: a melody model can only be as recognisable as its songs."""
