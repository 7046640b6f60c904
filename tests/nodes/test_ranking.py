"""MusicGen Rank: a sorted batch, its picture and its figures."""

from __future__ import annotations

import pytest
import torch

from tests.musicgen.evaluation.small import write_clap

from .conftest import sound


@pytest.fixture
def rank(run, comfy, tmp_path, monkeypatch):
    monkeypatch.setattr(comfy.folder_paths, "temp_directory", str(tmp_path))
    return lambda **inputs: run("Rank", **({"keep": 0} | inputs))


def test_the_piece_that_follows_the_melody_comes_first(rank, run):
    audio = sound(2.0, batch=3)
    second = {**audio, "waveform": audio["waveform"][1:2]}
    melody, _ = run("MelodyChroma", audio=second)
    tokens, ranked, picture, scores, figures = rank(audio=audio, melody=melody)
    assert torch.equal(ranked["waveform"][0], audio["waveform"][1]) and ranked["sample_rate"] == 32000
    assert len(scores) == 3 and scores[0] == 1.0 and scores == sorted(scores, reverse=True)
    assert figures.splitlines()[0].startswith("1. piece 2: 1.000: melody 1.000")
    assert picture.shape[0] == 1 and picture.shape[3] == 3 and len(picture.reshape(-1, 3).unique(dim=0)) > 20
    assert type(tokens).__name__ == "ExecutionBlocker"


def test_tokens_are_sorted_alike_and_their_description_asks(rank, encode, sample):
    batch = sample(encode("jazz at 120 bpm in a minor"), batch_size=3, seed=10)
    audio = sound(3.0, batch=3)
    audio["waveform"][0] = 0
    tokens, ranked, _, scores, figures = rank(audio=audio, tokens=batch, keep=2)
    assert ranked["waveform"].shape[0] == 2 and len(scores) == 2
    order = [int(line.split()[2].rstrip(":")) - 1 for line in figures.splitlines()[:3]]
    assert torch.equal(tokens["codes"], batch["codes"][order[:2]])
    assert torch.equal(ranked["waveform"], audio["waveform"][order[:2]])
    assert order[-1] == 0 and "last: silent for 3.0 of 3.0 s" in figures
    assert "tempo" in figures and "key" in figures
    figures = rank(audio=audio, tokens=batch, caption="waltz", key="C major")[4]
    assert "tempo" not in figures and "key" in figures


def test_clap_counts_where_its_weights_are(rank, comfy, monkeypatch, tmp_path):
    audio = sound(1.0, batch=2)
    figures = rank(audio=audio, caption="a flute")[4]
    assert "no CLAP score: clap needs weights" in figures and "nothing that can be measured" in figures
    write_clap(tmp_path / "clap")
    monkeypatch.setitem(
        comfy.folder_paths.folder_names_and_paths, "audio_encoders", ([str(tmp_path)], {".safetensors"})
    )
    figures = rank(audio=audio, caption="a flute")[4]
    assert figures.count("CLAP 0.") + figures.count("CLAP 1.") == 2


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"audio": None}, "the audio is None"),
        ({"bpm": 10.0}, "bpm is 10; allowed are 30 to 300"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(rank, inputs, words):
    with pytest.raises(ValueError, match=words):
        rank(**({"audio": sound(1.0)} | inputs))


def test_tokens_of_another_batch_are_refused(rank, encode, sample):
    with pytest.raises(ValueError, match="2 items of codes came with 3 pieces of sound"):
        rank(audio=sound(1.0, batch=3), tokens=sample(encode("jazz"), batch_size=2))
