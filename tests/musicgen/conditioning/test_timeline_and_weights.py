"""Timelines and weighted words as texts."""

from __future__ import annotations

import pytest

from musicgen.conditioning.condition import Span
from musicgen.conditioning.timeline import parse_timeline
from musicgen.conditioning.weighted import read_weights
from musicgen.times import Meter


def test_lines_change_the_description_before_them():
    told = parse_timeline("lofi, piano\n4s + rock drums + bass\n8s - piano + organ\n1:00\n\n# end")
    assert [(each.span.start, each.text) for each in told] == [
        (0.0, "lofi, piano"),
        (4.0, "lofi, piano, rock drums, bass"),
        (8.0, "lofi, rock drums, bass, organ"),
        (60.0, ""),
    ]


def test_a_length_behind_a_time_is_that_of_the_change_and_morph_that_of_all_others():
    told = parse_timeline("0s piano\n4s: 12 strings\nbar 9 ~1 bar: organ", Meter(120.0), morph=0.5)
    assert [each.span for each in told] == [
        Span(0.0, 4.0, 0.0, 0.5),
        Span(4.0, 16.0, 0.5, 2.0),
        Span(16.0, None, 2.0, 0.0),
    ]
    assert told[1].text == "12 strings"


@pytest.mark.parametrize("line", ["5s ~: rock", "5s ~ rock"])
def test_a_change_without_a_length_is_refused(line):
    with pytest.raises(ValueError, match="has no length after ~"):
        parse_timeline(f"0s jazz\n{line}")


@pytest.mark.parametrize("line", ["5s +drums", "5s + "])
def test_a_sign_without_a_phrase_is_refused(line):
    with pytest.raises(ValueError, match="needs a space after its sign|has nothing after"):
        parse_timeline(f"0s jazz\n{line}")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("piano, drums", [("piano, drums", 1.0)]),
        ("piano, (drums:1)", [("piano, drums", 1.0)]),
        ("(piano:1.2), slow, (drums:0.5)", [("piano, slow, drums", 0.7), ("slow, drums", -0.2), ("piano, slow", 0.5)]),
        ("piano (drums:-1)", [("piano drums", -1.0), ("piano", 2.0)]),
        (r"piano \(live\), (drums:0)", [("piano (live)", 1.0)]),
        ("piano (live) (bpm:120) (:2)", [("piano (live) (bpm:120) (:2)", 1.0)]),
    ],
)
def test_weights_become_factors_that_add_up_to_1(text, parts):
    found = [(part.text, pytest.approx(part.weight)) for part in read_weights(text)]
    assert found == parts and sum(part.weight for part in read_weights(text)) == pytest.approx(1.0)
