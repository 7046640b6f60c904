"""Pictures from the plot node."""

from __future__ import annotations

import pytest
import torch

from .conftest import sound

SOUND = ["spectrogram", "waveform", "loudness", "melody"]
TOKENS = ["codes", "pattern"]


@pytest.fixture
def plot(run, comfy, tmp_path, monkeypatch):
    monkeypatch.setattr(comfy.folder_paths, "temp_directory", str(tmp_path))
    return lambda kind, theme="dark", **inputs: run("Plot", plot=kind, theme=theme, **inputs)


def is_picture(image, batch, height=384, width=768):
    assert image.shape == (batch, height, width, 3) and image.dtype == torch.float32
    assert 0 <= image.min() and image.max() <= 1
    return all(len(item.reshape(-1, 3).unique(dim=0)) > 20 for item in image)


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("kind", SOUND)
def test_sound_gives_one_picture_for_each_item(plot, kind, theme):
    image = plot(kind, theme, audio=sound(1.0, channels=2, batch=2))
    assert is_picture(image, 2)
    assert (image[:, 0, 0].mean() > 0.5) == (theme == "light")


@pytest.mark.parametrize("name", ["text", "stereo"])
@pytest.mark.parametrize("kind", TOKENS)
def test_tokens_give_pictures(plot, encode, sample, kind, name):
    tokens = sample(encode("jazz", name), name, batch_size=2)
    assert is_picture(plot(kind, tokens=tokens), 2 if kind == "codes" else 1)


def test_each_pattern_has_a_picture_of_its_own(plot, encode, sample):
    names = ("auto", "parallel", "flatten", "coarse_first", "musiclm")
    pictures = [plot("pattern", tokens=sample(encode("jazz"), pattern=name), title="x") for name in names]
    assert len({picture.numpy().tobytes() for picture in pictures}) == len(names)
    own = plot("pattern", tokens=sample(encode("jazz"), pattern="delay"), title="x")
    assert torch.equal(own, pictures[0])


def test_a_title_and_a_size_change_the_picture(plot):
    audio = sound(0.5)
    assert not torch.equal(plot("waveform", audio=audio), plot("waveform", audio=audio, title="mine"))
    assert plot("waveform", audio=audio, width=256, height=160).shape == (1, 160, 256, 3)


def test_a_melody_needs_no_audio(plot, run):
    melody, _ = run("MelodyChroma", audio=sound(1.0))
    assert torch.equal(plot("melody", melody=melody), plot("melody", audio=sound(1.0)))


@pytest.mark.parametrize("kind", SOUND)
@pytest.mark.parametrize("samples", [1, 500])
def test_silence_and_the_shortest_sound_have_pictures(plot, kind, samples):
    for audio in (torch.zeros(1, 1, samples), torch.ones(1, 2, samples)):
        assert plot(kind, audio={"waveform": audio, "sample_rate": 32000}).shape[0] == 1


def test_a_plot_without_its_input_is_refused(plot, run, load):
    for kind, word in [("codes", "draws tokens"), ("waveform", "draws audio"), ("melody", "draws audio or a melody")]:
        with pytest.raises(ValueError, match=word):
            plot(kind)
    recording = run("EnCodecEncode", codec=load("text").codec, audio=sound(0.5))
    with pytest.raises(ValueError, match="no pattern sampled them"):
        plot("pattern", tokens=recording)
