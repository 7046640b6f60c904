"""Times in texts: every form, exact, and a sentence for each text that is none."""

from __future__ import annotations

import pytest

from musicgen.times import Meter, parse_length, parse_range, parse_time, show_time

WALTZ = Meter(90.0, 3)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("12.5", 12.5),
        (" 12.5 s ", 12.5),
        ("12.5S", 12.5),
        (".5s", 0.5),
        ("250 ms", 0.25),
        ("2 min", 120.0),
        ("1:05", 65.0),
        ("1:05.5", 65.5),
        ("1:02:03", 3723.0),
        ("bar 1", 0.0),
        ("Bar 16", 30.0),
        ("bar16", 30.0),
        ("bar 1.5", 1.0),
        ("beat 3", 4 / 3),
        ("bar 2 beat 3", 2 + 4 / 3),
        ("bar 2, beat 3.5", 2 + 5 / 3),
        ("25%", 5.0),
    ],
)
def test_a_place_is_read_in_every_form(text, seconds):
    assert parse_time(text, WALTZ, duration=20.0) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("4 bars", 8.0), ("1 bar", 2.0), ("3 beats", 2.0), ("2.5", 2.5), ("500ms", 0.5), ("1:00", 60.0)],
)
def test_a_length_is_read_in_every_form(text, seconds):
    assert parse_length(text, WALTZ) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("4s-8s", (4.0, 8.0)),
        ("4 - 8", (4.0, 8.0)),
        ("4 to 8s", (4.0, 8.0)),
        ("0:04 until 0:08", (4.0, 8.0)),
        ("4s..8s", (4.0, 8.0)),
        ("bar 2 - bar 4", (2.0, 6.0)),
        ("bar 2 for 2 bars", (2.0, 6.0)),
        ("4s + 1.5s", (4.0, 5.5)),
        ("4s - end", (4.0, 20.0)),
        ("50% - 75%", (10.0, 15.0)),
    ],
)
def test_a_range_is_two_places_or_a_place_and_a_length(text, span):
    assert parse_range(text, WALTZ, duration=20.0) == span


def test_bars_are_exact_where_a_float_would_drift():
    assert parse_time("bar 1001", Meter(100.1)) == pytest.approx(1000 * 4 * 60 / 100.1, rel=1e-15)
    assert parse_length("3 bars", Meter(110.0, 4)) == 720 / 110


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "an empty text is not a time"),
        ("soon", "'soon' is not a time; allowed is 12.5, 12.5s"),
        ("-3s", "'-3s' is not a time"),
        ("1:75", "'1:75' is not a time"),
        ("bar 0", "'bar 0' names bar 0; bars and beats count from 1"),
        ("bar 2 beat 4", "'bar 2 beat 4' names a beat beyond the bar, which has 3 beats"),
        ("20%", "'20%' is a share of a piece whose duration is not known here"),
    ],
)
def test_a_text_that_is_no_place_is_refused_in_a_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        parse_time(text, WALTZ)


def test_bars_without_a_tempo_ask_for_one():
    with pytest.raises(ValueError, match=r"'bar 16' needs a tempo; give the beats per minute \(bpm\)"):
        parse_time("bar 16")
    with pytest.raises(ValueError, match="'4 bars' needs a tempo"):
        parse_length("4 bars")


@pytest.mark.parametrize("bpm", [0.0, -3.0, float("nan"), float("inf")])
def test_a_tempo_is_above_0(bpm):
    with pytest.raises(ValueError, match="bpm is .*; allowed is a number of beats per minute above 0"):
        Meter(bpm)


def test_a_bar_has_a_whole_number_of_beats():
    with pytest.raises(ValueError, match="beats per bar is 0"):
        Meter(120.0, 0)


@pytest.mark.parametrize(
    ("text", "part"), [("8s - 4s", "ends at 4 s and begins at 8 s"), ("4s", "not a range"), ("4s - 4s", "ends")]
)
def test_a_range_ends_after_its_beginning(text, part):
    with pytest.raises(ValueError, match=part):
        parse_range(text)


def test_a_length_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'long' is not a length; allowed is 2.5, 2.5s, 1:05, 4 bars or 2 beats"):
        parse_length("long")


def test_times_are_shown_in_seconds_and_then_in_minutes():
    assert [show_time(each) for each in (0.0, 12.34, 60.0, 65.5, 119.999)] == [
        "0 s",
        "12.34 s",
        "1:00",
        "1:05.50",
        "2:00",
    ]
