"""A section is sampled anew between the music before and behind it; all else stays bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from musicgen import GenerationParams, load_model
from musicgen.editing.fill import before, fill, fill_steps, primed_frames
from musicgen.editing.seams import section_listener
from musicgen.evaluation.likelihood import likelihood
from musicgen.generation.following import following_nats
from musicgen.generation.generate import generate
from musicgen.generation.patterns import PATTERN_NAMES
from musicgen.generation.request import Request
from tests.conftest import PROMPTS, ROOT, golden_model


def request_of(model, known: Tensor, **numbers) -> Request:
    params = GenerationParams(known.shape[2] / model.frame_rate, **{"seed": 3, **numbers})
    return Request(params=params, positive=[model.text_encoder.encode([PROMPTS[0]])], known=known)


def with_gap(model, first: int, stop: int, frames: int = 60, kept: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    known = torch.randint(0, model.config.card, (1, model.num_codebooks, frames), generator=generator)
    known[:, kept:, first:stop] = -1
    return known


@pytest.fixture(scope="module")
def model():
    return golden_model("hf-text")


@pytest.fixture(scope="module")
def nano():
    return load_model(ROOT / "models" / "musicgen-nano")


@pytest.mark.parametrize("pattern", PATTERN_NAMES)
def test_codes_outside_the_section_stay_under_every_pattern(model, pattern):
    known = with_gap(model, 20, 32)
    asked = request_of(model, known, pattern=pattern)
    filled = fill(model.lm, model.config, asked, candidates=2, rounds=1)
    assert torch.equal(filled.codes[known >= 0], known[known >= 0]) and int(filled.codes.min()) >= 0
    assert filled.nats <= filled.first


def test_one_candidate_is_plain_sampling(model):
    asked = request_of(model, with_gap(model, 20, 32))
    filled = fill(model.lm, model.config, asked, candidates=1)
    assert torch.equal(filled.codes, generate(model.lm, model.config, asked)) and filled.nats == filled.first


def test_the_first_candidate_is_plain_sampling_and_the_choice_is_the_seed_s(model):
    asked = request_of(model, with_gap(model, 20, 32))
    once, again = (fill(model.lm, model.config, asked, candidates=3, rounds=2) for _ in range(2))
    assert torch.equal(once.codes, again.codes) and once.nats == again.nats
    assert once.first == fill(model.lm, model.config, asked, candidates=1).first
    other = fill(model.lm, model.config, request_of(model, asked.known, seed=4), candidates=3, rounds=2)
    assert not torch.equal(once.codes, other.codes)


def test_lower_codebooks_are_kept_where_the_upper_ones_are_sampled_anew(model):
    known = with_gap(model, 0, 60, kept=2)
    filled = fill(model.lm, model.config, request_of(model, known))
    assert torch.equal(filled.codes[:, :2], known[:, :2]) and filled.nats is None


def test_steps_are_counted_over_all_rounds(model):
    asked, seen = request_of(model, with_gap(model, 20, 32)), []
    fill(
        model.lm, model.config, asked, candidates=2, rounds=2, on_step=lambda step: seen.append((step.step, step.total))
    )
    total = fill_steps(model.config, asked, 2, 2)
    assert seen == [(number + 1, total) for number in range(total)]


def test_a_section_of_a_piece_beyond_the_window_is_sampled_anew(model):
    known = with_gap(model, 100, 140, frames=200)
    asked = request_of(model, known, window=1.0, extend_stride=0.6)
    filled = fill(model.lm, model.config, asked, candidates=2, rounds=1)
    assert torch.equal(filled.codes[known >= 0], known[known >= 0]) and filled.nats <= filled.first


@pytest.mark.parametrize("pattern", [None, "flatten", "coarse_first"])
def test_how_well_codes_follow_is_the_likelihood_of_the_whole_piece_for_its_whole_length(model, pattern):
    codes = with_gap(model, 0, 0, frames=30)
    known = codes.clone()
    known[:, :, 0] = -1
    asked = request_of(model, known, pattern=pattern, cfg_coef=3.0)
    found = following_nats(model.lm, model.config, asked, codes, 0, 30)
    expected = likelihood(model, codes, [PROMPTS[0]], pattern=pattern).nats.mean()
    assert float(found[0]) == pytest.approx(float(expected), abs=1e-4)


def test_on_real_music_the_choice_fits_better_and_the_seam_is_heard(nano):
    params = GenerationParams(4.0, cfg_coef=2.0, seed=3)
    piece = nano.generate(["rock with drums and guitar"], params)
    known = piece.clone()
    known[:, :, 70:110] = -1
    asked = Request(params=params, positive=[nano.text_encoder.encode(["rock with drums and guitar"])], known=known)
    heard = []

    def listen(codes: Tensor) -> list[float]:
        heard.extend(section_listener(nano.codec, 70, 110)(codes))
        return heard

    filled = fill(nano.lm, nano.config, asked, candidates=4, rounds=1, listen=listen)
    assert 1 <= len(heard) <= 4 and all(value >= 0 for value in heard) and filled.nats <= filled.first
    assert fill(nano.lm, nano.config, asked, candidates=4, rounds=1).nats < filled.first
    assert torch.equal(filled.codes[known >= 0], piece[known >= 0])


def test_music_before_a_piece_keeps_the_piece(model):
    piece = with_gap(model, 0, 0, frames=40)
    plain = request_of(model, piece)
    asked = before(replace(plain, known=None), piece, 15, model.config)
    first = primed_frames(piece, model.config)
    filled = fill(model.lm, model.config, asked, candidates=2, rounds=1)
    assert torch.equal(filled.codes[:, :, first + 15 :], piece)
    assert filled.codes.shape[2] == first + 15 + 40


@pytest.mark.parametrize("numbers", [{"candidates": 0}, {"rounds": -1}])
def test_numbers_out_of_range_are_refused(model, numbers):
    with pytest.raises(ValueError, match="allowed is at least 1 and at least 0"):
        fill(model.lm, model.config, request_of(model, with_gap(model, 20, 32)), **numbers)


def test_a_fill_without_known_codes_is_refused(model):
    asked = replace(request_of(model, with_gap(model, 20, 32)), known=None)
    with pytest.raises(ValueError, match="one piece with known codes"):
        fill(model.lm, model.config, asked)
