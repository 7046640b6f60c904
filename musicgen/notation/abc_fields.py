"""The fields of ABC music that decide pitch and time: key, metre, unit length and tempo."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from .keys import MODES, NATURALS, signature

_KEY = re.compile(r"([A-G])([#b]?)\s*([A-Za-z]*)")
_ACCIDENTAL = re.compile(r"(\^{1,2}|_{1,2}|=)([A-Ga-g])")
_TRANSPOSE = re.compile(r"(?:transpose|t)=(-?\d{1,2})\b")
_FRACTION = re.compile(r"(\d{1,4})\s*/\s*(\d{1,4})")
_TEMPO = re.compile(r"(?:(\d{1,3}\s*/\s*\d{1,3}(?:\s+\d{1,3}\s*/\s*\d{1,3})*)\s*=\s*)?(\d{1,4}(?:\.\d*)?)")
SIGNS = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0, "": None}
_BAGPIPES = {"F": 1, "C": 1}
_MOST, _SHORTEST_UNIT = 64, 1024
_NO_MODES = ("clef", "treble", "bass", "alto", "tenor", "exp", "transpose", "octave", "middle", "stafflines")
_MINOR_MODES = ("m", "min", "aeo", "dor", "phr")


@dataclass(frozen=True)
class Key:
    """Sharps (1) and flats (-1) by letter, the semitones to transpose by, and the key's name if it has one."""

    signs: dict[str, int] = field(default_factory=dict)
    shift: int = 0
    name: tuple[int, str] | None = None


def parse_key(text: str) -> Key:
    """Read `K:`, such as `G`, `Am`, `D dor ^g`, `none`, `C clef=bass transpose=-12`.

    Raises:
        ValueError: it is no key.
    """
    text = text.strip()
    found = _TRANSPOSE.search(text)
    shift = int(found[1]) if found else 0
    words = text.split()
    plain = not words or words[0].lower() == "none" or "=" in words[0] or words[0].lower() in ("perc", "treble", "bass")
    if plain or words[0] in ("HP", "Hp"):
        return Key(dict(_BAGPIPES) if words and words[0] == "Hp" else {}, shift)
    match = _KEY.match(text)
    if match is None:
        raise ValueError(f"K:{text[:40]}; allowed are keys such as K:C, K:Am, K:Bb and K:D dor")
    letter, sign, mode = match.groups()
    if mode.lower() in _NO_MODES:
        mode = ""
    mode = "maj" if mode == "M" else mode.lower()
    signs = signature(letter, sign, mode)
    if signs is None:
        raise ValueError(f"K:{text[:40]}; allowed modes are major, minor, m, dor, phr, lyd, mix, aeo, loc and ion")
    exact = "exp" in words[1:]
    extra = {name.upper(): SIGNS[mark] or 0 for mark, name in _ACCIDENTAL.findall(text[match.end() :])}
    tonic = (NATURALS[letter] + {"#": 1, "b": -1, "": 0}[sign] + shift) % 12
    return Key((extra if exact else signs | extra), shift, (tonic, MODES[mode[:3] in _MINOR_MODES]))


def parse_meter(text: str) -> Fraction:
    """Read `M:` as the length of a bar in whole notes: `C`, `C|`, `6/8`, `2+3/8`, `none`.

    Raises:
        ValueError: it is no metre.
    """
    text = text.strip()
    if text in ("C", "C|", "none", ""):
        return Fraction(1)
    above, _, below = text.replace("(", "").replace(")", "").partition("/")
    try:
        beats, unit = sum(int(part) for part in above.split("+")), int(below.split()[0])
    except (ValueError, IndexError):
        beats, unit = 0, 0
    if not (0 < beats <= _MOST and 0 < unit <= _MOST):
        raise ValueError(f"M:{text[:40]}; allowed are metres such as M:4/4, M:6/8 and M:C")
    return Fraction(beats, unit)


def parse_unit(text: str) -> Fraction:
    """Read `L:`, the length of a note without a number, in whole notes.

    Raises:
        ValueError: it is no length.
    """
    match = _FRACTION.fullmatch(text.strip())
    if text.strip() == "1":
        return Fraction(1)
    if match is None or not int(match[1]) or not 0 < int(match[2]) <= _SHORTEST_UNIT:
        raise ValueError(f"L:{text[:40]}; allowed are lengths such as L:1/8")
    return Fraction(int(match[1]), int(match[2]))


def parse_tempo(text: str, unit: Fraction | None) -> tuple[float, Fraction] | None:
    """Read `Q:` as beats per minute and a beat in whole notes: `1/4=120`, `"Allegro" 3/8=80`, `120`; None for words.

    Args:
        text: of the field.
        unit: the beat where none is given.

    Raises:
        ValueError: a beat has no length.
    """
    plain = re.sub(r'"[^"]*"', "", text).strip().replace("C=", "").replace("C3=", "")
    if not plain:
        return None
    match = _TEMPO.fullmatch(plain)
    if match is None:
        raise ValueError(f"Q:{text[:40]}; allowed are tempi such as Q:1/4=120")
    beats = [Fraction(*map(int, pair)) for pair in _FRACTION.findall(match[1] or "") if int(pair[1])]
    beat = sum(beats, Fraction(0)) or unit or Fraction(1, 4)
    return float(match[2]), beat
