"""Weighted words: `calm piano, (drums:1.4)` as one description and the descriptions without each phrase.

T5 mixes every word into the states of all others, so scaling the states of some words changes little (docs/log.md). A
weight therefore acts on the prediction: with the phrase's weight w it is L(without) + w (L(with) - L(without)), which
is guidance by one phrase. A weight of 1 leaves the description as it is, 0 takes the phrase out, and one below 0 leads
away from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST = 4.0
"""Largest size of a weight. A larger number is no weight but words, as in `(bpm:120)`."""
_PHRASE = re.compile(r"(?<!\\)\(([^()]*?):\s*(-?(?:\d+(?:\.\d*)?|\.\d+))\s*\)")


@dataclass(frozen=True)
class WeightedText:
    """A description without signs, and its factor among several."""

    text: str
    weight: float = 1.0


def read_weights(text: str) -> tuple[WeightedText, ...]:
    """Split a description into those whose weighted predictions are added; the weights add up to 1.

    >>> read_weights("calm piano, (drums:1.5), slow")  # doctest: +NORMALIZE_WHITESPACE
    (WeightedText(text='calm piano, drums, slow', weight=1.5),
     WeightedText(text='calm piano, slow', weight=-0.5))
    >>> read_weights("calm piano, (drums:0)"), read_weights("(live) piano (bpm:120)")
    ((WeightedText(text='calm piano', weight=1.0),), (WeightedText(text='(live) piano (bpm:120)', weight=1.0),))
    """
    phrases = [match for match in _PHRASE.finditer(text) if match[1].strip() and abs(float(match[2])) <= MOST]
    if not phrases:
        return (WeightedText(_unescaped(text)),)
    parts, extra = [], 0.0
    for match in phrases:
        weight = float(match[2])
        if weight != 1.0:
            parts.append(WeightedText(_written(text, phrases, left_out=match), 1.0 - weight))
            extra += weight - 1.0
    whole = WeightedText(_written(text, phrases), 1.0 + extra)
    return tuple(part for part in (whole, *parts) if abs(part.weight) > 1e-9)


def _written(text: str, phrases: list[re.Match[str]], left_out: re.Match[str] | None = None) -> str:
    """The description with the words of all phrases, or of all but one."""
    pieces, last = [], 0
    for match in phrases:
        pieces += [text[last : match.start()], "" if match is left_out else match[1].strip()]
        last = match.end()
    joined = "".join([*pieces, text[last:]])
    if left_out is not None:
        joined = re.sub(r"\s*,(?:\s*,)+", ",", " ".join(joined.split())).strip(" ,")
    return _unescaped(joined)


def _unescaped(text: str) -> str:
    return text.replace(r"\(", "(").replace(r"\)", ")")
