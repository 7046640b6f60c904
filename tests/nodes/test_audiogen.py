"""AudioGen through the very same nodes: another sample rate, frame, text encoder and window."""

from __future__ import annotations

import importlib

import pytest
import torch

from .conftest import PACK, sound

SECONDS_OF_WINDOW, SECONDS_OF_STRIDE = 10, 2


def test_the_numbers_are_the_checkpoint_s_own(load):
    config = load("audiogen").model.config
    assert (config.sample_rate, config.codec.hop_length, config.frame_rate) == (16000, 320, 50)
    assert (config.lm.text_dim, config.lm.cross_attention, config.lm.chroma_dim) == (1024, True, None)
    assert (config.window, config.extend_stride) == (SECONDS_OF_WINDOW, SECONDS_OF_STRIDE)
    assert load("text").model.config.extend_stride == 18.0


def test_a_description_becomes_sound_at_sixteen_kilohertz(encode, sample, run, load):
    tokens = sample(encode("a dog barks", "audiogen"), "audiogen", duration=1.5)
    assert tokens["codes"].shape == (1, 4, 75)
    assert (tokens["sample_rate"], tokens["frame_rate"]) == (16000, 50)
    audio = run("EnCodecDecode", codec=load("audiogen").codec, tokens=tokens)
    assert audio["sample_rate"] == 16000 and audio["waveform"].shape == (1, 1, 24000)
    assert torch.isfinite(audio["waveform"]).all() and audio["waveform"].std() > 0


def test_other_words_are_other_sounds(encode, sample):
    one, two = (sample(encode(text, "audiogen"), "audiogen")["codes"] for text in ("a dog barks", "rain on a roof"))
    assert not torch.equal(one, two)


def test_a_recording_of_any_rate_is_continued(encode, sample, run, load):
    codec = load("audiogen").codec
    prompt = run("EnCodecEncode", codec=codec, audio=sound(0.5, rate=44100, channels=2))
    assert prompt["codes"].shape == (1, 4, 25) and prompt["num_samples"] == 8000
    longer = sample(encode("rain", "audiogen"), "audiogen", prompt=prompt, duration=1.0)
    assert torch.equal(longer["codes"][:, :, :25], prompt["codes"])
    assert run("EnCodecDecode", codec=codec, tokens=prompt)["waveform"].shape == (1, 1, 8000)


def test_a_long_sound_moves_on_by_two_seconds_of_its_ten(encode, sample, load):
    windows = importlib.import_module(f"{PACK}.musicgen.generation.windows")
    params = importlib.import_module(f"{PACK}.musicgen.generation.params")
    c = load("audiogen").model.config
    plan = windows.plan_windows(params.GenerationParams(13.0), 50, model_window=c.window, model_stride=c.extend_stride)
    assert [(w.first, w.num_frames, w.prompt_frames) for w in plan] == [(0, 500, 0), (100, 500, 400), (200, 450, 400)]
    tokens = sample(encode("rain", "audiogen"), "audiogen", duration=10.5)
    assert tokens["codes"].shape == (1, 4, 525)
    first = sample(encode("rain", "audiogen"), "audiogen", duration=10.0)
    assert torch.equal(tokens["codes"][:, :, :500], first["codes"])


def test_music_s_tokens_and_descriptions_are_refused(encode, sample, run, load):
    with pytest.raises(ValueError, match=r"the model tiny/audiogen needs \[1, tokens, 1024\]"):
        sample(encode("jazz", "text"), "audiogen")
    with pytest.raises(ValueError, match="belong to the codec of tiny/text"):
        sample(encode("rain", "audiogen"), "audiogen", prompt=sample(encode("jazz")))
    with pytest.raises(ValueError, match="tiny/audiogen is a text model and cannot follow a melody"):
        sample(encode("rain", "audiogen"), "audiogen", melody=run("MelodyChroma", audio=sound(1.0))[0])
