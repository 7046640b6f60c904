"""ABC text becomes notes at the right times, and anything else a sentence."""

from __future__ import annotations

import random
import time

import pytest

from musicgen.notation import read_abc

HEAD = "X:1\nM:4/4\nL:1/4\nQ:1/4=60\nK:C\n"

SHEET_SAGE = """X:1
M:4/4
L:1/32
Q:1/4=122
K:G
%%stretchstaff 1
V:Vocal clef=treble
V:Ins clef=treble
%verse
[V:Vocal] z32 | z8 B2 B2 B4- B4 c2 c2 B2 A4 |]
[V:Ins] "G" [G4B4d4] z28 | "Em" [E4G4B4] z28 |]
"""


def notes(text: str, voice: int = 0) -> list[tuple[float, float, int]]:
    """Start, end and pitch of each note, in beats of a second."""
    return [(round(n.start, 4), round(n.end, 4), n.pitch) for n in read_abc(text).voices[voice].notes]


def pitches(text: str) -> list[int]:
    return [pitch for _, _, pitch in notes(HEAD + text)]


def lengths(text: str) -> list[float]:
    return [round(end - start, 3) for start, end, _ in notes(HEAD + text)]


def test_letters_and_octaves_are_pitches():
    assert pitches("C,, C, C c c' c'' B, b") == [36, 48, 60, 72, 84, 96, 59, 83]


def test_lengths_are_factors_of_the_unit():
    assert lengths("C C2 C3/2 C/ C// C/4 C3/4") == [1, 2, 1.5, 0.5, 0.25, 0.25, 0.75]


def test_an_accidental_lasts_to_the_end_of_its_bar():
    assert pitches("^F F f =F F _B B | F B") == [66, 66, 78, 65, 65, 70, 70, 65, 71]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("G", [60, 62, 64, 66, 67, 69, 71]),
        ("Eb", [60, 62, 63, 65, 67, 68, 70]),
        ("F#m", [61, 62, 64, 66, 68, 69, 71]),
        ("D dor", [60, 62, 64, 65, 67, 69, 71]),
        ("A Mix", [61, 62, 64, 66, 67, 69, 71]),
        ("none", [60, 62, 64, 65, 67, 69, 71]),
        ("D exp _b ^f", [60, 62, 64, 66, 67, 69, 70]),
        ("C transpose=2", [62, 64, 66, 67, 69, 71, 73]),
    ],
)
def test_keys_and_modes_give_their_sharps_and_flats(key, expected):
    assert [pitch for _, _, pitch in notes(f"X:1\nL:1/4\nK:{key}\nCDEFGAB")] == expected


def test_ties_join_notes_and_keep_accidentals_over_the_bar():
    assert notes(HEAD + "^C2-|C2 C | [CE]-[CG]") == [
        (0, 4, 61),
        (4, 5, 60),
        (5, 7, 60),
        (5, 6, 64),
        (6, 7, 67),
    ]


def test_tuplets_and_broken_rhythm_change_lengths():
    assert lengths("(3CDE C") == [0.667, 0.667, 0.667, 1]
    assert lengths("(5:4:5CDEFG") == [0.8] * 5
    assert lengths("C>D E<F G>>A") == [1.5, 0.5, 0.5, 1.5, 1.75, 0.25]


def test_rests_take_time_and_a_rest_of_bars_takes_whole_bars():
    assert notes(HEAD + "C z C x2 C | Z2 | C") == [(0, 1, 60), (2, 3, 60), (5, 6, 60), (14, 15, 60)]


def test_repeats_and_endings_are_played():
    assert pitches("|: C D :| E") == [60, 62, 60, 62, 64]
    assert pitches("|: C |1 D :|2 E |] F") == [60, 62, 60, 64, 65]
    assert pitches("|: C |1 D :|2 E :|3 F |]") == [60, 62, 60, 64, 60, 65]
    assert pitches("C :: D :| E") == [60, 60, 62, 62, 64]
    assert pitches("C |[1 D :|[2 E || F |[1 G :|[2 A |]") == [60, 62, 60, 64, 65, 67, 65, 69]


def test_the_tempo_may_change_in_the_middle():
    assert notes(HEAD + "C C [Q:1/4=120] C C") == [(0, 1, 60), (1, 2, 60), (2, 2.5, 60), (2.5, 3, 60)]
    assert read_abc("X:1\nQ:3/8=80\nM:6/8\nL:1/8\nK:C\nCDEFGA").seconds == pytest.approx(1.5)


