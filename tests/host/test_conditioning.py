"""ComfyUI's own conditioning nodes work on ours: each run here passes through one of them."""

from __future__ import annotations

import numpy as np
import pytest

A, B = ["2", 0], ["20", 0]
CORE = {
    "ConditioningAverage": {"conditioning_to": A, "conditioning_from": B, "conditioning_to_strength": 0.5},
    "ConditioningCombine": {"conditioning_1": A, "conditioning_2": B},
    "ConditioningConcat": {"conditioning_to": A, "conditioning_from": B},
    "ConditioningZeroOut": {"conditioning": A},
    "ConditioningSetTimestepRange": {"conditioning": A, "start": 0.0, "end": 0.5},
}


def play(host, node: str | None = None, text: str = "soft piano", target: str = "positive", **inputs):
    """One second of sound under a fixed seed, with ``node`` between text and sampler."""
    prompt = host.workflow("text_to_music", seed=21)
    prompt["2"]["inputs"]["text"] = text
    prompt["20"] = {"class_type": "MusicGenTextEncode", "inputs": {"text_encoder": ["1", 1], "text": "loud drums"}}
    if node:
        prompt["21"] = {"class_type": node, "inputs": {**CORE[node], **inputs}}
        prompt["3"]["inputs"][target] = ["21", 0]
    return host.play(prompt)[0]


@pytest.mark.parametrize("node", CORE)
def test_core_node_changes_the_sound(host, node):
    assert not np.array_equal(play(host), play(host, node))


def test_zero_out_sounds_like_an_empty_description(host):
    assert np.array_equal(play(host, "ConditioningZeroOut"), play(host, text=""))


def test_an_average_wholly_of_one_side_sounds_like_that_side(host):
    assert np.array_equal(play(host, "ConditioningAverage", conditioning_to_strength=1.0), play(host))


def test_a_negative_of_nothing_changes_nothing_and_another_one_does(host):
    assert np.array_equal(play(host, "ConditioningZeroOut", target="negative"), play(host))
    assert not np.array_equal(play(host, "ConditioningConcat", target="negative"), play(host))


def directed(host, timeline, **numbers):
    """One second of sound under a fixed seed, with a timeline in place of the text, and numbers that change."""
    prompt = host.workflow("text_to_music", seed=21)
    settings = {"morph": 0.0, "carry_over": 0.5, "bpm": 120.0, "beats_per_bar": 4}
    prompt["2"] = {
        "class_type": "MusicGenTimeline",
        "inputs": {"text_encoder": ["1", 1], "timeline": timeline, **settings},
    }
    fields = dict.fromkeys(("cfg_coef", "temperature", "top_k", "top_p", "lead_strength", "cfg_coef_beta"), "")
    prompt["20"] = {"class_type": "MusicGenGuidance", "inputs": {**fields, "bpm": 120.0, "beats_per_bar": 4, **numbers}}
    prompt["3"]["inputs"]["guidance"] = ["20", 0]
    return host.play(prompt)[0]


def test_a_timeline_of_one_line_and_guidance_left_empty_sound_like_the_text_alone(host):
    plain = play(host)
    assert np.array_equal(directed(host, "0s soft piano"), plain)
    assert not np.array_equal(directed(host, "0s soft piano\nbeat 2: loud drums"), plain)
    assert not np.array_equal(directed(host, "0s soft piano", cfg_coef="0.5s 9"), plain)
