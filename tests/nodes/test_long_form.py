"""MusicGen Long Form, with the sampler and the decoder that it is connected to."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def long_form(run):
    widgets = {"tries": 3, "tolerance": 0.1, "even": True, "ending": "as it comes", "fade_out": "0.2s"}
    return lambda **changes: run("LongForm", **(widgets | {"window": "1s", "overlap": "0.4s"} | changes))


@pytest.fixture
def lines(host, monkeypatch):
    """The lines that nodes show."""
    shown = []
    monkeypatch.setattr(host.progress, "show", lambda node_id, text: shown.append(text))
    return shown


def test_windows_are_drawn_again_and_their_drift_is_told(long_form, sample, encode, lines):
    piece = {"positive": encode("jazz"), "duration": 2.5}
    plain = sample(**piece)
    measured = sample(**piece, long_form=long_form(tries=1))
    again = sample(**piece, long_form=long_form())
    assert again["codes"].shape == plain["codes"].shape == (1, 4, 125)
    assert torch.equal(measured["codes"][..., :50], again["codes"][..., :50])
    told = [text for text in lines if text.startswith("Drift from the first window")]
    assert len(told) == 2 and "0 of 3 windows were drawn again" in told[0]
    assert "1 to 1.6 s: level " in told[0] and "spectrum" in told[0] and "(try " in told[1]
    assert again["recipe"]["long_form"]["tries"] == 3 and "long_form" not in plain["recipe"]


def test_item_i_is_the_item_alone(long_form, sample, encode):
    piece = {"positive": encode("jazz"), "duration": 2.0, "long_form": long_form()}
    batch = sample(**piece, batch_size=2, seed=5)
    assert torch.equal(batch["codes"][1:], sample(**piece, seed=6)["codes"])


def test_a_piece_of_one_window_is_the_same_with_and_without(long_form, sample, encode):
    piece = {"positive": encode("jazz"), "duration": 0.8}
    assert torch.equal(sample(**piece)["codes"], sample(**piece, long_form=long_form(window="", overlap=""))["codes"])


def test_a_melody_is_followed_in_every_window(long_form, sample, encode, run, lines):
    from .conftest import sound

    melody, _ = run("MelodyChroma", audio=sound(1.0))
    tokens = sample(encode("jazz", "melody"), "melody", duration=2.0, melody=melody, long_form=long_form())
    assert tokens["codes"].shape[2] == 100 and any("Drift" in text for text in lines)


def test_the_decoder_holds_the_level_and_fades(long_form, sample, encode, run, load):
    tokens = sample(encode("jazz"), duration=2.0)
    decode = {"codec": load("text").codec, "tokens": tokens, "level": "as it is"}
    plain = run("EnCodecDecode", **decode)["waveform"]
    faded = run("EnCodecDecode", **decode, long_form=long_form(ending="fade out", fade_in="0.1s"))["waveform"]
    assert faded.shape == plain.shape and torch.equal(faded[..., 4000:-7000], plain[..., 4000:-7000])
    assert faded[..., 0].abs().max() < 1e-4 and faded[..., -1].abs().max() < 1e-4
    rests = run("EnCodecDecode", **decode, long_form=long_form(ending="on the key note"))["waveform"]
    assert torch.equal(rests[..., :-3200], plain[..., :-3200]) and not torch.equal(
        rests[..., -3000:], plain[..., -3000:]
    )


def test_lengths_may_be_bars(long_form):
    found = long_form(window="2 bars", overlap="1 bar", fade_out="2 beats", ending="fade out", bpm=120.0)
    assert (found.window, found.overlap, found.fade_out) == (4.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": "soon"}, "'soon' is not a length; allowed is"),
        ({"overlap": "2s"}, "the overlap is 2 s and the window 1 s; allowed is an overlap above 0"),
        ({"fade_out": "-1s", "ending": "fade out"}, "is not a length"),
    ],
)
def test_bad_lengths_are_refused_in_a_sentence(long_form, changes, words):
    with pytest.raises(ValueError, match=words):
        long_form(**changes)


def test_an_overlap_beyond_the_models_own_window_is_refused(long_form, sample, encode):
    with pytest.raises(ValueError, match="the overlap is 40 s; allowed is less than the window, 30 s"):
        sample(encode("jazz"), long_form=long_form(window="", overlap="40s"))
