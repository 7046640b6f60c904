"""The engine against its slow twin, rows of a batch against solo runs."""

from __future__ import annotations

import pytest
import torch

from musicgen import PATTERN_NAMES, GenerationParams, load_model
from musicgen.conditioning.fuser import fuse
from musicgen.conditioning.melody import MelodyLead, extract_melody
from musicgen.decoding.engine import UNKNOWN, CachedDecoder, FullDecoder, SamplingParams, decode_sequence
from musicgen.generation.generate import generate
from musicgen.generation.request import Request
from musicgen.lm.cache import KVCache
from musicgen.lm.transformer import sinusoidal_positions

TEXTS = ["a calm piano melody with soft drums", "rock", None, "80s synth pop with a driving beat and warm pads"]


def params(frames=16, **changes):
    return GenerationParams(duration=frames / 50, **{"top_k": 20, "seed": 5, **changes})


def run(m, texts, request, *, slow=False, melodies=None, prompt=None, negative=None):
    return generate(
        m.lm,
        m.config,
        Request(
            positive=[m.text_encoder.encode(texts)],
            params=request,
            negative=[m.text_encoder.encode(negative)] if negative else (),
            batch_size=len(texts),
            melodies=melodies or (),
            prompt=prompt,
        ),
        slow=slow,
    )


@pytest.fixture
def melodies(sweep, tensors):
    chord = tensors("signals")["chord1.5s"].reshape(1, -1)
    return [extract_melody(sweep[0], 32000), extract_melody(chord, 32000), None, extract_melody(sweep[0], 44100)]


@pytest.mark.parametrize("pattern", [None, *PATTERN_NAMES])
@pytest.mark.parametrize("name", ["hf-text", "hf-stereo"])
def test_the_cached_engine_draws_the_slow_twin_s_codes_under_every_pattern(name, pattern, model):
    m = model(name)
    request = params(pattern=pattern)
    fast, slow = (run(m, TEXTS, request, slow=slow) for slow in (False, True))
    assert torch.equal(fast, slow)
    assert fast.shape == (4, m.num_codebooks, 16)
    assert int(fast.min()) >= 0 and int(fast.max()) < m.config.card


@pytest.mark.parametrize("pattern", [None, "flatten", "coarse_first"])
def test_the_cached_engine_draws_the_slow_twin_s_codes_behind_prefixes_of_unequal_length(pattern, model, melodies):
    m = model("hf-melody")
    request = params(8, pattern=pattern)
    fast, slow = (run(m, TEXTS, request, slow=slow, melodies=melodies) for slow in (False, True))
    assert torch.equal(fast, slow)


@pytest.mark.parametrize("pattern", [None, "partial_delay", "flatten", "partial_flatten", "coarse_first", "musiclm"])
def test_a_prompt_is_kept_and_continued_as_the_slow_twin_does(pattern, model):
    m = model("hf-text")
    prompt = run(m, TEXTS[:2], params(6))
    fast, slow = (run(m, TEXTS[:2], params(12, pattern=pattern), slow=slow, prompt=prompt) for slow in (False, True))
    assert torch.equal(fast, slow)
    assert torch.equal(fast[:, :, :6], prompt)


@pytest.mark.parametrize("changes", [{"top_p": 0.8}, {"top_k": 0}, {"use_sampling": False}, {"cfg_coef": 1.0}])
def test_the_engines_agree_under_other_ways_of_drawing(changes, model):
    m = model("hf-text")
    fast, slow = (run(m, TEXTS, params(**changes), slow=slow, negative=["noise", *TEXTS[1:]]) for slow in (False, True))
    assert torch.equal(fast, slow)


@pytest.mark.parametrize("changes", [{}, {"pattern": "flatten"}, {"top_p": 0.9}])
@pytest.mark.parametrize("name", ["hf-text", "hf-stereo"])
def test_item_i_of_a_batch_is_the_solo_run_with_seed_plus_i(name, changes, model):
    m = model(name)
    batch = run(m, TEXTS, params(40, **changes))
    for item, text in enumerate(TEXTS):
        solo = run(m, [text], params(40, **{**changes, "seed": 5 + item}))
        assert torch.equal(batch[item], solo[0]), text


def test_item_i_of_a_melody_batch_is_the_solo_run_with_its_own_melody(model, melodies):
    m = model("hf-melody")
    batch = run(m, TEXTS, params(40), melodies=melodies)
    for item, text in enumerate(TEXTS):
        solo = run(m, [text], params(40, seed=5 + item), melodies=[melodies[item]])
        assert torch.equal(batch[item], solo[0]), text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["hf-text", "hf-melody"])
def test_item_i_of_a_batch_is_the_solo_run_in_half_precision_too(name, dtype, checkpoint_copy, melodies):
    m = load_model(checkpoint_copy(name), dtype=dtype)
    texts = [*TEXTS, "jazz"]
    tunes = [*melodies, None] if name == "hf-melody" else None
    batch = run(m, texts, params(40), melodies=tunes)
    for item, text in enumerate(texts):
        solo = run(m, [text], params(40, seed=5 + item), melodies=tunes and [tunes[item]])
        assert torch.equal(batch[item], solo[0]), text