def test_a_given_tempo_takes_the_place_of_the_own_one():
    score = read_abc(HEAD + "C C [Q:1/4=120] C C", bpm=120)
    assert score.bpm == 120 and [note.start for note in score.voices[0].notes] == [0, 0.5, 1, 1.25]


def test_everything_without_pitch_or_time_is_passed_over():
    text = '!f!C "^slowly"D {ge}E ~F .G (AB) vc ud `y\n% words\nw: la la\nT:more\nC |'
    assert pitches(text) == [60, 62, 64, 65, 67, 69, 71, 72, 74, 60]


def test_the_transcription_of_a_song_has_its_voices_and_chords():
    score = read_abc(SHEET_SAGE)
    assert [(voice.name, len(voice.notes)) for voice in score.voices] == [("Vocal", 7), ("Ins", 6)]
    assert (score.bpm, score.key) == (122, (7, "major"))
    bar = 4 * 60 / 122
    assert score.seconds == pytest.approx(2 * bar)
    assert [(round(n.start / bar, 3), n.pitch) for n in score.chords.notes if n.pitch < 56] == [
        (0, 55),
        (1, 52),
        (1, 55),
    ]


def test_voices_in_blocks_run_side_by_side():
    text = HEAD + "V:1\nCDEF|\nV:2\nG,4|\nV:1\nGABc|\nV:2\nC,4|\n"
    assert [n[0] for n in notes(text)] == list(range(8))
    assert notes(text, 1) == [(0, 4, 55), (4, 8, 48)]


def test_notes_alone_are_a_tune_in_c():
    assert [note.pitch for note in read_abc("CDEF|").voices[0].notes] == [60, 62, 64, 65]


def test_only_the_first_tune_counts():
    assert pitches("C D\n\nX:2\nK:C\nE F") == [60, 62]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" \n", "the ABC text is empty"),
        (HEAD + "z4 |", "the score has no note"),
        (HEAD + "C D\n? E", r"line 7 of the ABC text cannot be read: '\? E' is no music"),
        (HEAD + "C0", "a note has the length 0"),
        (HEAD + "C/0", "a note has the length /0"),
        ("X:1\nM:4\nK:C\nC", "line 2 of the ABC text cannot be read: M:4; allowed are metres"),
        ("X:1\nK:Q\nC", "K:Q; allowed are keys"),
        ("X:1\nL:1/0\nK:C\nC", "L:1/0; allowed are lengths"),
        ("X:1\nQ:0\nK:C\nC", "the tempo is 0 beats per minute"),
        (HEAD + "c''''''", "outside of MIDI's 128 pitches"),
        (HEAD + "Z1000|" * 40 + "C", r"the score lasts \d+ seconds; allowed are 3600"),
        (HEAD + "|:" * 9 + "CDEF" * 3000 + "::" * 9 + ":|", "more than 50000 notes|is no music"),
        ("C" * 200_001, "the ABC text has 200001 characters"),
    ],
)
def test_texts_that_are_no_tune_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        read_abc(text)


def test_any_text_is_read_or_refused_in_a_sentence():
    rng = random.Random(7)
    signs = [*"CDEFGABcdz^_=',/23[]|:()<>-\"!{}&KLMQV \n%1", "[K:", "|:", ":|", "[1", "(3", "V:2\n", "Q:1/4="]
    for _ in range(3000):
        text = "X:1\nK:C\n" + "".join(rng.choice(signs) for _ in range(rng.randrange(1, 60)))
        try:
            assert read_abc(text).num_notes > 0
        except ValueError as error:
            assert str(error).endswith(".")


@pytest.mark.parametrize(
    "music",
    [
        "C" + "/" * 100_000 + "D" * 90_000,
        " ".join(f"C1/{n}" for n in range(1, 513)) * 10,
        "C>" + " >" * 50_000 + "D",
        "(3:" + "9" * 100_000 + ":CDE",
        "C" + "/1" * 90_000,
        '"' * 100_001,
        "{" * 100_000,
        "[" * 100_000,
        "V:" + "\nV:".join(map(str, range(20_000))),
    ],
)
def test_long_and_strange_texts_take_no_time(music):
    began = time.thread_time()
    try:
        read_abc(HEAD + music)
    except ValueError as error:
        assert len(str(error)) < 300
    assert time.thread_time() - began < 10


def test_repeats_without_notes_end():
    with pytest.raises(ValueError, match="no note|signs"):
        read_abc("X:1\nK:C\n" + "|::::::|" * 20_000)
