"""MusicGen Timeline, MusicGen Guidance and weighted words: their values, and the sampler's answer."""

from __future__ import annotations

import pytest
import torch

from .conftest import sound

DIRECTED = {"duration": 0.8, "seed": 4}


@pytest.fixture
def timeline(run, load):
    def encode(text, name="text", morph=0.0, carry_over=0.0, **options):
        encoder = load(name).text_encoder
        return run("Timeline", text_encoder=encoder, timeline=text, morph=morph, carry_over=carry_over, **options)

    return encode


def test_a_timeline_of_one_line_is_its_description(timeline, encode, sample):
    assert torch.equal(sample(timeline("0s jazz"), **DIRECTED)["codes"], sample(encode("jazz"), **DIRECTED)["codes"])


def test_a_timeline_is_ranges_of_core_s_own(timeline, encode, sample, comfy):
    """SetTimestepRange and Combine mean what they meant: half of the piece is 0.4 s."""
    nodes = comfy.core
    parts = [
        nodes.ConditioningSetTimestepRange().set_range(encode(text), *span)[0]
        for text, span in (("jazz", (0.0, 0.5)), ("big band", (0.5, 1.0)))
    ]
    (combined,) = nodes.ConditioningCombine().combine(*parts)
    told = timeline("0s jazz\n0.4s big band")
    assert torch.equal(sample(told, **DIRECTED)["codes"], sample(combined, **DIRECTED)["codes"])


def test_bars_are_counted_by_the_tempo(timeline, sample):
    bars = timeline("bar 1 jazz\nbar 2: big band", bpm=600.0)
    assert torch.equal(sample(bars, **DIRECTED)["codes"], sample(timeline("jazz\n400ms big band"), **DIRECTED)["codes"])


def test_the_recipe_tells_the_sections(timeline, sample):
    recipe = sample(timeline("0s jazz\n0.4s + (drums:1.5)", carry_over=0.1), **DIRECTED)["recipe"]
    assert [(each["text"], each.get("musicgen_weight")) for each in recipe["positive"]] == [
        ("jazz", None),
        ("jazz, drums", 1.5),
        ("jazz", -0.5),
    ]
    assert recipe["positive"][1]["musicgen_span"] == (0.4, None, 0.0, 0.0, 0.1)


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (" \n# nothing", {}, "the timeline is empty"),
        ("4s jazz", {}, "the timeline begins at 4 s; allowed is a first line at 0s"),
        ("0s jazz\nbig band", {}, "the line 'big band' begins with no time"),
        ("0s jazz\n2s rock\n1s folk", {}, "a section at 1 s comes after one at 2 s"),
        ("0s jazz\n2s ~3s rock\n4s folk", {}, "takes 3 s to arrive, but the next one begins at 4 s, so they overlap"),
        ("0s jazz\n2s - drums", {}, "takes out 'drums', which is no phrase of the description before it"),
        ("+ drums", {}, "changes a description, but it is the first"),
        ("0s jazz\nbar 2 rock", {"bpm": 0.0}, "bpm is 0; allowed is a number of beats per minute above 0"),
    ],
)
def test_a_bad_timeline_is_refused_in_a_sentence(timeline, text, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        timeline(text, **options)


def test_a_section_beyond_the_end_is_refused_by_the_sampler(timeline, sample):
    with pytest.raises(ValueError, match="a section begins at 5 s, beyond the piece of 0.8 s"):
        sample(timeline("0s jazz\n5s rock"), **DIRECTED)


def test_guidance_left_empty_changes_nothing_and_a_schedule_does(run, encode, sample):
    empty = dict.fromkeys(("cfg_coef", "temperature", "top_k", "top_p", "lead_strength", "cfg_coef_beta"), "")
    plain = sample(encode("jazz"), **DIRECTED)
    nothing = run("Guidance", **empty)
    assert torch.equal(sample(encode("jazz"), guidance=nothing, **DIRECTED)["codes"], plain["codes"])
    same = run("Guidance", **{**empty, "cfg_coef": "3", "temperature": "0s 1, 0.2s 1"})
    assert torch.equal(sample(encode("jazz"), guidance=same, **DIRECTED)["codes"], plain["codes"])
    late = run("Guidance", **{**empty, "cfg_coef": "0.4s ~0.1s 9"})
    changed = sample(encode("jazz"), guidance=late, **DIRECTED)
    assert torch.equal(changed["codes"][:, 0, :20], plain["codes"][:, 0, :20])
    assert not torch.equal(changed["codes"], plain["codes"])
    assert changed["recipe"]["schedules"] == {"cfg_coef": [[0.4, 9.0, 0.1]]} and "schedules" not in plain["recipe"]


def test_a_melody_of_strength_0_is_no_melody(run, encode, sample):
    melody, text = run("MelodyChroma", audio=sound(1.0))[0], encode("jazz", "melody")
    silent = run("Guidance", lead_strength="0")
    told = sample(text, "melody", melody=melody, guidance=silent, **DIRECTED)["codes"]
    assert torch.equal(told, sample(text, "melody", **DIRECTED)["codes"])


def test_a_bad_schedule_names_its_field(run, encode, sample):
    with pytest.raises(ValueError, match="cfg_coef: 'loud' is not a value over time"):
        run("Guidance", cfg_coef="loud")
    with pytest.raises(ValueError, match="guidance is .*; allowed is the output of MusicGen Guidance"):
        sample(encode("jazz"), guidance="3", **DIRECTED)


def test_words_of_weight_1_are_plain_words_and_of_weight_0_none(encode, sample):
    plain = sample(encode("jazz, drums"), **DIRECTED)["codes"]
    assert torch.equal(sample(encode("jazz, (drums:1)"), **DIRECTED)["codes"], plain)
    without = sample(encode("jazz"), **DIRECTED)["codes"]
    assert torch.equal(sample(encode("jazz, (drums:0)"), **DIRECTED)["codes"], without)
    assert not torch.equal(sample(encode("jazz, (drums:1.5)"), **DIRECTED)["codes"], plain)


def test_core_s_nodes_take_weighted_words_as_they_are(encode, sample, comfy):
    weighted = encode("jazz, (drums:1.5)")
    (half,) = comfy.core.ConditioningSetTimestepRange().set_range(weighted, 0.0, 1.0)
    assert torch.equal(sample(half, **DIRECTED)["codes"], sample(weighted, **DIRECTED)["codes"])
