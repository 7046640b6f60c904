"""The saved files are music: what was asked for can be heard in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musicgen.evaluation import chroma_similarity, is_clipped, is_silent, pulse_strength
from nano.corpus.songs import make_songs, split_seeds
from nano.probes import clip_statistics, load_probe

RATE = 16000
BAND = "rock song with guitar lead, bass guitar and rock drums, 125 bpm, in a minor"
ALONE = "classical piece with a flute melody, without bass, no drums, 107 bpm, in c major"
HEARD = {BAND: (True, True), ALONE: (False, False)}


def play(host, name: str, **inputs) -> torch.Tensor:
    """Four pieces of 6 s that a workflow saves: `[4, L]`."""
    prompt = host.workflow(name, duration=6.0, batch_size=4, **inputs)
    pieces = host.play_batch(prompt)
    assert all(rate == RATE and piece.shape == (1, 6 * RATE) for piece, rate in pieces)
    audio = torch.from_numpy(np.concatenate([piece for piece, _ in pieces]))
    assert not is_silent(audio).any() and not is_clipped(audio).any()
    return audio


@pytest.mark.parametrize("text", HEARD, ids=["band", "alone"])
def test_drums_and_bass_play_where_they_are_asked_for_and_not_where_not(host, text):
    audio = play(host, "text_to_music", text=text)
    answers = load_probe().answers(clip_statistics(audio, RATE))
    drums, bass = HEARD[text]
    assert answers["drums"].count(drums) >= 3 and answers["bass"].count(bass) >= 3
    if drums:
        assert float(pulse_strength(audio, RATE).median()) > 0.4


def test_the_piece_follows_the_melody_that_was_recorded_and_no_other(host):
    songs = list(make_songs(split_seeds("test", 2), 6.0))
    host.record("tune.wav", songs[0].melody, RATE)
    audio = play(host, "melody_to_music", audio="tune.wav", text=BAND)
    right, wrong = (
        chroma_similarity(audio, torch.from_numpy(song.melody).expand(4, -1), RATE).mean() for song in songs
    )
    assert right > 0.6 and right > wrong + 0.2
