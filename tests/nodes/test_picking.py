"""Items of a batch, picked by number."""

from __future__ import annotations

import pytest
import torch

from .conftest import sound


@pytest.fixture
def batch(encode, sample):
    return sample(encode("jazz"), batch_size=4, seed=10)


@pytest.mark.parametrize(
    ("index", "marked", "items"),
    [
        (1, "", [0]),
        (4, "", [3]),
        (-1, "", [3]),
        (-4, " ", [0]),
        (9, "2", [1]),
        (1, "3, 1", [2, 0]),
        (1, "2-4", [1, 2, 3]),
        (1, "3-1; -1", [2, 1, 0, 3]),
    ],
)
def test_marked_pieces_go_before_the_index(run, batch, index, marked, items):
    audio = sound(0.2, batch=4)
    tokens, picked = run("Pick", index=index, marked=marked, tokens=batch, audio=audio)
    assert torch.equal(tokens["codes"], batch["codes"][items])
    assert torch.equal(picked["waveform"], audio["waveform"][items])


def test_a_picked_piece_carries_the_seed_that_samples_it_alone(run, batch, encode, sample):
    tokens, _ = run("Pick", index=3, tokens=batch, audio=sound(0.1, batch=4))
    assert tokens["seed"] == tokens["recipe"]["seed"] == 12
    assert torch.equal(sample(encode("jazz"), seed=12)["codes"], tokens["codes"])
    assert run("Pick", index=1, marked="3, 1", tokens=batch)[0]["seed"] is None
    assert batch["seed"] == 10


@pytest.mark.parametrize(
    ("index", "marked", "words"),
    [
        (0, "", "piece 0 was picked from a batch of 4; allowed are 1 to 4"),
        (5, "", "piece 5 was picked from a batch of 4"),
        (-5, "", "piece -5 was picked"),
        (1, "2, 7", "piece 7 was picked"),
        (1, "the second", "marked is 'the second'; allowed are numbers"),
        (1, "1,,2", "marked is '1,,2'"),
    ],
)
def test_other_numbers_are_refused(run, batch, index, marked, words):
    with pytest.raises(ValueError, match=words):
        run("Pick", index=index, marked=marked, tokens=batch)


def test_an_output_without_its_input_blocks_what_is_behind_it(run, batch):
    _, audio = run("Pick", index=1, tokens=batch)
    assert type(audio).__name__ == "ExecutionBlocker" and "connect the audio" in audio.message
    with pytest.raises(ValueError, match="nothing to pick from"):
        run("Pick", index=1)
    with pytest.raises(ValueError, match="tokens hold 4 pieces and the audio 2"):
        run("Pick", index=1, tokens=batch, audio=sound(0.1, batch=2))
