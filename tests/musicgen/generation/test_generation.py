"""Requests: windows, seeds, conditions over time, progress, cancel, and what is refused."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace

import pytest
import torch

from musicgen import GenerationParams, StepProgress
from musicgen.conditioning.condition import TextCondition
from musicgen.generation import generate as generation
from musicgen.generation.generate import generate
from musicgen.generation.request import Request
from musicgen.generation.windows import Window, plan_windows
from tests.conftest import golden_json

SCHEDULES = golden_json("extend_schedule.json")


def params(frames=20, **changes):
    return GenerationParams(duration=frames / 50, **{"top_k": 20, **changes})


def encode(m, text, **changes):
    condition = m.text_encoder.encode([text])
    return TextCondition(condition.states, condition.mask, **changes)


@pytest.mark.parametrize("case", SCHEDULES, ids=[f"{c['duration']} s by {c['stride']} s" for c in SCHEDULES])
def test_windows_are_the_reference_s(case):
    request = GenerationParams(duration=case["duration"], extend_stride=case["stride"])
    windows = plan_windows(request, 50, case["prompt_frames"])
    assert [[w.prompt_frames, w.num_frames] for w in windows] == case["windows"]
    assert windows[-1].first + windows[-1].num_frames == case["frames"]
    if case["melody_first_last"]:
        ramp, rate = torch.arange(case["melody_samples"]), 32000
        for window, (samples, first, last) in zip(windows, case["melody_first_last"], strict=True):
            start = window.first * rate // 50
            assert windows[0].num_frames * rate // 50 == samples
            assert ramp[start % len(ramp)] == first and ramp[(start + samples - 1) % len(ramp)] == last


def test_seconds_become_frames_once_where_the_reference_loses_one():
    windows = plan_windows(GenerationParams(duration=4.5, window=2.0, extend_stride=1.2), 50)
    assert windows[-1].first + windows[-1].num_frames == 225


def test_a_long_piece_continues_each_window_from_the_one_before(model):
    m = model("hf-text")
    request = params(60, window=0.6, extend_stride=0.4)
    whole = m.generate(["rock"], request)
    first = m.generate(["rock"], params(30))
    assert whole.shape[-1] == 60
    assert torch.equal(whole[:, :, :30], first)
    assert int(whole.min()) >= 0
    assert torch.equal(whole, m.generate(["rock"], request))


def test_a_long_piece_with_a_melody_hears_the_melody_go_on(model, sweep):
    m = model("hf-melody")
    request = params(60, window=0.6, extend_stride=0.4, use_sampling=False)
    # Two melodies that share their first window and differ later.
    other = sweep.clone()
    other[..., 20000:] = 0
    codes = [m.generate(["rock"], request, melody=melody) for melody in (sweep, other)]
    assert torch.equal(codes[0][:, :, :30], codes[1][:, :, :30])
    assert not torch.equal(codes[0][:, :, 30:], codes[1][:, :, 30:])


def test_two_melodies_with_the_same_seed_differ_and_one_melody_twice_does_not(model, sweep, tensors):
    m = model("hf-melody")
    chord = tensors("signals")["chord1.5s"].reshape(1, 1, -1)
    request = params(60)
    a, b, c, none = (m.generate(["rock"], request, melody=x) for x in (sweep, chord, sweep, None))
    assert torch.equal(a, c)
    assert not torch.equal(a, b) and not torch.equal(a, none) and not torch.equal(b, none)


def test_a_melody_of_another_rate_is_the_same_melody(model):
    """Two notes, so that no frame stands between two pitch classes."""
    m = model("hf-melody")

    def notes(rate):
        time = torch.arange(rate) / rate
        return torch.cat([torch.sin(2 * math.pi * note * time) for note in (261.63, 440.0)])

    codes = [m.generate(["rock"], params(30), melody=notes(r), melody_sample_rate=r) for r in (32000, 44100)]
    assert torch.equal(*codes)


@pytest.mark.parametrize("texts", [["rock"], ["rock", "jazz"]])
def test_a_melody_may_come_in_every_shape_that_says_the_same(texts, model, sweep):
    m = model("hf-melody")
    stereo = sweep.repeat(1, 2, 1)
    forms = [sweep, sweep[0], sweep[0, 0], stereo, stereo[0], [sweep], [sweep[0]], [sweep[0, 0]], [stereo] * len(texts)]
    codes = [m.generate(texts, params(30), melody=form) for form in forms]
    assert all(torch.equal(codes[0], other) for other in codes[1:])


def test_a_prompt_beyond_the_window_is_continued_from_its_last_part():
    longer = GenerationParams(duration=10.0, window=3.0, extend_stride=2.0)
    assert plan_windows(longer, 50, 250) == [Window(200, 150, 50), Window(300, 150, 50), Window(400, 100, 50)]
    assert plan_windows(longer, 50, 150)[0] == Window(100, 150, 50)
    assert plan_windows(longer, 50, 149)[0] == Window(0, 150, 149)
    assert plan_windows(longer, 50, 499) == [Window(449, 51, 50)]
    with pytest.raises(ValueError, match="10 seconds long; allowed is less than the duration, 10 seconds"):
        plan_windows(longer, 50, 500)


@pytest.mark.parametrize("name", ["hf-text", "hf-melody"])
def test_a_long_prompt_stays_and_the_music_after_it_hears_only_the_last_part(name, model, sweep):
    m = model(name)
    request = {"window": 0.6, "extend_stride": 0.4, "use_sampling": False}
    options = {"melody": sweep} if m.config.chroma else {}
    prompt = torch.randint(0, m.config.card, (1, 4, 50), generator=torch.Generator().manual_seed(3))
    other = prompt.clone()
    other[:, :, :40] = 0
    long, same = (m.generate(["rock"], params(70, **request), prompt=p, **options) for p in (prompt, other))
    assert torch.equal(long[:, :, :50], prompt) and torch.equal(same[:, :, :50], other)
    assert torch.equal(long[:, :, 50:], same[:, :, 50:]) and int(long.min()) >= 0
    other[:, :, 45:] = 0
    changed = m.generate(["rock"], params(70, **request), prompt=other, **options)
    assert not torch.equal(changed[:, :, 50:], long[:, :, 50:])


def test_continuation_together_with_a_melody_keeps_the_prompt_and_follows_the_melody(model, sweep, tensors):
    m = model("hf-melody")
    chord = tensors("signals")["chord1.5s"].reshape(1, 1, -1)
    prompt = m.generate(["rock"], params(10))
    a, b = (m.generate(["rock"], params(50), melody=x, prompt=prompt) for x in (sweep, chord))
    assert torch.equal(a[:, :, :10], prompt) and torch.equal(b[:, :, :10], prompt)
    assert not torch.equal(a, b)


def test_the_global_random_state_is_neither_read_nor_moved(model):
    m = model("hf-text")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    a = m.generate(["rock"], params())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(a, m.generate(["rock"], params()))


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_every_64_bit_seed_works_for_a_batch(seed, model):
    codes = model("hf-text").generate(["rock", "rock"], params(20, seed=seed))
    assert not torch.equal(codes[0], codes[1])


def test_seeds_that_differ_in_high_bits_alone_differ(model):
    runs = [model("hf-text").generate(["rock"], params(20, seed=seed)) for seed in (5, 5 + 2**32, 5 + 2**60)]
    assert not torch.equal(runs[0], runs[1]) and not torch.equal(runs[1], runs[2])


def test_whole_numbers_of_other_types_are_taken(model):
    other = params(20, seed=torch.tensor(4), top_k=20.0)
    assert torch.equal(
        model("hf-text").generate(["rock"], other), model("hf-text").generate(["rock"], params(20, seed=4))
    )


def test_a_negative_condition_takes_the_null_branch(model):
    m = model("hf-text")
    positive, negative = encode(m, "rock"), encode(m, "a calm piano")
    null = TextCondition(torch.zeros(1, 4, 32), torch.zeros(1, 4, dtype=torch.bool))
    run = lambda **k: generate(m.lm, m.config, Request(positive=[positive], params=params(60), **k))  # noqa: E731
    assert not torch.equal(run(negative=[negative]), run())
    assert torch.equal(run(negative=[null]), run())
    # Guidance against the very same text cancels out.
    unguided = generate(
        m.lm, m.config, Request(positive=[positive], params=params(20, cfg_coef=1.0, use_sampling=False))
    )
    cancelled = generate(
        m.lm, m.config, Request(positive=[positive], params=params(20, use_sampling=False), negative=[positive])
    )
    assert torch.equal(cancelled, unguided)


def test_a_null_negative_is_the_default_in_prepend_models_too(model):
    m = model("hf-melody")
    null = TextCondition(torch.zeros(1, 9, 32), torch.zeros(1, 9, dtype=torch.bool))
    positive = encode(m, "a calm piano")
    with_null = generate(m.lm, m.config, Request(positive=[positive], params=params(30), negative=[null]))
    assert torch.equal(with_null, generate(m.lm, m.config, Request(positive=[positive], params=params(30))))


def test_conditions_act_in_their_share_of_the_time(model):
    m = model("hf-text")
    request = params(40, pattern="parallel", use_sampling=False)
    first, second = encode(m, "rock"), encode(m, "a calm piano melody")
    run = lambda *conditions: generate(m.lm, m.config, Request(positive=conditions, params=request))  # noqa: E731
    story = run(encode(m, "rock", end=0.5), encode(m, "a calm piano melody", start=0.5))
    assert torch.equal(story[:, :, :20], run(first)[:, :, :20])
    assert not torch.equal(story[:, :, 20:], run(first)[:, :, 20:])
    assert not torch.equal(story, run(second))
    # A condition alone, active half the time, leaves the rest to the null condition.
    half = run(encode(m, "rock", end=0.5))
    assert torch.equal(half[:, :, :20], story[:, :, :20]) and not torch.equal(half, story)


def test_a_negative_condition_acts_in_its_share_of_the_time(model):
    m = model("hf-text")
    request = params(40, pattern="parallel", use_sampling=False)
    rock = encode(m, "rock")
    run = lambda *negative: generate(m.lm, m.config, Request(positive=[rock], params=request, negative=negative))  # noqa: E731
    half, whole, none = run(encode(m, "a calm piano", end=0.5)), run(encode(m, "a calm piano")), run()
    assert torch.equal(half[:, :, :20], whole[:, :, :20]) and not torch.equal(half, whole)
    assert not torch.equal(half, none)
    assert torch.equal(run(encode(m, "a calm piano", start=0.999)), none)


@pytest.mark.parametrize("cfg_coef", [1.0, 3.0])
def test_a_single_condition_of_no_strength_is_the_null_condition_in_every_window(cfg_coef, model):
    m = model("hf-text")
    request = params(60, window=0.6, extend_stride=0.4, cfg_coef=cfg_coef)
    off = generate(m.lm, m.config, Request(positive=[encode(m, "rock", strength=0.0)], params=request))
    assert torch.equal(off, m.generate([None], request))


def test_strength_weighs_conditions_and_zero_strength_removes_one(model):
    m = model("hf-text")
    request = params(40, use_sampling=False)
    rock, piano = encode(m, "rock"), encode(m, "a calm piano melody")
    mixed = generate(m.lm, m.config, Request(positive=[rock, piano], params=request))
    silent = generate(
        m.lm, m.config, Request(positive=[rock, encode(m, "a calm piano melody", strength=0.0)], params=request)
    )
    assert torch.equal(silent, generate(m.lm, m.config, Request(positive=[rock], params=request)))
    assert not torch.equal(mixed, silent)


@pytest.mark.parametrize("pattern", [None, "flatten", "coarse_first"])
def test_progress_counts_to_the_planned_total_and_shows_the_codes_grow(pattern, model):
    m = model("hf-text")
    request = params(60, window=0.6, extend_stride=0.4, pattern=pattern)
    seen: list[StepProgress] = []
    known: list[int] = []

    def on_step(progress):
        seen.append(progress)
        known.append(int((progress.codes() >= 0).sum()))

    codes = m.generate(["rock"], request, on_step=on_step)
    assert [p.step for p in seen] == list(range(1, Request(positive=[], params=request).steps(m.config) + 1))
    assert {p.total for p in seen} == {len(seen)}
    assert known == sorted(known) and known[-1] == codes.numel()
    assert known[0] >= 1


def test_planned_steps_are_the_paper_s(model):
    config = model("hf-text").config
    ten = Request(positive=[], params=GenerationParams(duration=10.0))
    assert ten.steps(config) == 503
    assert replace(ten, params=GenerationParams(duration=10.0, pattern="flatten")).steps(config) == 2000
    assert replace(ten, prompt=prompt_of(100)).steps(config) == 403


def test_cancel_passes_through_and_leaves_no_state_behind(model, monkeypatch):
    m = model("hf-text")
    decoders = []

    class Watched(generation.CachedDecoder):
        def __init__(self, *args):
            super().__init__(*args)
            decoders.extend([weakref.ref(self), weakref.ref(self.caches[0].keys)])

    class Stop(BaseException):
        pass

    def on_step(progress):
        if progress.step == 3:
            raise Stop

    monkeypatch.setattr(generation, "CachedDecoder", Watched)
    with pytest.raises(Stop):
        m.generate(["rock"], params(), on_step=on_step)
    gc.collect()
    assert len(decoders) == 2 and all(ref() is None for ref in decoders)
    assert m.generate(["rock"], params()).shape == (1, 4, 20)


def test_generation_is_the_same_inside_and_outside_inference_mode(model):
    m = model("hf-text")
    outside = m.generate(["rock"], params())
    with torch.inference_mode():
        assert torch.equal(m.generate(["rock"], params()), outside)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"duration": 0.0}, "duration is 0.0"),
        ({"duration": -3.0}, "duration is -3.0"),
        ({"duration": float("nan")}, "duration is nan"),
        ({"duration": float("inf")}, "duration is inf"),
        ({"temperature": -1.0}, "temperature is -1.0; allowed is at least 0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 1.5}, "top_p is 1.5; allowed is at least 0 and at most 1"),
        ({"cfg_coef": float("nan")}, "cfg_coef is nan"),
        ({"window": 0.0}, "window is 0.0"),
        ({"extend_stride": -1.0}, "extend_stride is -1.0"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(changes, words):
    with pytest.raises(ValueError, match=words):
        GenerationParams(**{"duration": 1.0, **changes})


def prompt_of(frames, codebooks=4, value=0):
    return torch.full((1, codebooks, frames), value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.generate(["x"], params(1, pattern="spiral")), "'spiral'"),
        (lambda m: m.generate(["x"], GenerationParams(duration=0.01)), "at least one frame"),
        (lambda m: m.generate(["x"], {"duration": 1.0}), "params is dict; allowed is GenerationParams"),
        (lambda m: m.generate([], params()), "no description"),
        (lambda m: m.generate(["x"], params(20, window=0.2, extend_stride=0.2)), "windows must overlap"),
        (lambda m: m.generate(["x"], params(20, window=0.2, extend_stride=0.01)), "extend_stride is 0.01"),
        (lambda m: m.generate("rock", params()), r"'rock' .str.; allowed is a list"),
        (lambda m: m.generate(["x"], params(20), prompt=torch.zeros(1, 4, 3)), "float32; allowed are whole numbers"),
        (
            lambda m: m.generate(["x"], params(20), prompt=prompt_of(20)),
            "0.4 seconds long; allowed is less than the duration, 0.4",
        ),
        (lambda m: m.generate(["x"], GenerationParams(duration=60), prompt=prompt_of(120000)), "2400 seconds"),
        (lambda m: m.generate(["x"], params(), prompt=prompt_of(5, 8)), "needs \\[1 or 1, 4, T\\]"),
        (lambda m: m.generate(["x"], params(), prompt=prompt_of(5).expand(3, -1, -1)), "shape \\[3, 4, 5\\]"),
        (lambda m: m.generate(["x"], params(), prompt=prompt_of(5, value=64)), "codes 0 to 63"),
        (lambda m: m.generate(["x"], params(), melody=torch.zeros(1, 1, 9)), "takes text only"),
    ],
)
def test_requests_that_make_no_sense_are_refused_with_a_remedy(call, words, model):
    with pytest.raises(ValueError, match=words):
        call(model("hf-text"))


@pytest.mark.parametrize(
    ("melody", "words"),
    [
        (torch.zeros(1, 1, 0), "empty"),
        (torch.full((1, 1, 99), float("nan")), "NaN"),
        (torch.zeros(3, 1, 99), "3 melodies were given for a batch of 1"),
        ([torch.zeros(2, 1, 99)], "the melody has shape \\[2, 1, 99\\]"),
    ],
)
def test_melodies_that_are_no_sound_are_refused(melody, words, model):
    with pytest.raises(ValueError, match=words):
        model("hf-melody").generate(["x"], params(), melody=melody)


def test_the_memory_estimate_grows_with_what_takes_memory(model):
    m = model("hf-melody")
    rock, later = encode(m, "rock"), encode(m, "rock", start=0.5)

    def estimate(*positive, frames=100, itemsize=4, **changes):
        return Request(positive=positive or (rock,), params=params(frames), **changes).bytes(m.config, itemsize)

    small = estimate()
    assert estimate(frames=600) > small
    assert estimate(batch_size=2) == pytest.approx(2 * small, rel=0.01)
    assert estimate(itemsize=2) < small
    assert estimate(prompt=prompt_of(90)) > small
    # One more group of rows for a second condition, and one for the null condition where time has gaps.
    assert estimate(negative=[rock]) == pytest.approx(small, rel=0.01)
    assert estimate(later, negative=[rock]) == estimate(rock, rock)
    assert estimate(rock, later) > 1.2 * small
