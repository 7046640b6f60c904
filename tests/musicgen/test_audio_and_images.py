"""Small pure functions on sound and pictures."""

from __future__ import annotations

import math

import pytest
import torch

from musicgen.audio import convert_channels, resample
from musicgen.images import chroma_image, codes_image


def test_resampling_keeps_pitch_and_level():
    wave = torch.sin(2 * math.pi * 440 * torch.arange(44100) / 44100)
    out = resample(wave, 44100, 32000)
    expected = torch.sin(2 * math.pi * 440 * torch.arange(32000) / 32000)
    assert out.shape == (32000,)
    torch.testing.assert_close(out[500:-500], expected[500:-500], atol=1e-3, rtol=0)


def test_a_rate_with_an_unwieldy_ratio_is_rounded_and_not_paid_for():
    wave = torch.sin(2 * math.pi * 440 * torch.arange(31999) / 31999)
    out = resample(wave, 31999, 44100)
    expected = torch.sin(2 * math.pi * 440 * torch.arange(44100) / 44100)
    assert abs(out.shape[0] - 44100) <= 2
    torch.testing.assert_close(out[500:40000], expected[500:40000], atol=2e-3, rtol=0)


def test_the_same_rate_is_left_alone():
    wave = torch.rand(1, 1, 10)
    assert resample(wave, 48000, 48000) is wave


def test_channels_are_kept_averaged_or_copied():
    wave = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert convert_channels(wave, 2) is wave
    assert convert_channels(wave, 1).tolist() == [[[2.0, 3.0]]]
    assert convert_channels(wave[:, :1], 2).tolist() == [[[1.0, 2.0], [1.0, 2.0]]]
    assert convert_channels(wave.repeat(1, 3, 1), 2).tolist() == [[[2.0, 3.0], [2.0, 3.0]]]


def test_a_picture_of_codes_shows_what_is_known_and_what_repeats():
    codes = torch.tensor([[0, 0, 63, -1], [5, 9, 5, -1]])
    image = codes_image(codes, 64, width=8, height=9)
    assert image.shape == (8, 8, 3) and image.dtype == torch.float32
    assert float(image.min()) >= 0.0 and float(image.max()) <= 1.0
    row = image[2]
    assert torch.equal(row[0], row[2]) and not torch.equal(row[0], row[4])
    assert torch.equal(row[6], image[6][6])


def test_a_picture_of_chroma_has_c_at_the_bottom():
    chroma = torch.zeros(3, 12)
    chroma[:, 0] = 1
    image = chroma_image(chroma, width=6, row_height=4)
    assert image.shape == (48, 6, 3)
    brightness = image.sum(-1).mean(1)
    assert int(brightness.argmax()) >= 44


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(1, 2, 3)])
def test_pictures_of_other_shapes_are_refused(bad):
    with pytest.raises(ValueError, match="shape"):
        codes_image(bad, 64)
    with pytest.raises(ValueError, match="shape"):
        chroma_image(bad)
