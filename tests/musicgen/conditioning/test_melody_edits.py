"""Edits of melodies are exact on the chroma."""

from __future__ import annotations

import pytest
import torch

from musicgen.conditioning import melody_edits as edits
from musicgen.conditioning.melody import RecordedMelody, extract_melody, null_chroma
from musicgen.conditioning.written_melody import WrittenMelody
from musicgen.config import RELEASED_CHROMA, ChromaConfig

HOP = RELEASED_CHROMA.hop_length / RELEASED_CHROMA.sample_rate
NANO = ChromaConfig(16000, n_fft=4096, hop_length=1024, num_chroma=12, chroma_length=157)


def melody_of(*classes: int) -> RecordedMelody:
    """A melody with one pitch class for each frame, as a recording whose last frame ends with the waveform."""
    chroma = torch.eye(12)[list(classes)]
    return RecordedMelody(chroma, torch.zeros(len(classes) * RELEASED_CHROMA.hop_length), RELEASED_CHROMA)


def notes(melody) -> list[int]:
    return melody.chroma.argmax(dim=1).tolist()


TUNE = melody_of(0, 2, 4, 5, 7, 9, 11, 0)


def test_without_an_edit_the_frames_are_those_of_the_recording():
    assert torch.equal(WrittenMelody(TUNE.tune).chroma, TUNE.chroma)
    assert torch.equal(edits.repeat(TUNE, 1).chroma, TUNE.chroma)


@pytest.mark.parametrize("semitones", [-13, -1, 0, 3, 12])
def test_transposing_rolls_every_frame(semitones):
    moved = edits.transpose(TUNE, semitones)
    assert torch.equal(moved.chroma, TUNE.chroma.roll(semitones, 1))
    assert torch.equal(edits.transpose(moved, -semitones).chroma, TUNE.chroma)


def test_stretching_takes_the_frame_at_the_time_before():
    slow = edits.stretch(TUNE, 2.0)
    assert slow.tune.seconds == 2 * TUNE.seconds and len(slow.chroma) == 16
    assert notes(slow)[::2] == notes(TUNE)
    assert torch.equal(edits.stretch(slow, 0.5).chroma, TUNE.chroma)
    assert notes(edits.stretch(TUNE, 0.5)) == notes(TUNE)[::2]


def test_a_silent_range_is_the_null_chroma_and_nothing_else_changes():
    quiet = edits.silence(TUNE, 2 * HOP, 4 * HOP).chroma
    assert torch.equal(quiet[2:4], null_chroma(RELEASED_CHROMA)[:2])
    assert torch.equal(quiet[:2], TUNE.chroma[:2]) and torch.equal(quiet[4:], TUNE.chroma[4:])


def test_silence_of_an_edit_stays_silent_when_it_is_transposed():
    quiet = edits.transpose(edits.silence(TUNE, 2 * HOP, 4 * HOP), 5).chroma
    assert torch.equal(quiet[2:4], null_chroma(RELEASED_CHROMA)[:2])
    assert torch.equal(quiet[4:], TUNE.chroma[4:].roll(5, 1))


def test_parts_are_cut_repeated_and_joined():
    part = edits.cut(TUNE, 2 * HOP, 5 * HOP)
    assert notes(part) == [4, 5, 7] and part.tune.seconds == pytest.approx(3 * HOP)
    assert notes(edits.repeat(part, 3)) == [4, 5, 7] * 3
    assert notes(edits.join(part, melody_of(9, 10), part)) == [4, 5, 7, 9, 10, 4, 5, 7]


def test_mixing_blends_frames_and_one_end_is_each_melody_alone():
    other = melody_of(11)
    assert torch.equal(edits.mix(TUNE, other, 0.0).chroma, TUNE.chroma)
    assert notes(edits.mix(TUNE, other, 1.0)) == [11] * 8
    half = edits.mix(TUNE, other, 0.25, 0.0, 2 * HOP).chroma
    assert half[1].tolist() == [0, 0, 0.75, 0, 0, 0, 0, 0, 0, 0, 0, 0.25]
    assert torch.equal(half[2:], TUNE.chroma[2:])


def test_where_one_of_two_mixed_melodies_is_silent_the_other_one_is_heard():
    mixed = edits.mix(edits.silence(TUNE, 0, 2 * HOP), melody_of(11), 0.5).chroma
    assert mixed[:2].argmax(1).tolist() == [11, 11] and mixed[:2].max() == 1
    assert mixed[3, 5] == mixed[3, 11] == 0.5


def test_an_edited_melody_repeats_in_time_and_not_in_whole_frames():
    """2.5 frames, repeated: no frame is lost at the seams however long the piece is."""
    melody = edits.cut(melody_of(0, 2, 4, 5), 0.0, 2.5 * HOP)
    frames = melody.fitted(10).argmax(1).tolist()
    assert frames[:3] == [0, 2, 4] and frames[5:8] == [0, 2, 4]
    # A window of a long piece is a part of the same row of frames.
    later = melody.window(5 * RELEASED_CHROMA.hop_length, 0, 5)
    assert later.argmax(1).tolist() == frames[5:]


def test_another_model_gets_the_same_edit_in_its_own_frames():
    rate = 32000
    time = torch.arange(4 * rate) / rate
    sound = torch.where(time < 2, torch.sin(2 * torch.pi * 440 * time), torch.sin(2 * torch.pi * 523.25 * time))
    moved = edits.transpose(extract_melody(sound, rate), 2).for_config(NANO)
    assert moved.config == NANO and len(moved.chroma) == 63
    assert moved.chroma[4:28].argmax(1).unique().tolist() == [11]
    assert moved.chroma[35:58].argmax(1).unique().tolist() == [2]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda: edits.stretch(TUNE, 0.0), "stretch is 0; allowed is a number above 0"),
        (lambda: edits.stretch(TUNE, 1e6), "seconds long; allowed are 3600"),
        (lambda: edits.silence(TUNE, 2.0, 3.0), r"the range is 2 to 3 s of a melody of 1\.024 s"),
        (lambda: edits.cut(TUNE, 0.5, 0.5), "allowed is a start before the end"),
        (lambda: edits.repeat(TUNE, 0), "repeat is 0; allowed is a whole number from 1 on"),
        (lambda: edits.repeat(TUNE, 10**6), "repeat or stretch less"),
        (lambda: edits.mix(TUNE, TUNE, 1.5), "mix is 1.5; allowed is 0"),
    ],
)
def test_edits_that_make_no_melody_are_refused(edit, words):
    with pytest.raises(ValueError, match=words):
        edit()
