"""Style and sound effects in the real host: a small style model with its MERT, and a small AudioGen."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests.tiny import write_audiogen, write_style_model

from .test_bad_input import assert_sentence

NOTES = [220.0, 330.0, 247.0, 294.0, 392.0, 262.0, 349.0, 440.0]


@pytest.fixture(scope="module")
def models(host):
    """The two models under models/musicgen/small, for this file."""
    folder = host.models / "small"
    write_style_model(folder / "style")
    write_audiogen(folder / "audiogen")
    host.record("style.wav", host.tune(NOTES))
    host.record("short.wav", host.tune(NOTES[:4]))
    yield folder
    shutil.rmtree(folder)


def styled(host, *, audio: str = "style.wav", model: str = "small/style", style=None, **sampler):
    """Load Audio -> MusicGen Style -> the sampler of the text workflow."""
    prompt = host.workflow("text_to_music", model=model, **{"seed": 5, **sampler})
    key = {node["class_type"]: key for key, node in prompt.items()}
    prompt["30"] = {"class_type": "LoadAudio", "inputs": {"audio": audio}}
    own = {"model": [key["MusicGenLoader"], 0], "audio": ["30", 0], "excerpt_length": 3.0, "seed": 1}
    prompt["31"] = {"class_type": "MusicGenStyle", "inputs": {**own, **(style or {})}}
    prompt[key["MusicGenSampleTokens"]]["inputs"]["style"] = ["31", 0]
    return prompt


def test_a_style_and_its_guidance_change_the_sound(host, models):
    plain = host.play(host.workflow("text_to_music", model="small/style", seed=5))[0]
    with_style, double, elsewhere = (
        host.play(styled(host, **changes))[0] for changes in ({}, {"cfg_coef_beta": 5.0}, {"style": {"seed": 2}})
    )
    assert plain.shape == with_style.shape == (1, 32000) and np.isfinite(with_style).all()
    sounds = [plain, with_style, double, elsewhere]
    assert all(not np.array_equal(a, b) for i, a in enumerate(sounds) for b in sounds[:i])


def test_the_same_style_gives_the_same_sound_after_the_cache_is_gone(host, models):
    once = host.play(styled(host, cfg_coef_beta=3.0))[0]
    host.server.free()
    assert np.array_equal(once, host.play(styled(host, cfg_coef_beta=3.0))[0])


def test_what_a_style_cannot_be_is_said_in_a_sentence(host, models):
    assert_sentence(host.fail(styled(host, audio="short.wav")), "2.00 seconds", "3 seconds")
    assert_sentence(host.fail(styled(host, model="bundled/musicgen-nano")), "no style condition", "style model")
    (models / "style" / "MERT-v1-95M" / "pytorch_model.bin").rename(models / "away.bin")
    error = host.fail(styled(host))
    assert_sentence(error, "m-a-p/MERT-v1-95M", "config.json", "pytorch_model.bin", "CC-BY-NC")
    words_alone = host.play(host.workflow("text_to_music", model="small/style", seed=6))[0]
    assert words_alone.shape == (1, 32000)
    (models / "away.bin").rename(models / "style" / "MERT-v1-95M" / "pytorch_model.bin")
    assert host.play(styled(host))[0].shape == (1, 32000)


def test_sound_effects_come_out_of_the_same_workflows(host, models):
    samples, rate = host.play(host.workflow("text_to_music", model="small/audiogen", duration=1.5))
    assert rate == 16000 and samples.shape == (1, 24000) and samples.std() > 0
    samples, rate = host.play(host.workflow("continue_music", model="small/audiogen", duration=1.0))
    assert rate == 16000 and samples.shape == (1, 16000)
