"""Captions in the manner of MusicGen's: labels become words, and words become labels again.

Each attribute has many wordings and may be left out; `read_caption` recovers whatever a caption
names, so that prompts can be scored. Small letters, under 250 words in all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from .composer import KEYS, TEMPI, SongPlan, pick

Labels = dict[str, object]
# Attribute -> value -> wordings. No wording stands for two values of an attribute.
WORDINGS: dict[str, dict[object, tuple[str, ...]]] = {
    "genre": {
        "pop": ("pop",),
        "rock": ("rock",),
        "electronic": ("electronic", "edm", "techno"),
        "jazz": ("jazz", "jazzy"),
        "hip hop": ("hip hop", "lofi"),
        "ambient": ("ambient", "chill"),
        "classical": ("classical", "orchestral"),
        "folk": ("folk", "country", "acoustic"),
        "funk": ("funk", "soul", "disco"),
    },
    "mode": {
        "major": ("happy", "cheerful", "bright", "joyful", "uplifting", "sunny"),
        "minor": ("sad", "dark", "melancholic", "moody", "emotional"),
    },
    "pace": {
        "slow": ("slow", "calm", "relaxing", "peaceful"),
        "medium": ("mid tempo", "steady", "moderate"),
        "fast": ("fast", "energetic", "upbeat", "driving"),
    },
    "lead": {
        "flute": ("flute", "soft flute", "breathy flute"),
        "clarinet": ("clarinet", "mellow clarinet", "woodwind"),
        "trumpet": ("trumpet", "brass", "horn"),
        "guitar": ("guitar", "acoustic guitar", "electric guitar", "plucked guitar"),
        "bells": ("bells", "music box", "vibraphone", "chimes"),
        "electric piano": ("electric piano", "rhodes", "warm keys"),
        "organ": ("organ", "hammond organ", "church organ"),
        "synth": ("synth", "synthesizer", "bright synth", "lead synth"),
    },
    "chords": {
        "pad": ("pads", "synth pads", "warm pads"),
        "piano": ("piano", "grand piano"),
    },
    "bass_style": {
        "bass guitar": ("bass guitar", "electric bass", "round bass"),
        "synth bass": ("synth bass", "deep bass", "heavy bass"),
    },
    "bass": {True: ("bass", "bass line"), False: ("no bass", "without bass")},
    "drum_pattern": {
        "rock": ("rock drums", "rock beat", "heavy drums"),
        "dance": ("dance beat", "four on the floor beat", "club drums"),
        "hip hop": ("hip hop beat", "hip hop drums", "laid back drums"),
        "brushes": ("soft drums", "brushed drums", "gentle drums"),
        "funk": ("funk drums", "funky beat", "groovy drums"),
    },
    "drums": {
        True: ("drums", "a drum beat", "percussion"),
        False: ("no drums", "without drums", "no percussion", "without percussion"),
    },
}
_NAMES = dict(zip(KEYS, ("c", "d", "e", "f", "g", "a"), strict=True))
_NOUNS = ("song", "track", "tune", "music", "piece", "instrumental")
_TEMPO = ("{} bpm", "at {} bpm", "tempo {} bpm", "bpm: {}", "a tempo of {} bpm")
_KEY = ("in {}", "in the key of {}", "key of {}", "key: {}")
_LEAD = ("{}", "{} melody", "{} lead", "{} playing the melody", "{} solo")
_CHORDS = ("{}", "{} chords", "{} in the background", "{} playing chords")


@dataclass(frozen=True)
class CaptionOdds:
    """How often a caption names each attribute; `terse` captions name each half as often."""

    genre: float = 0.7
    mode: float = 0.35
    pace: float = 0.35
    tempo: float = 0.85
    key: float = 0.85
    lead: float = 0.85
    chords: float = 0.5
    bass: float = 0.8
    drums: float = 0.9
    terse: float = 0.1

    @classmethod
    def all_named(cls) -> CaptionOdds:
        """Captions that name everything, as evaluation wants them."""
        return cls(**{field.name: float(field.name != "terse") for field in fields(cls)})


DEFAULT_ODDS = CaptionOdds()


def pace_of(tempo_bpm: int) -> str:
    """slow, medium or fast."""
    return "slow" if tempo_bpm < 90 else "medium" if tempo_bpm < 115 else "fast"


def key_name(key: int, mode: str) -> str:
    """For example `c major`."""
    return f"{_NAMES[key]} {mode}"


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _part(plan: SongPlan, name: str, rng: np.random.Generator) -> str:
    """Words for the bass or the drums: the style, only their presence, or their absence."""
    style = plan.bass_style if name == "bass" else plan.drum_pattern
    if style is None:
        return pick(rng, WORDINGS[name][False])
    if rng.random() < 0.6:
        return pick(rng, WORDINGS["bass_style" if name == "bass" else "drum_pattern"][style])
    return pick(rng, WORDINGS[name][True])


def _join(parts: list[str], rng: np.random.Generator) -> str:
    if len(parts) < 2 or rng.random() < 0.3:
        return ", ".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def describe(plan: SongPlan, rng: np.random.Generator, odds: CaptionOdds = DEFAULT_ODDS) -> str:
    """One caption of a song, drawn anew on every call: a sentence or a list of tags.

    It names at least one attribute, and says nothing that is not so.
    """
    share = 0.5 if rng.random() < odds.terse else 1.0
    named = {field.name for field in fields(odds) if rng.random() < share * getattr(odds, field.name)} - {"terse"}
    named = named or {"genre"}
    head = []
    if "mode" in named:
        head.append(pick(rng, WORDINGS["mode"][plan.mode]))
    if "pace" in named:
        head.append(pick(rng, WORDINGS["pace"][pace_of(plan.tempo_bpm)]))
    if "genre" in named:
        head.append(pick(rng, WORDINGS["genre"][plan.genre]))
    parts = []
    if "lead" in named:
        parts.append(pick(rng, _LEAD).format(pick(rng, WORDINGS["lead"][plan.lead])))
    if "chords" in named and plan.chords is not None:
        parts.append(pick(rng, _CHORDS).format(pick(rng, WORDINGS["chords"][plan.chords])))
    parts += [_part(plan, name, rng) for name in ("bass", "drums") if name in named]
    tail = []
    if "tempo" in named:
        tail.append(pick(rng, _TEMPO).format(plan.tempo_bpm))
    if "key" in named:
        tail.append(pick(rng, _KEY).format(key_name(plan.key, plan.mode)))
    for words in (parts, tail):
        rng.shuffle(words)
    if rng.random() < 0.3:
        return ", ".join([" ".join(head)] * bool(head) + parts + tail)
    noun = pick(rng, _NOUNS)
    start = " ".join([*head, noun])
    start = _article(start) if noun != "music" and rng.random() < 0.7 else start
    present = [part for part in parts if not part.startswith(("no ", "without "))]
    absent = [part for part in parts if part not in present]
    if present:
        start += pick(rng, (" with ", " featuring ")) + _join(present, rng)
    return ", ".join([start, *absent, *tail])


@cache
def _phrases() -> tuple[re.Pattern[str], dict[str, tuple[str, object]]]:
    """A pattern that finds the longest wordings first, and what each stands for."""
    meaning = {
        words: (attribute, value)
        for attribute, values in WORDINGS.items()
        for value, wordings in values.items()
        for words in wordings
    }
    for key in KEYS:
        for mode in ("major", "minor"):
            meaning[key_name(key, mode)] = ("key", (key, mode))
    longest = sorted(meaning, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, longest)) + r"|\d+)\b"), meaning


def read_caption(caption: str) -> Labels:
    """The attributes that a caption names, by their names in `SongPlan`, plus `pace`.

    Attributes that it does not name are missing; words that it does not know are passed over.
    """
    pattern, meaning = _phrases()
    labels: Labels = {}
    for words in pattern.findall(caption.lower()):
        if words.isdigit():
            labels["tempo_bpm"] = int(words)
            continue
        attribute, value = meaning[words]
        if attribute == "key" and isinstance(value, tuple):
            labels["key"], labels["mode"] = value
        else:
            labels[attribute] = value
    if "bass_style" in labels:
        labels["bass"] = True
    if "drum_pattern" in labels:
        labels["drums"] = True
    return labels


def vocabulary() -> list[str]:
    """Every word and sign that a caption can hold, sorted."""
    phrases = [words for values in WORDINGS.values() for wordings in values.values() for words in wordings]
    phrases += [*_NAMES.values(), *_NOUNS, *_TEMPO, *_KEY, *_LEAD, *_CHORDS]
    phrases += ["a an major minor with featuring and , :", " ".join(map(str, TEMPI.values()))]
    return sorted(set(re.findall(r"[a-z0-9]+|[,:]", " ".join(phrases))))
