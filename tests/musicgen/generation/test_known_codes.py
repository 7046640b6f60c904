"""Codes that are known anywhere in a piece stay, and the unknown ones are sampled between them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from musicgen.generation.generate import generate
from musicgen.generation.params import GenerationParams
from musicgen.generation.patterns import PATTERN_NAMES
from musicgen.generation.request import Request
from musicgen.generation.windows import Window, plan_gap_windows
from tests.conftest import PROMPTS, golden_model

FRAMES = 40


@pytest.fixture(scope="module")
def model():
    return golden_model("hf-text")


def piece(model, batch: int = 1, frames: int = FRAMES) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, model.config.card, (batch, model.num_codebooks, frames), generator=generator)


def request(model, known: Tensor, **numbers) -> Request:
    params = GenerationParams(duration=known.shape[2] / model.frame_rate, seed=3, **numbers)
    return Request(params=params, positive=[model.text_encoder.encode([PROMPTS[0]])], known=known)


def sampled(model, asked: Request, **how) -> Tensor:
    return generate(model.lm, model.config, asked, **how)


@pytest.mark.parametrize("pattern", PATTERN_NAMES)
def test_known_codes_stay_and_unknown_ones_are_sampled_under_every_pattern(model, pattern):
    known = piece(model)
    known[:, :, 12:20] = -1
    known[:, 2:, 30:33] = -1
    codes = sampled(model, request(model, known, pattern=pattern))
    assert codes.shape == known.shape and bool((codes >= 0).all())
    assert torch.equal(codes[known >= 0], known[known >= 0])
    assert torch.equal(codes, sampled(model, request(model, known, pattern=pattern), slow=True))


def test_a_piece_that_is_known_from_its_start_is_a_prompt(model):
    known = piece(model)
    known[:, :, 15:] = -1
    by_known = request(model, known)
    by_prompt = replace(by_known, known=None, prompt=known[:, :, :15])
    assert torch.equal(sampled(model, by_known), sampled(model, by_prompt))
    assert by_known.steps(model.config) == by_prompt.steps(model.config)


def test_steps_end_with_the_last_unknown_code(model):
    known = piece(model)
    known[:, :, 12:20] = -1
    steps = []
    sampled(model, request(model, known), on_step=lambda progress: steps.append((progress.step, progress.total)))
    # Eight frames and the delay of the last codebook.
    assert steps == [(n + 1, 11) for n in range(11)] and request(model, known).steps(model.config) == 11


def test_an_item_equals_the_item_alone(model):
    known = piece(model, batch=2)
    known[:, :, 5:25] = -1
    both = replace(request(model, known), batch_size=2)
    codes = sampled(model, both)
    for item in range(2):
        assert torch.equal(codes[item : item + 1], sampled(model, both.select([item])))


def test_one_piece_serves_all_items_and_each_has_its_seed(model):
    known = piece(model)
    known[:, :, 5:25] = -1
    codes = sampled(model, replace(request(model, known), batch_size=3))
    assert torch.equal(codes[0], sampled(model, request(model, known))[0])
    assert not torch.equal(codes[0], codes[1]) and not torch.equal(codes[1], codes[2])


@pytest.mark.parametrize("span", [(0, 10), (100, 130), (180, 200), (40, 170), (0, 200)])
def test_a_gap_in_a_piece_beyond_the_window_is_filled(model, span):
    known = piece(model, frames=200)
    known[:, :, span[0] : span[1]] = -1
    asked = request(model, known, window=1.0, extend_stride=0.6)
    codes = sampled(model, asked)
    assert bool((codes >= 0).all()) and torch.equal(codes[known >= 0], known[known >= 0])
    steps = []
    sampled(model, asked, on_step=lambda progress: steps.append(progress.total))
    assert len(steps) == asked.steps(model.config) == steps[-1]


def test_windows_hold_the_music_before_the_gap_and_some_behind_it():
    params = GenerationParams(duration=10.0, window=3.0, extend_stride=2.0)
    assert plan_gap_windows(params, 50, 0, 20) == [Window(0, 150, 0)]
    assert plan_gap_windows(params, 50, 480, 500) == [Window(350, 150, 130)]
    assert plan_gap_windows(params, 50, 100, 260) == [Window(50, 150, 50), Window(150, 150, 50)]
    short = GenerationParams(duration=3.0, window=3.0, extend_stride=2.0)
    assert plan_gap_windows(short, 50, 100, 120) == [Window(0, 150, 100)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda known: known[:, :2], "known's codes have shape"),
        (lambda known: known.float(), "known's codes are of type torch.float32"),
        (lambda known: known - 1, "known's codes run from -2"),
        (lambda known: known[:, :, 1:], "39 frames and the duration 40"),
        (lambda known: known.clamp_min(0), "leave nothing to sample"),
    ],
)
def test_known_codes_that_do_not_fit_are_refused_in_a_sentence(model, change, sentence):
    known = piece(model)
    known[:, :, 12:20] = -1
    with pytest.raises(ValueError, match=sentence):
        sampled(model, replace(request(model, known), known=change(known)))


def test_a_prompt_beside_known_codes_is_refused(model):
    known = piece(model)
    known[:, :, 12:20] = -1
    with pytest.raises(ValueError, match="both a prompt and known codes"):
        sampled(model, replace(request(model, known), prompt=known[:, :, :5]))
