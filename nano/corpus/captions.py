"""Captions in the manner of MusicGen's: labels become words, and words become labels again.

Each attribute has many wordings and may be left out, and the parts of a caption come in many orders;
`read_caption` recovers whatever a caption names, so that prompts can be scored. Small letters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from .genres import TEMPI
from .notes import SongPlan
from .wordings import (
    CHORD_FORMS,
    CHORDS,
    CHORDS_ALONE,
    EMPTY,
    EMPTY_PARTS,
    KEY,
    KEY_NAMES,
    LEAD_FORMS,
    LEADS,
    NOUNS,
    OPENINGS,
    TEMPO,
    WITH,
    WORDINGS,
)

Labels = dict[str, object]


@dataclass(frozen=True)
class CaptionOdds:
    """How often a caption names each attribute; `terse` captions name each half as often, and `empty` words say
    nothing."""

    genre: float = 0.75
    mode: float = 0.3
    pace: float = 0.3
    beats: float = 0.8
    tempo: float = 0.6
    key: float = 0.6
    lead: float = 0.85
    chords: float = 0.5
    bass: float = 0.7
    drums: float = 0.85
    ending: float = 1.0
    empty: float = 0.35
    terse: float = 0.15

    @classmethod
    def all_named(cls) -> CaptionOdds:
        """Captions that name everything, as evaluation wants them."""
        return cls(**{field.name: float(field.name not in ("terse", "empty")) for field in fields(cls)})


DEFAULT_ODDS = CaptionOdds()


def pace_of(tempo_bpm: int) -> str:
    """slow, medium or fast.

    `pace_of(75)` is `slow`, `pace_of(125)` is `fast`.
    """
    return "slow" if tempo_bpm < 90 else "medium" if tempo_bpm < 115 else "fast"


def key_name(key: int, mode: str, spelling: int = 0) -> str:
    """For example `c major` or, of the black keys, `c sharp minor` and `d flat minor`."""
    names = KEY_NAMES[key]
    return f"{names[spelling % len(names)]} {mode}"


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou8" and not words.startswith("8 ") else "a ") + words


def _bass(plan: SongPlan, rng: np.random.Generator) -> str:
    if plan.bass_style is None:
        return _pick(rng, WORDINGS["bass"][False])
    if rng.random() < 0.5:
        return _pick(rng, WORDINGS["bass_style"][plan.bass_style])
    return _pick(rng, WORDINGS["bass"][True])


def _drums(plan: SongPlan, rng: np.random.Generator) -> str:
    if plan.kit is None:
        return _pick(rng, WORDINGS["drums"][False])
    how = rng.random()
    if how < 0.35:
        return _pick(rng, WORDINGS["kit"][plan.kit])
    if how < 0.65:
        return _pick(rng, WORDINGS["drum_pattern"][plan.drum_pattern])
    return _pick(rng, WORDINGS["drums"][True])


def _chords(plan: SongPlan, rng: np.random.Generator) -> str:
    name = str(plan.chords)
    if name in CHORDS_ALONE and rng.random() < 0.5:
        return _pick(rng, CHORDS_ALONE[name])
    return _pick(rng, CHORD_FORMS).format(_pick(rng, CHORDS[name]))


def _join(parts: list[str], rng: np.random.Generator) -> str:
    if len(parts) < 2 or rng.random() < 0.3:
        return ", ".join(parts)
    return ", ".join(parts[:-1]) + _pick(rng, (" and ", ", and ", " and ")) + parts[-1]


def describe(plan: SongPlan, rng: np.random.Generator, odds: CaptionOdds = DEFAULT_ODDS) -> str:
    """One caption of a song, drawn anew on every call: a sentence or a list of tags.

    It names at least one attribute, and says nothing that is not so.
    """
    share = 0.5 if rng.random() < odds.terse else 1.0
    named = {field.name for field in fields(odds) if rng.random() < share * getattr(odds, field.name)} - {"terse"}
    named = named or {"genre"}
    head = _head(plan, named, rng)
    parts, absent = _parts(plan, named, rng)
    tail = []
    if "tempo" in named:
        tail.append(_pick(rng, TEMPO).format(plan.tempo_bpm))
    if "key" in named:
        tail.append(_pick(rng, KEY).format(key_name(plan.key, plan.mode, int(rng.integers(2)))))
    if "beats" in named and plan.beats == 3:
        tail.append(_pick(rng, WORDINGS["beats"][3]))
    if plan.ending and "ending" in named:
        tail.append(_pick(rng, WORDINGS["ending"][True]))
    for words in (parts, tail):
        rng.shuffle(words)
    return _arrange(head, parts, absent, tail, rng)


def _head(plan: SongPlan, named: set[str], rng: np.random.Generator) -> list[str]:
    """Adjectives and genre; the genre stands last as often as not."""
    words = []
    if "empty" in named:
        words.append(_pick(rng, EMPTY))
    if "mode" in named:
        words.append(_pick(rng, WORDINGS["mode"][plan.mode]))
    if "pace" in named:
        words.append(_pick(rng, WORDINGS["pace"][pace_of(plan.tempo_bpm)]))
    rng.shuffle(words)
    if "genre" in named:
        words.insert(len(words) if rng.random() < 0.7 else 0, _pick(rng, WORDINGS["genre"][plan.genre]))
    return words


def _parts(plan: SongPlan, named: set[str], rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Words for the instruments that play, and for the absent ones that are named."""
    parts = []
    if "lead" in named:
        lead = _pick(rng, LEAD_FORMS).format(_pick(rng, LEADS[plan.lead]))
        parts.append(_article(lead) if rng.random() < 0.25 and not lead.endswith("s") else lead)
    if "chords" in named and plan.chords is not None:
        parts.append(_chords(plan, rng))
    if "bass" in named:
        parts.append(_bass(plan, rng))
    if "drums" in named:
        parts.append(_drums(plan, rng))
    present = [part for part in parts if not part.startswith(("no ", "without ", "drumless"))]
    absent = [part for part in parts if part not in present]
    if "empty" in named and rng.random() < 0.3:
        present.append(_pick(rng, EMPTY_PARTS))
    return present, absent


