"""Peak and loudness: held against the standard's own numbers and against pyloudnorm."""

from __future__ import annotations

import math

import pyloudnorm
import pytest
import torch

from musicgen.loudness import apply_gain, integrated_loudness, k_filters, loudness_gain, peak_db, unclipped_gain

RATES = (16000, 22050, 32000, 44100, 48000)


def noise(seconds, rate, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, round(seconds * rate), generator=generator) * 0.1


def tone(level_db, rate, seconds=5.0, pitch=997.0, channels=1):
    """A tone of 997 Hz, as in the standard's own example."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (10 ** (level_db / 20) * torch.sin(2 * math.pi * pitch * time)).float().expand(1, channels, -1)


def by_pyloudnorm(audio, rate):
    # Its filters of that name are the standard's; those of its default are near them.
    return pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(audio[0].T.double().numpy())


def test_at_48_khz_the_filters_are_those_that_the_standard_tabulates():
    (shelf, shelf_poles), (high_pass, high_pass_poles) = k_filters(48000)
    assert shelf == pytest.approx((1.53512485958697, -2.69169618940638, 1.19839281085285), abs=1e-9)
    assert shelf_poles == pytest.approx((1.0, -1.69065929318241, 0.73248077421585), abs=1e-9)
    assert high_pass == (1.0, -2.0, 1.0)
    assert high_pass_poles == pytest.approx((1.0, -1.99004745483398, 0.99007225036621), abs=1e-9)


def test_the_standards_example_a_full_scale_tone_in_one_channel_has_minus_3_01_lufs():
    assert integrated_loudness(tone(0.0, 48000), 48000).item() == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_loudness_is_that_of_pyloudnorm(rate, channels):
    quiet_and_loud = torch.cat(
        [noise(4, rate, channels), 0.001 * noise(3, rate, channels, 1), 4 * noise(6, rate, channels, 2)], dim=2
    )
    for audio in (noise(3, rate, channels), quiet_and_loud, tone(-23.0, rate, channels=channels)):
        assert integrated_loudness(audio, rate).item() == pytest.approx(by_pyloudnorm(audio, rate), abs=2e-3)


def test_a_long_piece_is_measured_in_chunks_that_leave_no_seam():
    audio = noise(35, 16000) * torch.linspace(0.1, 2, 35 * 16000)
    assert integrated_loudness(audio, 16000).item() == pytest.approx(by_pyloudnorm(audio, 16000), abs=1e-3)


def test_silence_has_no_loudness_and_keeps_its_level():
    silence = torch.zeros(1, 2, 32000)
    assert integrated_loudness(silence, 32000).item() == peak_db(silence).item() == -math.inf
    assert loudness_gain(silence, 32000, -14.0).item() == unclipped_gain(silence).item() == 0.0


@pytest.mark.parametrize("samples", [1, 100, 12799])
def test_a_sound_shorter_than_a_block_counts_as_one(samples):
    audio = noise(1, 32000)[:, :, :samples]
    assert math.isfinite(integrated_loudness(audio, 32000).item())


def test_only_a_peak_beyond_full_scale_is_lowered_and_then_to_minus_1_dbfs():
    audio = torch.cat([tone(level, 32000, 1.0) for level in (-6.0, 0.0, 2.3)])
    gain = unclipped_gain(audio)
    assert gain.tolist() == pytest.approx([0.0, 0.0, -3.3], abs=2e-3)
    lowered = apply_gain(audio, gain)
    assert torch.equal(lowered[:2], audio[:2])
    assert peak_db(lowered)[2].item() == pytest.approx(-1.0, abs=1e-3)


def test_a_loudness_is_reached_where_the_peak_allows_it_and_else_the_peak_is_minus_1_dbfs():
    audio = torch.cat([tone(-30.0, 32000), tone(-3.0, 32000), tone(-30.0, 32000)])
    audio[2, :, 5000] = 0.5  # a click
    reached = apply_gain(audio, loudness_gain(audio, 32000, -14.0))
    assert integrated_loudness(reached, 32000)[:2].tolist() == pytest.approx([-14.0, -14.0], abs=0.01)
    assert peak_db(reached)[2].item() == pytest.approx(-1.0, abs=1e-3)
    assert integrated_loudness(reached, 32000)[2] < -20


def test_each_item_is_measured_as_it_is_alone():
    audio = torch.cat([noise(3, 32000, 2, seed) * (1 + seed) for seed in range(3)])
    together = integrated_loudness(audio, 32000)
    for item in range(3):
        assert integrated_loudness(audio[item : item + 1], 32000).item() == together[item].item()


def test_more_than_two_channels_are_refused():
    with pytest.raises(ValueError, match="1 or 2 channels"):
        integrated_loudness(torch.zeros(1, 6, 100), 48000)
