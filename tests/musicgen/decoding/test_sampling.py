"""Drawing codes from logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from musicgen.decoding.sampling import exponential_noise, sample_codes
from musicgen.generation.guidance import guide


def logits_and_noise(seed: int, rows=(2, 3), card=32):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*rows, card, generator=generator) * 3
    return logits, torch.empty(*rows, card).exponential_(generator=generator)


@given(seed=st.integers(0, 500), top_k=st.integers(1, 40))
def test_top_k_draws_only_from_the_k_likeliest(seed, top_k):
    logits, noise = logits_and_noise(seed)
    drawn = sample_codes(logits, noise, top_k=top_k)
    rank = (logits > logits.gather(-1, drawn.unsqueeze(-1))).sum(-1)
    assert int(rank.max()) < top_k


@given(seed=st.integers(0, 500), top_p=st.floats(0.01, 1.0))
def test_top_p_draws_only_from_the_smallest_set_that_reaches_p(seed, top_p):
    logits, noise = logits_and_noise(seed)
    drawn = sample_codes(logits, noise, top_p=top_p)
    probs = logits.softmax(-1)
    mine = probs.gather(-1, drawn.unsqueeze(-1))
    likelier = probs.masked_fill(probs <= mine, 0.0).sum(-1)
    assert bool((likelier <= top_p + 1e-5).all())


def test_noise_made_in_place_is_the_logarithm_of_the_generators_own_numbers():
    def generators():
        return [torch.Generator().manual_seed(seed) for seed in (3, 4)]

    numbers = torch.stack([torch.rand(4, 2048, generator=generator) for generator in generators()])
    noise = exponential_noise(generators(), 4, 2048)
    assert torch.equal(noise, -torch.log1p(-numbers).clamp_max(-(2.0**-25)))
    assert float(noise.min()) > 0


def test_top_p_takes_the_place_of_top_k():
    logits, noise = logits_and_noise(1)
    assert torch.equal(sample_codes(logits, noise, top_p=0.9, top_k=1), sample_codes(logits, noise, top_p=0.9))


def test_no_noise_and_temperature_0_take_the_likeliest_code():
    logits, noise = logits_and_noise(2)
    assert torch.equal(sample_codes(logits, None, top_k=5), logits.argmax(-1))
    assert torch.equal(sample_codes(logits, noise, temperature=0.0), logits.argmax(-1))


def test_codes_are_drawn_as_often_as_they_are_likely():
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(1, 1, 4)
    generators = [torch.Generator().manual_seed(3)]
    counts = torch.zeros(4)
    for _ in range(400):
        noise = exponential_noise(generators, 50, 4)
        counts += torch.bincount(sample_codes(logits.expand(1, 50, 4), noise).flatten(), minlength=4)
    share = counts / counts.sum()
    # 20,000 draws: four standard deviations are about 0.014.
    torch.testing.assert_close(share, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.015, rtol=0)


def test_temperature_sharpens_and_flattens():
    logits = torch.tensor([0.0, 1.0]).expand(1, 4000, 2)
    noise = exponential_noise([torch.Generator().manual_seed(4)], 4000, 2)
    share = [float(sample_codes(logits, noise, temperature=t).float().mean()) for t in (0.2, 1.0, 5.0)]
    assert share[0] > 0.97 and 0.69 < share[1] < 0.77 and 0.5 < share[2] < 0.6


def test_noise_is_exp_1_never_zero_and_a_generator_s_own():
    first = exponential_noise([torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)], 4, 5000)
    again = exponential_noise([torch.Generator().manual_seed(2)], 4, 5000)
    assert torch.equal(first[1], again[0])
    assert float(first.min()) > 0 and bool(torch.isfinite(first).all())
    assert abs(float(first.mean()) - 1) < 0.03 and abs(float(first.var()) - 1) < 0.1


def test_guidance_of_1_is_the_condition_and_of_0_the_null():
    cond, null = torch.tensor([2.0, 4.0]), torch.tensor([1.0, 1.0])
    assert torch.equal(guide(cond, null, 1.0), cond)
    assert torch.equal(guide(cond, null, 0.0), null)
    assert torch.equal(guide(cond, null, 3.0), torch.tensor([4.0, 10.0]))


@pytest.mark.parametrize("filters", [{"top_k": 5}, {"top_k": 0}, {"top_p": 0.9}], ids=str)
@pytest.mark.parametrize("temperature", [1e-6, 1e-20, 1e-30, 1e-38, 1e-42, 1e-320])
def test_a_temperature_next_to_nothing_takes_the_likeliest_code(temperature, filters):
    logits = 30 * torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(5))
    noise = exponential_noise([torch.Generator().manual_seed(item) for item in range(2)], 4, 64)
    drawn = sample_codes(logits, noise, temperature=temperature, **filters)
    assert torch.equal(drawn, logits.argmax(-1))


@pytest.mark.parametrize("cfg_coef", [1e10, 1e30, 1e36])
def test_guidance_without_measure_takes_the_code_that_it_favours_most(cfg_coef):
    conditional, unconditional = torch.randn(2, 1, 4, 64, generator=torch.Generator().manual_seed(6))
    noise = exponential_noise([torch.Generator().manual_seed(0)], 4, 64)
    drawn = sample_codes(guide(conditional, unconditional, cfg_coef), noise, temperature=0.5, top_k=5)
    assert torch.equal(drawn, (conditional - unconditional).argmax(-1))
