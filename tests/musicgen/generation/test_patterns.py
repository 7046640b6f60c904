"""Codebook patterns: the reference's tables, and what holds for every size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musicgen.generation.patterns import (
    PATTERN_NAMES,
    Pattern,
    coarse_first_pattern,
    delay_pattern,
    flatten_pattern,
    musiclm_pattern,
    named_pattern,
    parallel_pattern,
    trained_pattern_name,
)
from tests.conftest import golden_json

SPECIAL = 64
CASES = [(name, case) for name, cases in golden_json("patterns.json").items() for case in cases]


def build(case) -> Pattern:
    options = dict(case["kwargs"])
    T, K = case["T"], options.pop("n_q")
    if case["class"] == "DelayedPatternProvider":
        return delay_pattern(T, options.pop("delays", range(K)), **options)
    if case["class"] == "ParallelPatternProvider":
        return parallel_pattern(T, K)
    if case["class"] == "UnrolledPatternProvider":
        return flatten_pattern(T, options.get("flattening", range(K)), options.get("delays"))
    if case["class"] == "CoarseFirstPattern":
        return coarse_first_pattern(T, K, **options)
    assert case["class"] == "MusicLMPattern"
    return musiclm_pattern(T, K, **options)


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}, T={case['T']}" for name, case in CASES])
def test_tables_are_the_reference_s(name, case):
    pattern = build(case)
    T, K, S = case["T"], case["kwargs"]["n_q"], case["S"]
    assert pattern.num_steps == S
    assert [[list(coord) for coord in column] for column in pattern.layout] == case["layout"]
    assert pattern.frames.tolist() == case["sequence_t"]
    assert pattern.mask.int().tolist() == case["mask"]
    assert pattern.num_valid_steps == case["valid_S"]
    assert [pattern.first_step(t) for t in range(T)] == case["first_step_with_t"]
    flat = torch.arange(K)[:, None] * S
    assert (pattern.steps + flat).tolist() == case["revert_indexes"]
    logits = torch.arange(K * S, dtype=torch.float32).view(1, K, S, 1)
    reverted, mask = pattern.revert_logits(logits)
    assert reverted[0, ..., 0].tolist() == case["logits_indexes"]
    assert mask.int().tolist() == case["logits_mask"]


sizes = st.integers(1, 12)
names = st.sampled_from(PATTERN_NAMES)
delays = st.lists(st.integers(0, 4), min_size=1, max_size=8).map(sorted)


def random_codes(pattern: Pattern, seed: int = 0) -> torch.Tensor:
    shape = (2, pattern.num_codebooks, pattern.num_frames)
    return torch.randint(0, SPECIAL, shape, generator=torch.Generator().manual_seed(seed))


def assert_round_trip(pattern: Pattern) -> None:
    codes = random_codes(pattern)
    sequence = pattern.build_sequence(codes, SPECIAL)
    assert torch.equal(pattern.revert_sequence(sequence), codes)
    assert torch.equal(sequence == SPECIAL, ~pattern.mask.expand_as(sequence))
    assert int(pattern.mask.sum()) == codes[0].numel()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
@given(name=names, frames=sizes, channels=st.sampled_from([1, 2]), levels=st.integers(1, 6))
def test_every_named_pattern_gives_back_what_it_was_given(name, frames, channels, levels):
    own = [level for level in range(levels) for _ in range(channels)]
    assert_round_trip(named_pattern(name, frames, own, channels))


@given(frames=sizes, delays=delays, flatten_first=st.integers(0, 6), empty_initial=st.integers(-1, 3))
def test_any_delays_give_back_what_they_were_given(frames, delays, flatten_first, empty_initial):
    pattern = delay_pattern(frames, delays, flatten_first=flatten_first, empty_initial=empty_initial)
    assert_round_trip(pattern)
    if not flatten_first and empty_initial == 0:
        assert pattern.num_steps == 1 + frames + max(delays)
        assert pattern.num_valid_steps == 1 + frames + min(delays)


@given(frames=sizes, delays=delays)
def test_coarse_first_with_any_delays_gives_back_what_it_was_given(frames, delays):
    pattern = coarse_first_pattern(frames, 1 + len(delays), delays=delays)
    assert_round_trip(pattern)
    assert pattern.num_steps == 1 + 2 * frames + max(delays)


@given(name=names, frames=st.integers(2, 12), levels=st.integers(1, 5))
def test_a_code_never_stands_before_an_earlier_code_of_its_codebook(name, frames, levels):
    steps = named_pattern(name, frames, range(levels)).steps
    assert bool((steps[:, 1:] > steps[:, :-1]).all())
    assert bool((steps[1:] >= steps[:-1]).all())


@given(frames=sizes, levels=st.integers(1, 5))
def test_steps_cost_what_the_paper_says(frames, levels):
    count = {name: named_pattern(name, frames, range(levels)).num_steps - 1 for name in PATTERN_NAMES}
    assert count["parallel"] == frames
    assert count["delay"] == frames + levels - 1
    assert count["flatten"] == count["musiclm"] == frames * levels
    assert count["partial_flatten"] == count["coarse_first"] == (2 * frames if levels > 1 else frames)


def test_stereo_patterns_keep_both_channels_of_a_level_together():
    own = [0, 0, 1, 1, 2, 2, 3, 3]
    for name in ("delay", "parallel", "partial_delay", "partial_flatten", "coarse_first"):
        frames = named_pattern(name, 4, own, 2).frames
        assert torch.equal(frames[0::2], frames[1::2]), name
    assert named_pattern("delay", 4, own, 2).layout == named_pattern(None, 4, own, 2).layout


def test_the_pattern_of_a_checkpoint_is_recognised_by_its_delays():
    assert trained_pattern_name([0, 1, 2, 3]) == "delay"
    assert trained_pattern_name([0, 0, 1, 1, 2, 2, 3, 3], 2) == "delay"
    assert trained_pattern_name([0, 0, 0, 0]) == "parallel"
    assert trained_pattern_name([0, 1, 1, 1]) == "partial_delay"
    assert trained_pattern_name([0, 2, 4, 6]) is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: named_pattern("zigzag", 3, [0, 1]), "'zigzag'; allowed are delay"),
        (lambda: named_pattern("delay", 0, [0, 1]), "0 frames"),
        (lambda: delay_pattern(3, [1, 0]), "delays are \\[1, 0\\]"),
        (lambda: delay_pattern(3, []), "delays are"),
        (lambda: delay_pattern(3, [0], empty_initial=-2), "empty_initial -2"),
        (lambda: musiclm_pattern(3, 4, 3), "group_by is 3"),
        (lambda: flatten_pattern(3, [0, 1, 1], [0, 1, 2]), "do not fit flattening"),
        (lambda: coarse_first_pattern(3, 4, delays=[0]), "one for each of the 3"),
        (lambda: Pattern(((), ((0, 0),)), 2, 1), "lacks 1 codes"),
        (lambda: Pattern(((), ((0, 0),), ((0, 0),)), 1, 1), "twice"),
        (lambda: Pattern(((), ((0, 0), (1, 0))), 1, 2), "at most once"),
        (lambda: delay_pattern(3, [0, 1]).build_sequence(torch.zeros(1, 2, 4, dtype=torch.long), 9), "\\[B, 2, 3\\]"),
        (lambda: delay_pattern(3, [0, 1]).first_step(3), "frame 3 is not"),
    ],
)
def test_what_makes_no_pattern_is_refused_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()
