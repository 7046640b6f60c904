"""Loops are as long as their bars, to the sample, and turn without a seam."""

from __future__ import annotations

import pytest
import torch

from musicgen import GenerationParams, load_model
from musicgen.codec.cyclic import decode_cyclic
from musicgen.editing.loop import LoopLength, loop
from musicgen.editing.seams import loop_listener
from musicgen.generation.request import Request
from musicgen.times import Meter
from tests.conftest import ROOT, golden_model


@pytest.fixture(scope="module")
def nano():
    return load_model(ROOT / "models" / "musicgen-nano")


def request_of(model, **numbers) -> Request:
    params = GenerationParams(1.0, **{"seed": 2, "cfg_coef": 2.0, **numbers})
    return Request(params=params, positive=[model.text_encoder.encode(["rock with drums"])])


@pytest.mark.parametrize(
    ("bars", "bpm", "beats", "frames", "samples"),
    [(4, 120, 4, 400, 256000), (2, 90, 4, 267, 170667), (1, 120, 3, 75, 48000), (2.5, 100, 4, 300, 192000)],
)
def test_bars_at_a_tempo_are_whole_frames_and_exact_samples(bars, bpm, beats, frames, samples):
    length = LoopLength.of(bars, Meter(bpm, beats), frame_rate=50, sample_rate=32000)
    assert (length.frames, length.samples) == (frames, samples)


def test_a_loop_below_a_second_is_refused():
    with pytest.raises(ValueError, match=r"1 bars of 4 at 300 bpm are 0\.8 seconds; allowed"):
        LoopLength.of(1, Meter(300.0), frame_rate=50, sample_rate=32000)


@pytest.mark.parametrize("samples", [None, 60 * 320 + 133, 60 * 320 - 101])
def test_a_loop_turns_as_smoothly_as_it_goes_on(nano, samples):
    codes = torch.randint(0, nano.config.card, (1, nano.num_codebooks, 60), generator=torch.Generator().manual_seed(1))
    once = decode_cyclic(nano.codec, codes, samples)
    assert once.shape[2] == (samples or 60 * nano.codec.config.hop_length)
    # Begun at another place, the loop is the same sound, shifted: no place is an edge.
    if samples is None:
        shifted = decode_cyclic(nano.codec, codes.roll(-20, 2))
        assert torch.allclose(once.roll(-20 * nano.codec.config.hop_length, 2), shifted, atol=2e-4)
    else:
        plain = decode_cyclic(nano.codec, codes)
        assert float(once.pow(2).mean()) == pytest.approx(float(plain.pow(2).mean()), rel=0.05)


def test_a_sine_that_fits_its_loop_is_a_sine_after_resampling():
    from musicgen.codec.cyclic import resized

    turns = 2 * torch.pi * 5 * torch.arange(1000) / 1000
    expected = torch.sin(2 * torch.pi * 5 * torch.arange(1003) / 1003)
    assert torch.allclose(resized(torch.sin(turns)[None, None], 1003)[0, 0], expected, atol=1e-5)


def test_a_length_that_is_not_the_codes_is_refused(nano):
    with pytest.raises(ValueError, match="allowed is within a frame of 19200"):
        decode_cyclic(nano.codec, torch.zeros(1, nano.num_codebooks, 60, dtype=torch.long), 20000)


def test_a_loop_is_the_seed_s_and_its_beginning_follows_its_end_better(nano):
    how = {"candidates": 3, "rounds": 1, "listen": loop_listener(nano.codec)}
    once, again = (loop(nano.lm, nano.config, request_of(nano), 100, 25, **how) for _ in range(2))
    assert once.codes.shape == (1, nano.num_codebooks, 100) and torch.equal(once.codes, again.codes)
    assert once.nats < once.first


def test_a_loop_of_a_piece_keeps_all_but_its_end():
    model = golden_model("hf-text")
    piece = torch.randint(0, model.config.card, (1, model.num_codebooks, 90))
    made = loop(model.lm, model.config, request_of(model), 80, 10, piece=piece, candidates=2, rounds=1)
    assert made.codes.shape[2] == 80 and torch.equal(made.codes[:, :, :70], piece[:, :, :70])


def test_steps_are_counted_over_all_parts():
    model, seen = golden_model("hf-text"), []
    loop(
        model.lm,
        model.config,
        request_of(model),
        60,
        10,
        candidates=2,
        rounds=1,
        on_step=lambda step: seen.append((step.step, step.total)),
    )
    assert [step for step, _ in seen] == list(range(1, len(seen) + 1)) and {total for _, total in seen} == {len(seen)}


def test_a_piece_shorter_than_its_loop_is_refused():
    model = golden_model("hf-text")
    piece = torch.zeros(1, model.num_codebooks, 50, dtype=torch.long)
    with pytest.raises(ValueError, match=r"1 s long, shorter than the loop of 1\.2 s"):
        loop(model.lm, model.config, request_of(model), 60, 10, piece=piece)
