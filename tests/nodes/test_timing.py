"""Lengths from elsewhere, and curves for pictures."""

from __future__ import annotations

import json
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch

from .conftest import sound

WIDGETS = {"source": "connected", "fps": 24.0, "bars": 8.0, "bpm": 120.0, "beats_per_bar": 4}


@pytest.fixture
def length(run):
    return lambda **changes: run("Duration", **(WIDGETS | changes))


class TestDuration:
    def test_bars_count_where_nothing_is_connected(self, length):
        assert length() == (16.0, 384, 24.0)
        assert length(bars=2, bpm=90, beats_per_bar=3)[0] == 4.0
        assert length(bars=1, bpm=133.3)[0] == pytest.approx(240 / 133.3, abs=1e-12)

    @pytest.mark.parametrize(
        ("fps", "exact"), [(25.0, Fraction(25)), (23.98, Fraction(24000, 1001)), (29.97, Fraction(30000, 1001))]
    )
    def test_images_last_as_long_as_their_frames(self, length, fps, exact):
        seconds, frames, rate = length(images=torch.zeros(101, 2, 2, 3), fps=fps)
        assert (seconds, frames, rate) == (float(101 / exact), 101, float(exact))

    def test_audio_lasts_as_long_as_its_samples(self, length):
        assert length(audio=sound(1.5, rate=44100)) == (1.5, 36, 24.0)

    def test_a_video_lasts_as_long_as_its_frames(self, comfy, length):
        from comfy_api.latest import InputImpl, Types

        parts = Types.VideoComponents(images=torch.zeros(50, 4, 4, 3), frame_rate=Fraction(30000, 1001), audio=None)
        video = InputImpl.VideoFromComponents(parts)
        assert length(video=video, audio=sound(9.0)) == (float(50 * Fraction(1001, 30000)), 50, 30000 / 1001)
        assert length(video=video, audio=sound(9.0), source="audio")[0] == 9.0

    def test_frames_are_counted_where_the_host_does_not(self, length):
        parts = SimpleNamespace(images=torch.zeros(7, 2, 2, 3), frame_rate=Fraction(25))
        assert length(video=SimpleNamespace(get_components=lambda: parts)) == (0.28, 7, 25.0)

    def test_the_decoded_sound_is_exactly_that_long(self, length, encode, sample, run, load):
        seconds, _, fps = length(images=torch.zeros(13, 2, 2, 3), fps=29.97)
        tokens = sample(encode("jazz"), duration=seconds)
        audio = run("EnCodecDecode", codec=load("text").codec, tokens=tokens)
        assert audio["waveform"].shape[2] == round(13 / fps * audio["sample_rate"])

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"source": "video"}, "nothing is connected to video"),
            ({"bars": 1000.0, "bpm": 20.0, "beats_per_bar": 32}, "length is 96000 seconds; allowed"),
            ({"video": "clip.mp4"}, "allowed is a VIDEO"),
            ({"images": torch.zeros(3, 3)}, "allowed is a batch"),
            ({"audio": sound(0.0)}, "length is 0 seconds"),
        ],
    )
    def test_other_things_are_refused(self, length, changes, words):
        with pytest.raises(ValueError, match=words):
            length(**changes)


class TestCurves:
    @pytest.fixture
    def beats(self):
        """Clicks at 0.5, 1, 1.5 s in a quiet tone of 2 s."""
        audio = sound(2.0)
        audio["waveform"] *= 0.02
        for start in (16000, 32000, 48000):
            audio["waveform"][0, 0, start : start + 800] = torch.rand(800, generator=torch.Generator().manual_seed(1))
        return audio

    def test_onsets_are_at_the_beats_and_there_is_one_value_for_each_picture(self, run, beats):
        onset_mask, loudness_mask, onsets, loudness = run("Curves", audio=beats, fps=20.0, fade=0.0)[:4]
        assert onset_mask.shape == loudness_mask.shape == (40, 64, 64) and len(onsets) == len(loudness) == 40
        found = [index for index, value in enumerate(onsets) if value > 0.5]
        assert all(min(abs(index - beat) for beat in (10, 20, 30)) <= 1 for index in found)
        assert {round(index / 10) for index in found} == {1, 2, 3}
        assert torch.equal(onset_mask[:, 5, 7], torch.tensor(onsets)) and max(onsets) == max(loudness) == 1.0
        json.dumps([onsets, loudness])

    def test_an_onset_fades_and_pictures_after_the_end_get_nothing(self, run, beats):
        onsets, loudness = run("Curves", audio=beats, fps=20.0, frames=60, fade=0.2)[2:4]
        assert onsets[12] > 0.3 and len(onsets) == 60
        assert loudness[45:] == [0.0] * 15

    def test_a_picture_that_begins_within_the_sound_is_never_beyond_its_curve(self, run):
        loudness = run("Curves", audio=sound(0.95), fps=50.0)[3]
        assert len(loudness) == 48 and min(loudness) > 0.5

    def test_silence_has_no_curves(self, run):
        audio = {"waveform": torch.zeros(1, 2, 32000), "sample_rate": 32000}
        onsets, loudness, mask, beats, bpm = run("Curves", audio=audio, fps=10.0)[2:]
        assert onsets == loudness == beats == [0.0] * 10 and bpm == 0.0 and not mask.any()

    def test_beats_go_on_where_nothing_is_struck(self, run):
        """Clicks at 120 bpm for 8 s, of which two are left out."""
        audio = sound(8.0)
        audio["waveform"] *= 0.01
        noise = torch.rand(800, generator=torch.Generator().manual_seed(1))
        for click in (*range(6), *range(8, 16)):
            audio["waveform"][0, 0, click * 16000 : click * 16000 + 800] = noise
        mask, beats, bpm = run("Curves", audio=audio, fps=20.0, fade=0.0)[4:]
        found = [index for index, value in enumerate(beats) if value == 1]
        assert bpm == pytest.approx(120, rel=0.01) and len(found) in (15, 16)
        assert all(abs(index - 10 * round(index / 10)) <= 1 for index in found)
        assert {round(index / 10) for index in found} >= {6, 7}
        assert torch.equal(mask[:, 3, 3], torch.tensor(beats))

    @pytest.mark.parametrize("samples", [1, 100, 5000])
    def test_a_short_sound_gives_at_least_one_value(self, run, samples):
        audio = {"waveform": torch.rand(1, 1, samples), "sample_rate": 32000}
        assert len(run("Curves", audio=audio, fps=24.0)[2]) >= 1
