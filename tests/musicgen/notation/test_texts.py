"""Chords and notes as texts, names of keys."""

from __future__ import annotations

import pytest

from musicgen.notation import read_chords, read_notes
from musicgen.notation.chords import STEPS, chord_pitches
from musicgen.notation.keys import key_name, read_key


def bars(text: str, **options) -> list[tuple[float, list[int]]]:
    """Start of each chord, and its pitch classes from the root on."""
    starts: dict[float, list[int]] = {}
    for note in read_chords(text, **options).chords.notes:
        starts.setdefault(note.start, []).append(note.pitch % 12)
    return list(starts.items())


def test_a_chord_fills_its_bar_and_two_share_it():
    assert bars("C | G | Am F", bpm=120) == [
        (0.0, [0, 4, 7]),
        (2.0, [7, 11, 2]),
        (4.0, [9, 0, 4]),
        (5.0, [5, 9, 0]),
    ]
    assert read_chords("C | G | Am F", bpm=120).seconds == 6.0


def test_a_bar_has_as_many_beats_as_it_is_told():
    assert read_chords("C | G", bpm=60, beats_per_bar=3).seconds == 6.0
    assert [start for start, _ in bars("C:3 G:1 | F", bpm=60)] == [0.0, 3.0, 4.0]
    assert [start for start, _ in bars("C:2 G Am", bpm=60)] == [0.0, 2.0, 3.0]


def test_chords_without_bar_lines_last_a_bar_each():
    assert [start for start, _ in bars("C G Am F", bpm=120)] == [0.0, 2.0, 4.0, 6.0]
    assert [start for start, _ in bars("C G |", bpm=120)] == [0.0, 1.0]
    assert [start for start, _ in bars("C G\nAm F", bpm=120)] == [0.0, 1.0, 2.0, 3.0]


def test_a_sign_repeats_the_chord_before_and_rests_are_silent():
    assert bars("| C | % | - | N.C. | G |", bpm=240) == [(0.0, [0, 4, 7]), (1.0, [0, 4, 7]), (4.0, [7, 11, 2])]


@pytest.mark.parametrize(
    ("symbol", "classes"),
    [
        ("F#m7b5", [6, 9, 0, 4]),
        ("Bbmaj7", [10, 2, 5, 9]),
        ("G/B", [11, 7, 11, 2]),
        ("Dsus4", [2, 7, 9]),
        ("E\u266d9", [3, 7, 10, 1, 5]),
        ("C-", [0, 3, 7]),
        ("A+", [9, 1, 5]),
    ],
)
def test_symbols_are_pitch_classes(symbol, classes):
    assert [pitch % 12 for pitch in chord_pitches(symbol)] == classes


def test_every_name_of_a_chord_begins_at_its_root():
    assert len(STEPS) > 60 and all(steps[0] == 0 and list(steps) == sorted(steps) for steps in STEPS.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the text of chords is empty"),
        ("C | H", "bar 2 has the chord 'H', which is unknown"),
        ("C:5", "bar 1 has 'C:5'; allowed after the colon are beats"),
        ("C:x", "bar 1 has 'C:x'"),
        ("C:3 G:2", "the chords of bar 1 take 5 beats; allowed are 4"),
        ("- | -", "the score has no note"),
    ],
)
def test_bad_chords_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        read_chords(text)


@pytest.mark.parametrize("bpm", [0.0, -3.0, 1e9, float("nan")])
def test_a_tempo_that_music_cannot_have_is_refused(bpm):
    with pytest.raises(ValueError, match="beats per minute"):
        read_chords("C", bpm=bpm)
    with pytest.raises(ValueError, match="beats per minute"):
        read_notes("C", bpm=bpm)


def test_notes_have_octaves_and_beats():
    found = read_notes("E4 f#:1/2 - | Bb3:2, C5+E5:0.5", bpm=60)
    assert [(n.start, n.end, n.pitch) for n in found.voices[0].notes] == [
        (0, 1, 64),
        (1, 1.5, 66),
        (2.5, 4.5, 58),
        (4.5, 5, 72),
        (4.5, 5, 76),
    ]
    assert found.seconds == 5


@pytest.mark.parametrize("text", ["H4", "C4:0", "C4:1/0", "C4:x", "C4:9999", "C44", "C4:" + "9" * 9999, "C4:1/999"])
def test_bad_notes_are_refused(text):
    with pytest.raises(ValueError, match="allowed"):
        read_notes(text)


def test_keys_have_names():
    assert [read_key(name) for name in ("C", "f# min", "Bb major", "a minor", "Am", "AM")] == [
        (0, "major"),
        (6, "minor"),
        (10, "major"),
        (9, "minor"),
        (9, "minor"),
        (9, "major"),
    ]
    assert all(read_key(key_name(tonic, mode)) == (tonic, mode) for tonic in range(12) for mode in ("major", "minor"))
    with pytest.raises(ValueError, match="the key is 'H'; allowed are names such as"):
        read_key("H")
