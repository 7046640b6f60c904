"""Beats lie where they were played, and where another library finds them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musicgen.evaluation.beats import beat_times
from musicgen.evaluation.curves import beat_curve

RATE = 16000


def drums(bpm: float, seconds: float, *, swing: float = 0.0, seed: int = 0) -> tuple[torch.Tensor, list[float]]:
    """A loud drum on each beat, a quiet one on most half beats, noise behind; and the times of the beats."""
    generator = torch.Generator().manual_seed(seed)
    sound = 0.003 * torch.randn(int(seconds * RATE), generator=generator)
    hit = torch.randn(1200, generator=generator) * torch.exp(-torch.arange(1200) / 200)
    beat, times, time = 60.0 / bpm, [], 0.25
    while time < seconds - 0.2:
        times.append(time)
        for place, level in ((time, 0.5), (time + beat * 0.5, 0.12)):
            start = int((place + swing * float(torch.randn(1, generator=generator))) * RATE)
            if 0 <= start < len(sound) - len(hit) and (level > 0.2 or torch.rand(1, generator=generator) < 0.8):
                sound[start : start + len(hit)] += level * hit
        time += beat
    return sound, times


def share_found(found: torch.Tensor, times: list[float]) -> float:
    """The F measure with 70 ms to either side, as beat trackers are compared."""
    hits = sum(any(abs(float(beat) - time) < 0.07 for beat in found) for time in times)
    return 2 * hits / (len(found) + len(times))


@pytest.mark.parametrize("bpm", [85.0, 97.3, 120.0, 135.0])
def test_beats_are_found_at_their_times(bpm):
    sound, times = drums(bpm, 10.0, swing=0.008)
    found, tempo = beat_times(sound, RATE)
    assert tempo == pytest.approx(bpm, rel=0.02) and share_found(found, times) > 0.95


@pytest.mark.parametrize("bpm", [60.0, 170.0])
def test_beats_of_any_tempo_are_found_where_it_is_known(bpm):
    sound, times = drums(bpm, 10.0, swing=0.008)
    assert share_found(beat_times(sound, RATE, bpm)[0], times) > 0.95


def test_another_library_finds_the_same_beats():
    import librosa

    sound, times = drums(110.0, 12.0, swing=0.01, seed=3)
    _, theirs = librosa.beat.beat_track(y=sound.numpy(), sr=RATE, units="time", start_bpm=110)
    found, _ = beat_times(sound, RATE)
    assert share_found(found, np.asarray(theirs).tolist()) > 0.9
    assert share_found(found, times) >= share_found(torch.tensor(theirs), times) - 0.05


@pytest.mark.parametrize("sound", [torch.zeros(5 * RATE), torch.zeros(10), 0.5 * torch.ones(3 * RATE)])
def test_a_sound_without_onsets_has_no_beats(sound):
    found, tempo = beat_times(sound, RATE)
    assert len(found) <= 1 and (tempo == 0.0 or len(found) == 1)


def test_a_tempo_that_is_none_is_refused():
    with pytest.raises(ValueError, match="bpm is 0; allowed is above 0"):
        beat_times(torch.zeros(3 * RATE), RATE, 0.0)


def test_a_beat_is_one_picture_and_fades():
    curve = beat_curve(torch.tensor([0.0, 0.5, 9.0], dtype=torch.float64), 10.0, 10, fade=0.1)
    assert curve[[0, 5]].tolist() == [1, 1] and curve[1] == pytest.approx(np.exp(-1)) and curve[4] < 0.02
