"""Pieces in the order of how well they do what was asked, on sounds whose tempo, key and faults are known."""

from __future__ import annotations

import pytest
import torch

from musicgen.conditioning.melody import extract_melody
from musicgen.evaluation import Asked, key_asked, longest_repetition, parse_key, rank_batch, tempo_asked
from musicgen.evaluation.batch import Sounds

RATE = 16000
NOTES = {"C": 261.63, "D": 293.66, "E": 329.63, "F": 349.23, "G": 392.0, "A": 440.0, "B": 493.88, "F#": 369.99}


def tune(bpm: float, notes: str, seconds: float = 8.0) -> torch.Tensor:
    """A mono wave `[L]`: one struck note a beat."""
    time = torch.arange(int(seconds * RATE)) / RATE
    beat = 60.0 / bpm
    number, since = (time / beat).long(), time % beat
    names = notes.split()
    hertz = torch.tensor([NOTES[name] for name in names])[number % len(names)]
    return 0.5 * torch.sin(2 * torch.pi * hertz * since) * torch.exp(-6 * since)


@pytest.fixture(scope="module")
def batch() -> Sounds:
    """A tune in C major at 100, the same at 130, one in D major at 100, and silence."""
    c_major, d_major = "C E G C F A G C", "D F# A D G B A D"
    waves = [tune(130, c_major), tune(100, c_major), tune(100, d_major), torch.zeros(8 * RATE)]
    return Sounds(torch.stack(waves)[:, None], RATE)


@pytest.mark.parametrize(
    ("asked", "best", "worst"),
    [
        (Asked(bpm=100, key=(0, "major")), 1, 3),
        (Asked(bpm=130), 0, 3),
        (Asked(bpm=100, key=(2, "major")), 2, 3),
        (Asked(key=parse_key("D major")), 2, 3),
    ],
)
def test_the_piece_that_does_what_was_asked_comes_first_and_silence_last(batch, asked, best, worst):
    ranked = rank_batch(batch, asked)
    assert ranked.order[0] == best and ranked.order[-1] == worst
    assert ranked.scores[best] > 0.75 and ranked.scores[worst] == 0
    assert ranked.faults[:3] == ("", "", "") and ranked.faults[3] == "silent for 8.0 of 8.0 s"


def test_a_score_is_the_same_alone_and_in_a_batch(batch):
    asked = Asked(bpm=100, key=(0, "major"))
    together = rank_batch(batch, asked)
    for item in range(4):
        alone = rank_batch(Sounds(batch.audio[item : item + 1], RATE), asked)
        assert alone.scores[0] == pytest.approx(together.scores[item], abs=1e-6)


def test_a_melody_is_followed_best_by_itself(batch):
    melody = extract_melody(batch.audio[2], RATE)
    ranked = rank_batch(batch, Asked(melodies=[melody]))
    assert ranked.order[0] == 2 and ranked.parts["melody"][2] == 1.0
    assert max(ranked.parts["melody"][:2]) < 0.5


def test_stuck_and_clipped_pieces_come_last(batch):
    codes = torch.randint(0, 64, (3, 4, 400), generator=torch.Generator().manual_seed(0))
    codes[1, :, 100:220] = codes[1, :, 100:110].repeat(1, 12)  # ten frames, twelve times: 2.4 s
    audio = batch.audio[:3].clone()
    audio[0] = 3 * audio[0]
    ranked = rank_batch(Sounds(audio, RATE), Asked(), codes=codes)
    assert ranked.order == (2, 0, 1) and ranked.scores == (0.0, 0.0, 1.0)
    assert "at full scale or beyond" in ranked.faults[0]
    assert ranked.faults[1] == "the same codes again and again for 2.4 s"
    assert "nothing that can be measured was asked" in ranked.text()


def test_repetition_is_counted_with_its_first_time():
    codes = torch.arange(12).repeat(2, 1)
    assert longest_repetition(codes, 5) == 0
    codes[:, 4:] = 4
    assert longest_repetition(codes, 5) == 8
    assert longest_repetition(codes[:, :1], 5) == 0


@pytest.mark.parametrize(
    ("text", "bpm", "key"),
    [
        ("moody lofi, 83 bpm, in a minor", 83.0, (9, "minor")),
        ("bpm: 125, key: d major", 125.0, (2, "major")),
        ("Tempo of 92.5, F# minor", 92.5, (6, "minor")),
        ("E flat major, 120-bpm", 120.0, (3, "major")),
        ("Bb minor house at 124 beats per minute", 124.0, (10, "minor")),
        ("rock in Em", None, (4, "minor")),
        ("a minimal song of the 90s", None, None),
        ("big band, 1950s, B-side", None, None),
        ("", None, None),
    ],
)
def test_tempo_and_key_are_read_from_descriptions(text, bpm, key):
    assert tempo_asked(text) == bpm and key_asked(text) == key


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"asked": lambda: Asked(bpm=2)}, "bpm is 2; allowed are 30 to 300"),
        ({"asked": lambda: Asked(melodies=[None, None])}, "2 melodies came with 4 pieces; allowed are 1 or 4"),
        ({"codes": torch.zeros(2, 4, 9, dtype=torch.int64)}, "2 items of codes came with 4 pieces"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(batch, inputs, words):
    asked = inputs.pop("asked", Asked)
    with pytest.raises(ValueError, match=words):
        rank_batch(batch, asked(), **inputs)


def test_a_key_that_is_none_is_refused():
    with pytest.raises(ValueError, match="key is 'H dur'; allowed are names such as C major"):
        parse_key("H dur")