def _arrange(head: list[str], parts: list[str], absent: list[str], tail: list[str], rng: np.random.Generator) -> str:
    """Tags, or a sentence that begins with the genre, with the instruments, or with tempo and key."""
    how = rng.random()
    if how < 0.25:
        tags = [" ".join(head)] * bool(head) + parts + absent + tail
        if rng.random() < 0.3:
            rng.shuffle(tags)
        return ", ".join(tags)
    noun = _pick(rng, NOUNS) if rng.random() < 0.8 or not head else ""
    start = " ".join([*head, noun]).strip()
    if noun and noun != "music" and rng.random() < 0.6:
        start = _article(start)
    if parts and how < 0.4:
        sentence = _join(parts, rng) + _pick(rng, (" in ", " playing ", ", ")) + start
    else:
        sentence = start + (_pick(rng, WITH) + _join(parts, rng) if parts else "")
    if tail and rng.random() < 0.2:
        return ", ".join([*tail, sentence, *absent])
    return _pick(rng, OPENINGS) + ", ".join([sentence, *absent, *tail])


@cache
def _phrases() -> tuple[re.Pattern[str], dict[str, tuple[str, object]]]:
    """A pattern that finds the longest wordings first, and the meaning of each."""
    meaning: dict[str, tuple[str, object]] = {
        words: (attribute, value)
        for attribute, values in WORDINGS.items()
        for value, wordings in values.items()
        for words in wordings
    }
    for value, wordings in LEADS.items():
        for words in wordings:
            meaning |= {form.format(words): ("lead", value) for form in LEAD_FORMS}
    for value, wordings in CHORDS_ALONE.items():
        meaning |= dict.fromkeys(wordings, ("chords", value))
    for value, wordings in CHORDS.items():
        for words in wordings:
            meaning |= {form.format(words): ("chords", value) for form in CHORD_FORMS}
    for key in range(12):
        for mode in ("major", "minor"):
            meaning |= {key_name(key, mode, spelling): ("key", (key, mode)) for spelling in range(2)}
    meaning |= dict.fromkeys((*EMPTY_PARTS, "80s", "90s", "70s"), ("empty", None))
    longest = sorted(meaning, key=len, reverse=True)
    numbers = r"\d+(?= (?:bpm|beats per))|(?<=bpm: )\d+|(?<=tempo: )\d+"
    return re.compile(r"(?<![\w/])(?:" + "|".join(map(re.escape, longest)) + "|" + numbers + r")(?![\w/])"), meaning


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
        elif attribute != "empty":
            labels.setdefault(attribute, value)
    if "bass_style" in labels:
        labels["bass"] = True
    if "drum_pattern" in labels or "kit" in labels:
        labels["drums"] = True
    return labels


def vocabulary() -> list[str]:
    """Every word and sign that a caption can hold, sorted."""
    phrases = [words for values in WORDINGS.values() for wordings in values.values() for words in wordings]
    phrases += [words for table in (LEADS, CHORDS, CHORDS_ALONE) for row in table.values() for words in row]
    phrases += [name for names in KEY_NAMES for name in names]
    phrases += [*NOUNS, *TEMPO, *KEY, *LEAD_FORMS, *CHORD_FORMS, *EMPTY, *EMPTY_PARTS, *OPENINGS, *WITH]
    phrases += ["a an major minor in playing and , :", " ".join(map(str, TEMPI.values()))]
    return sorted(set(re.findall(r"[a-z0-9]+|[,:/]", " ".join(phrases))))
