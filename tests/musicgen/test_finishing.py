"""The level, the beginning and the end of a long piece."""

from __future__ import annotations

import pytest
import torch

from musicgen.finishing import fade, hold_level, level_gains
from musicgen.loudness import integrated_loudness

RATE = 16000


def noise(seconds: float, level: float) -> torch.Tensor:
    return level * torch.randn(1, int(seconds * RATE), generator=torch.Generator().manual_seed(1))


def test_a_level_that_creeps_up_is_held():
    audio = torch.cat([noise(4, 0.05 * 10 ** (step / 20)) for step in range(0, 6)], dim=1)  # 5 dB in 24 s
    even = hold_level(audio, RATE, 4.0)
    levels = [float(integrated_loudness(part[None], RATE)) for part in even.split(4 * RATE, dim=1)]
    assert max(levels) - min(levels) < 0.7 and even.shape == audio.shape
    assert torch.equal(hold_level(audio[:, : 4 * RATE], RATE, 4.0), audio[:, : 4 * RATE])


def test_pauses_and_large_steps_are_not_taken_for_drift():
    audio = torch.cat(
        [noise(2, 0.1), torch.zeros(1, 2 * RATE), noise(2, 0.1 * 10 ** (-20 / 20)), noise(2, 0.07)], dim=1
    )
    gains = level_gains(audio, RATE, 2.0)
    assert gains[:3].tolist() == [0.0, 0.0, 0.0] and gains[3] == pytest.approx(3.1, abs=0.3)


def test_fades_begin_and_end_in_silence_and_leave_the_middle():
    audio = torch.ones(2, 10 * RATE)
    faded = fade(audio, RATE, beginning=1.0, ending=2.0)
    assert faded[:, 0].max() < 1e-4 and faded[:, -1].max() < 1e-4
    assert torch.equal(faded[:, RATE : 8 * RATE], audio[:, RATE : 8 * RATE])
    assert faded[0, RATE // 2] == pytest.approx(0.5, abs=1e-3) and faded[0, 9 * RATE] == pytest.approx(0.5, abs=1e-3)
    assert torch.equal(fade(audio, RATE), audio)
    assert fade(audio, RATE, beginning=99.0, ending=99.0).shape == audio.shape
    with pytest.raises(ValueError, match="fades are -1 and 0 s long"):
        fade(audio, RATE, beginning=-1.0)