def test_texts_are_encoded_as_alone(model):
    encoder = model("hf-text").text_encoder
    together = encoder.encode(TEXTS)
    for item, text in enumerate(TEXTS):
        alone = encoder.encode([text]).row(0)
        assert together.row(item) is None if alone is None else torch.equal(together.row(item), alone)


def test_codes_differ_between_items_seeds_and_texts(model):
    m = model("hf-text")
    same_text = run(m, ["rock", "rock"], params(40))
    assert not torch.equal(same_text[0], same_text[1])
    assert not torch.equal(run(m, ["rock"], params(40)), run(m, ["jazz on a piano"], params(40)))


def test_a_column_that_is_known_in_part_keeps_what_is_known(model):
    m = model("hf-text")
    condition = m.text_encoder.encode(["rock"])
    sequence = torch.full((1, 4, 6), UNKNOWN)
    sequence[:, :, 0] = m.config.card
    sequence[:, 1, 3] = 7
    conditions = fuse(m.lm, [condition], 1, torch.device("cpu"), led=[True])
    decoder = CachedDecoder(m.lm, conditions, 1, 6, torch.device("cpu"))
    with torch.no_grad():
        filled = decode_sequence(
            decoder, sequence, 1, SamplingParams(1.0, 0, 0.0), guide=lambda logits, step: logits[0], noise=None
        )
    assert filled[0, 1, 3] == 7
    assert int(filled.min()) >= 0


def test_logits_that_are_not_finite_end_the_decoding_with_a_remedy(checkpoint_copy):
    m = load_model(checkpoint_copy("hf-text"))
    m.lm.out_norm.weight[0] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinite.*fp32"):
        run(m, ["rock"], params())


def test_a_kv_cache_refuses_more_than_it_can_hold():
    cache = KVCache(1, 2, 3, 4, torch.device("cpu"), torch.float32)
    new = torch.ones(1, 2, 2, 4)
    assert cache.append(new, new)[0].shape == (1, 2, 2, 4)
    with pytest.raises(ValueError, match="3 positions was asked to hold 4"):
        cache.append(new, new)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bfloat16, torch.float16])
def test_positions_are_computed_in_float32_whatever_they_come_in(dtype):
    """In half precision the rates round, and late positions are off by whole turns."""
    places = torch.tensor([0, 1024, 1536], dtype=dtype)
    table = sinusoidal_positions(places, 64)
    rates = 10000.0 ** (-torch.arange(32, dtype=torch.float64) / 31)
    angle = places.double()[:, None] * rates
    assert table.dtype == torch.float32
    torch.testing.assert_close(table.double(), torch.cat([angle.cos(), angle.sin()], -1), atol=5e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_adds_positions_that_are_rounded_once(dtype, checkpoint_copy):
    transformer = load_model(checkpoint_copy("hf-text"), dtype=dtype).lm.transformer
    seen = []
    transformer.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    places, width = torch.arange(1400, 1500), transformer.config.dim
    transformer(torch.zeros(1, len(places), width, dtype=dtype), places)
    assert torch.equal(seen[0][0], sinusoidal_positions(places, width).to(dtype))


def test_positions_are_all_cosines_then_all_sines_of_rates_from_1_to_1_in_10000():
    table = sinusoidal_positions(torch.tensor([0, 3]), 8)
    assert torch.equal(table[0], torch.tensor([1.0] * 4 + [0.0] * 4))
    rates = torch.tensor([1.0, 10000 ** (-1 / 3), 10000 ** (-2 / 3), 1e-4])
    torch.testing.assert_close(table[1], torch.cat([(3 * rates).cos(), (3 * rates).sin()]))


@pytest.mark.parametrize("name", ["hf-text", "hf-stereo", "hf-melody"])
@pytest.mark.parametrize("texts", [["rock"], TEXTS], ids=["alone", "padded"])
@pytest.mark.parametrize("portions", [(1, 2, 3), (4, 7, 12), (1, 12), (5, 6, 11, 12), (12,)], ids=str)
def test_columns_in_portions_give_the_logits_of_the_decoder_without_a_cache(name, texts, portions, model):
    m, cpu, batch = model(name), torch.device("cpu"), len(texts)
    leads = [] if m.config.chroma is None else [MelodyLead(m.config.chroma)] * batch
    sequence = torch.randint(0, m.config.card, (batch, m.num_codebooks, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        groups = [m.text_encoder.encode(texts), None]
        conditions = fuse(m.lm, groups, batch, cpu, led=[True, False], leads=leads)
        cached, full = CachedDecoder(m.lm, conditions, batch, 12, cpu), FullDecoder(m.lm, conditions, cpu)
        for step in portions:
            seen = cached.next_logits(sequence, step)
            torch.testing.assert_close(seen, full.next_logits(sequence, step), atol=2e-5, rtol=0)
