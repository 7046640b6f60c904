"""A score leads with exactly its pitch classes, and chroma becomes notes again."""

from __future__ import annotations

import pytest
import torch

from musicgen.conditioning.melody import null_chroma
from musicgen.conditioning.melody_edits import join, repeat, stretch, transpose
from musicgen.conditioning.score_tune import ScoreTune, chroma_notes
from musicgen.conditioning.written_melody import WrittenMelody
from musicgen.config import RELEASED_CHROMA, ChromaConfig
from musicgen.notation import Note, Score, Voice, read_abc, read_chords, read_notes

TENTHS = ChromaConfig(1000, n_fft=400, hop_length=100, num_chroma=12, chroma_length=40)


def classes(score: Score, **options) -> list[int]:
    """The pitch class of each tenth of a second; -1 where a frame is the null chroma or not one-hot."""
    tune = ScoreTune(score, **options)
    rows = tune.rows(torch.arange(round(score.seconds * 10), dtype=torch.float64) / 10, TENTHS)
    return [int(row.argmax()) if row.sum() == 1 else -1 for row in rows]


def test_each_frame_is_the_pitch_class_at_its_centre():
    score = read_notes("C4 D5 F#3 B4", bpm=120)
    assert classes(score) == [0] * 5 + [2] * 5 + [6] * 5 + [11] * 5
    chroma = WrittenMelody(ScoreTune(score), TENTHS).chroma
    assert chroma.shape == (20, 12) and torch.equal(chroma.sum(1), torch.ones(20))
    assert set(chroma.unique().tolist()) == {0.0, 1.0}


def test_a_score_repeats_in_time_however_long_the_piece_is():
    """A bar of 2 s is no whole number of the released models' frames, and the hundredth repeat still begins on time."""
    melody = WrittenMelody(ScoreTune(read_notes("C D E F", bpm=120)))
    later = melody.window(200 * 32000, 0, 16).argmax(1).tolist()
    assert later == melody.fitted(16).argmax(1).tolist()
    assert later[0] == 0 and later[15] == 5


def test_a_rest_holds_the_note_before_or_is_silent():
    score = read_notes("E - G -", bpm=120)
    assert classes(score) == [4] * 10 + [7] * 10
    assert classes(score, hold=False) == [4] * 5 + [-1] * 5 + [7] * 5 + [-1] * 5
    chroma = WrittenMelody(ScoreTune(score, hold=False), TENTHS).chroma
    assert torch.equal(chroma[5:10], null_chroma(TENTHS)[:5])


def test_of_several_notes_one_or_all_count():
    score = read_notes("C4+E4+G4:2", bpm=60)
    assert classes(score) == [7] * 20
    assert classes(score, taken="lowest") == [0] * 20
    assert classes(score, taken="in turn") == [0] * 5 + [4] * 5 + [7] * 5 + [0] * 5
    rows = ScoreTune(score, taken="all").rows(torch.zeros(1, dtype=torch.float64), TENTHS)
    assert rows[0].nonzero()[:, 0].tolist() == [0, 4, 7]


def test_chords_lead_by_their_roots_or_in_turn():
    score = read_chords("C | Am", bpm=240)
    assert classes(score, part="chords", taken="lowest") == [0] * 10 + [9] * 10
    turns = classes(score, part="chords", taken="in turn")
    assert turns[:4] == [0, 0, 4, 7] and turns[10:14] == [9, 9, 0, 4]


def test_a_ranked_voice_sounds_while_those_before_it_rest():
    text = "X:1\nL:1/4\nQ:1/4=120\nK:C\nV:1\nC z C z|\nV:2\nG G G G|\n"
    assert classes(read_abc(text)) == ([0] * 5 + [7] * 5) * 2
    assert classes(read_abc(text), voice=2) == [7] * 20
    low, high = Voice("low", (Note(0, 2, 48),)), Voice("high", (Note(0.5, 1, 76),))
    assert classes(Score((low, high), 2.0, 120, ranked=False)) == [0] * 5 + [4] * 5 + [0] * 10


def test_edits_of_a_score_are_exact():
    melody = WrittenMelody(ScoreTune(read_notes("E - G A", bpm=120), hold=False), TENTHS)
    up = transpose(melody, 3).chroma
    assert torch.equal(up[:5], melody.chroma[:5].roll(3, 1))
    assert torch.equal(up[5:10], null_chroma(TENTHS)[:5])  # a rest stays a rest
    assert torch.equal(stretch(melody, 2).chroma[::2], melody.chroma)
    assert torch.equal(join(melody, melody).chroma, repeat(melody, 2).chroma)


@pytest.mark.parametrize(
    ("score", "options", "words"),
    [
        (read_notes("C"), {"part": "chords"}, "no chord symbols"),
        (read_chords("C"), {}, "chords and no melody"),
        (read_notes("C"), {"voice": 2}, "voice is 2; allowed are 0 for all voices, 1 notes"),
    ],
)
def test_parts_that_a_score_does_not_have_are_refused(score, options, words):
    with pytest.raises(ValueError, match=words):
        ScoreTune(score, **options)


def test_a_chroma_of_another_size_is_refused():
    config = ChromaConfig(1000, n_fft=400, hop_length=100, num_chroma=24, chroma_length=40)
    with pytest.raises(ValueError, match="24 pitch classes and a score 12"):
        WrittenMelody(ScoreTune(read_notes("C")), config).fitted(3)


def test_chroma_becomes_the_notes_of_the_score_again():
    melody = WrittenMelody(ScoreTune(read_notes("C4 C5 E4:2 B3", bpm=120)))
    hop = RELEASED_CHROMA.hop_length / RELEASED_CHROMA.sample_rate
    found = chroma_notes(melody)
    assert [note.pitch for note in found] == [60, 64, 71]
    for note, start, end in zip(found, (0.0, 1.0, 2.0), (1.0, 2.0, 2.5), strict=True):
        assert note.start == pytest.approx(start, abs=hop / 2 + 1e-6)
        assert note.end == pytest.approx(end, abs=hop / 2 + 1e-6)


def test_notes_that_sound_at_once_become_notes_at_once():
    melody = WrittenMelody(ScoreTune(read_chords("C | G", bpm=240), part="chords", taken="all"))
    assert sorted({(round(n.start), n.pitch) for n in chroma_notes(melody)}) == [
        (0, 60),
        (0, 64),
        (0, 67),
        (1, 62),
        (1, 71),
    ]


def test_a_written_melody_leads_the_model_as_the_request_does(checkpoint_copy):
    from musicgen import GenerationParams, load_model

    model = load_model(checkpoint_copy("hf-melody"))
    params = GenerationParams(duration=0.4, seed=3)
    led, other = (WrittenMelody(ScoreTune(read_notes(text))) for text in ("C D", "F# G#"))
    pieces = model.generate(["jazz", "jazz"], params, melody=[led, other])
    assert torch.equal(pieces[:1], model.generate(["jazz"], params, melody=led))
    assert not torch.equal(pieces[0], pieces[1])
