"""Small pure functions on sound and pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from musicgen.audio import check_audio, check_rate, convert_channels, downmix, resample
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


# The coefficients of ITU-R BS.775 for a signal in one channel alone: (left, right) by channel.
HALF, ROOT = 0.5, 0.5**0.5
STEREO, CENTRE, LOW, SURROUND = [(1, 0), (0, 1)], [(ROOT, ROOT)], [(0, 0)], [(ROOT, 0), (0, ROOT)]
LAYOUTS = {
    3: STEREO + CENTRE,
    4: STEREO + SURROUND,
    5: STEREO + CENTRE + SURROUND,
    6: STEREO + CENTRE + LOW + SURROUND,
    7: STEREO + CENTRE + LOW + [(HALF, HALF)] + SURROUND,
    8: STEREO + CENTRE + LOW + SURROUND + SURROUND,
}


@pytest.mark.parametrize("channels", LAYOUTS)
def test_surround_sound_is_mixed_by_the_coefficients_of_the_standard(channels):
    alone = 0.5 * torch.eye(channels)[:, :, None]  # item i sounds in channel i
    expected = 0.5 * torch.tensor(LAYOUTS[channels])[:, :, None]
    torch.testing.assert_close(downmix(alone), expected.float())
    mono = convert_channels(alone, 1)
    torch.testing.assert_close(mono, expected.float().mean(dim=1, keepdim=True))


def test_a_mix_beyond_full_scale_is_lowered_to_it_item_by_item():
    audio = torch.stack([torch.ones(6, 10), 0.1 * torch.ones(6, 10)])
    peaks = downmix(audio).abs().flatten(1).amax(dim=1)
    assert peaks.tolist() == pytest.approx([1.0, 0.1 * (1 + 2 * ROOT)])


def test_channels_without_a_standard_order_are_averaged():
    audio = torch.rand(1, 12, 9)
    torch.testing.assert_close(downmix(audio), audio.mean(dim=1, keepdim=True).expand(-1, 2, -1))


class TestWhatIsTaken:
    """Sound as people have it: taken for the same sound as floats, or refused in a sentence."""

    tone = 0.5 * torch.sin(torch.arange(4000, dtype=torch.float64) / 10)[None, None]

    @pytest.mark.parametrize(
        ("dtype", "full_scale", "middle"),
        [
            (torch.int8, 2**7, 0),
            (torch.uint8, 2**7, 2**7),
            (torch.int16, 2**15, 0),
            (torch.int32, 2**31, 0),
        ],
    )
    def test_whole_numbers_are_scaled_to_floats(self, dtype, full_scale, middle):
        whole = (self.tone * full_scale + middle).round().to(dtype)
        taken = check_audio(whole, 32000)
        assert taken.dtype == torch.float32
        torch.testing.assert_close(taken, self.tone.float(), atol=max(1.0 / full_scale, 1e-6), rtol=0)
        lowest = torch.full((1, 1, 1), torch.iinfo(dtype).min, dtype=dtype)
        assert check_audio(lowest, 32000).item() == -1.0

    @pytest.mark.parametrize("kind", ["<i2", ">i2", "<f4", ">f8", "u1"])
    def test_arrays_of_any_byte_order_and_direction_are_taken(self, kind):
        scale, middle = {"i": (2**15, 0), "f": (1, 0), "u": (2**7, 2**7)}[np.dtype(kind).kind]
        array = (self.tone.numpy() * scale + middle).astype(kind)
        taken = check_audio(array[..., ::-1], 32000)
        torch.testing.assert_close(taken, self.tone.float().flip(-1), atol=2.0 / scale if scale > 1 else 1e-6, rtol=0)

    def test_a_read_only_array_is_taken_and_not_shared(self):
        array = self.tone.numpy().astype(np.float32)
        array.flags.writeable = False
        assert check_audio(array, 32000).shape == (1, 1, 4000)

    @pytest.mark.parametrize(
        ("audio", "sentence"),
        [
            (torch.zeros(1, 1, 9, dtype=torch.int64), "whole numbers of 64 bits, whose full scale is unknown"),
            (torch.zeros(1, 1, 9, dtype=torch.bool), "holds torch.bool; allowed are floats"),
            (torch.zeros(1, 1, 9, dtype=torch.complex64), "holds torch.complex64"),
            (torch.full((1, 1, 9), 12000.0), "runs from 12000 to 12000; allowed are floats of about -1 to 1"),
            (torch.zeros(1, 32000, 2), "32000 channels of 2 samples"),
            ("song.wav", r"audio is 'song.wav' \(str\); allowed is a tensor"),
            (Path("song.wav"), "audio is .*song.wav.*; allowed is a tensor"),
            ([0.0, 0.5], r"audio is \[0.0, 0.5\] \(list\); allowed is a tensor"),
            (None, "audio is None"),
            (np.array([["a"]]), "audio is array"),
        ],
    )
    def test_another_kind_of_value_is_named_in_one_sentence(self, audio, sentence):
        with pytest.raises(ValueError, match=sentence) as refused:
            check_audio(audio, 32000)
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("rate", ["44100", None, 0, -1, 0.5, float("nan"), True, [44100]])
    def test_a_sample_rate_that_is_none_is_refused_by_its_name(self, rate):
        with pytest.raises(ValueError, match=r"audio has a sample.rate of"):
            check_audio(torch.zeros(1, 1, 9), rate)

    @pytest.mark.parametrize("rate", [44100, 44100.0, np.int64(44100), torch.tensor(44100)])
    def test_a_whole_sample_rate_of_any_type_is_taken(self, rate):
        assert check_rate(rate) == 44100


@pytest.mark.parametrize("rates", [(44100, 32000), (48000, 32000), (22050, 32000), (16000, 24000), (192000, 16000)])
def test_an_excerpt_is_resampled_without_a_click_at_its_ends(rates):
    """Outside of it its first and last sample go on, as in the resampler that MusicGen was trained behind."""
    constant = resample(torch.full((2, 1, rates[0] // 10), 0.5), *rates)
    torch.testing.assert_close(constant, torch.full_like(constant, 0.5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("length", [1, 7, 1000, 22050])
@pytest.mark.parametrize("rates", [(44100, 32000), (48000, 32000), (22050, 32000), (16000, 24000)])
def test_resampling_equals_the_formula_of_julius_up_to_the_ends(rates, length):
    wave = torch.rand(2, length, generator=torch.Generator().manual_seed(1)) - 0.5
    torch.testing.assert_close(resample(wave, *rates), by_julius(wave, *rates), atol=1.1e-4, rtol=0)


def by_julius(wave, old, new, zeros=24, rolloff=0.945):
    """Sinc interpolation under a squared cosine, with the edge samples going on outside: julius's ResampleFrac."""
    old, new = old // math.gcd(old, new), new // math.gcd(old, new)
    rate = min(old, new) * rolloff
    width = math.ceil(zeros * old / rate)
    time = torch.arange(-width, width + old) / old - torch.arange(new)[:, None] / new
    angle = (time * rate).clamp(-zeros, zeros) * math.pi
    kernel = torch.cos(angle / zeros / 2) ** 2 * torch.sinc(angle / math.pi)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    padded = torch.nn.functional.pad(wave[:, None], (width, width + old), mode="replicate")
    out = torch.nn.functional.conv1d(padded, kernel[:, None], stride=old).transpose(1, 2).reshape(len(wave), -1)
    return out[:, : math.ceil(new * wave.shape[1] / old)]


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
