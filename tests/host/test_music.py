"""The saved files are music: what was asked for can be heard in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musicgen.evaluation import chroma_similarity, is_clipped, is_silent, pulse_strength
from tests.nano.test_nano import tune

RATE = 16000
BAND = "rock song with guitar lead, bass guitar and rock drums, 125 bpm, in a minor"
ALONE = "classical piece with a flute melody, without bass, no drums, 107 bpm, in c major"
DRUMS = {BAND: True, ALONE: False}


def play(host, name: str, **inputs) -> torch.Tensor:
    """Four pieces of 6 s that a workflow saves: `[4, L]`."""
    prompt = host.workflow(name, duration=6.0, batch_size=4, **inputs)
    pieces = host.play_batch(prompt)
    assert all(rate == RATE and piece.shape == (1, 6 * RATE) for piece, rate in pieces)
    audio = torch.from_numpy(np.concatenate([piece for piece, _ in pieces]))
    assert not is_silent(audio).any() and not is_clipped(audio).any()
    return audio


def test_drums_play_where_they_are_asked_for_and_not_where_not(host):
    outside = pytest.importorskip("nano.outside")
    pytest.importorskip("librosa")
    shares = {}
    for text, drums in DRUMS.items():
        audio = play(host, "text_to_music", text=text)
        shares[drums] = np.median([outside.percussive_shares(piece, RATE) for piece in outside.rows(audio)])
        if drums:
            assert float(pulse_strength(audio, RATE).median()) > 0.4
    assert shares[True] > 2 * shares[False]


def test_the_piece_follows_the_melody_that_was_recorded_and_no_other(host):
    given, other = tune("Frere Jacques"), tune("Joy to the World")
    host.record("tune.wav", given[0].numpy(), RATE)
    audio = play(host, "melody_to_music", audio="tune.wav", text=BAND)
    right, wrong = (chroma_similarity(audio, each.expand(4, -1), RATE).mean() for each in (given, other))
    assert right > wrong + 0.1
