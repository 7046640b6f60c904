"""Drift of long pieces, and the guard that has windows drawn again, on a small model."""

from __future__ import annotations

import math

import pytest
import torch

from musicgen import GenerationParams, load_model
from musicgen.evaluation.drift import DriftGuard, drift_from, drift_over_time, ending_fit, traits_of
from tests.conftest import ROOT

RATE = 16000


def chord(hertz: tuple[float, ...], seconds: float, level: float = 0.2) -> torch.Tensor:
    """A chord of tones with three overtones each, `[1, L]`."""
    time = torch.arange(int(seconds * RATE)) / RATE
    tones = [torch.sin(2 * math.pi * f * n * time) / n for f in hertz for n in (1, 2, 3, 4)]
    return level * torch.stack(tones).mean(dim=0)[None]


A_MINOR, C_MAJOR, E_FLAT = (220.0, 261.63, 329.63), (261.63, 329.63, 392.0), (311.13, 392.0, 466.16)


def test_a_level_a_filter_and_a_key_are_told_apart():
    first = traits_of(chord(C_MAJOR, 3), RATE)
    same = drift_from(first, traits_of(chord(C_MAJOR, 3), RATE))
    assert same.cost < 1e-3
    louder = drift_from(first, traits_of(2 * chord(C_MAJOR, 3), RATE))
    assert louder.level == pytest.approx(6.02, abs=0.05) and louder.spectrum < 0.1 and louder.key < 0.01
    other = drift_from(first, traits_of(chord(E_FLAT, 3), RATE))
    assert other.key > 0.5 and abs(other.level) < 1.5
    noise = 0.02 * torch.randn(1, 3 * RATE, generator=torch.Generator().manual_seed(0))
    hissing = drift_from(first, traits_of(chord(C_MAJOR, 3) + noise, RATE))
    assert hissing.spectrum > 5
    gone = drift_from(first, traits_of(torch.zeros(1, 3 * RATE), RATE))
    assert math.isinf(gone.cost) and "silent" in str(gone)


def test_a_piece_that_begins_with_silence_has_a_drift_that_is_finite():
    found = drift_over_time(torch.cat([torch.zeros(1, 2 * RATE), chord(C_MAJOR, 4)], dim=1), RATE, 2.0)
    assert len(found) == 3 and math.isinf(found[0].cost) and found[1].cost < 1e-3 and found[2].cost < 0.5


def test_an_end_on_the_key_note_fits_better_than_another():
    fits = [ending_fit(chord(notes, 2), RATE, (0, "major")) for notes in (C_MAJOR, A_MINOR, E_FLAT)]
    assert fits[0] > 0.9 and fits[0] > fits[1] > fits[2]


@pytest.fixture(scope="module")
def model():
    return load_model(ROOT / "models" / "musicgen-nano")


TEXT = "happy folk with a guitar melody, piano chords, bass and drums, 125 bpm, in d major"


def params(**changes) -> GenerationParams:
    return GenerationParams(**({"duration": 8.0, "window": 3.0, "extend_stride": 1.8, "seed": 3} | changes))


def guarded(model, tries, texts=(TEXT,), tolerance=0.2, **changes):
    guard = DriftGuard(model.decode, model.sample_rate, model.frame_rate, tries=tries, tolerance=tolerance)
    return model.generate(list(texts), params(**changes), guard=guard), guard


def test_a_guard_that_only_measures_changes_no_code(model):
    codes, guard = guarded(model, 1)
    assert torch.equal(codes, model.generate([TEXT], params()))
    windows = guard.windows[0]
    assert [each.start for each in windows] == [0, 3, 4.8, 6.6] and [each.end for each in windows] == [3, 4.8, 6.6, 8]
    assert windows[0].drift.cost == 0 and all(each.drawn == 1 for each in windows)


def test_windows_are_drawn_again_and_each_item_is_the_item_alone(model):
    together, guard = guarded(model, 3, [TEXT, TEXT])
    plain = guarded(model, 1, [TEXT, TEXT])[1]
    assert any(each.drawn > 1 for each in guard.windows[0])
    assert torch.equal(together, guarded(model, 3, [TEXT, TEXT])[0])
    assert torch.equal(together[1:], guarded(model, 3, seed=4)[0])
    for item in (0, 1):  # up to the first window that was drawn again, both are the same piece
        first = next(n for n, each in enumerate(guard.windows[item]) if each.drawn > 1)
        assert guard.windows[item][first].drift.cost <= plain.windows[item][first].drift.cost


@pytest.mark.parametrize("pattern", ["delay", "parallel", "flatten", "coarse_first"])
def test_every_pattern_is_filled_and_equals_the_slow_definition(model, pattern):
    changes = {"pattern": pattern, "duration": 1.2, "window": 0.6, "extend_stride": 0.3}
    codes = guarded(model, 2, [TEXT, TEXT], tolerance=0.01, **changes)[0]
    assert codes.shape == (2, 4, 60) and int(codes.min()) >= 0
    assert torch.equal(codes[:1], guarded(model, 2, tolerance=0.01, **changes)[0])


def test_progress_shows_a_window_once_it_stays(model):
    seen = []

    def on_step(progress):
        seen.append((progress.step, progress.total, int((progress.codes()[0] >= 0).all(dim=0).sum())))

    guard = DriftGuard(model.decode, model.sample_rate, model.frame_rate, tries=2, tolerance=0.01)
    model.generate([TEXT], params(duration=2.0, window=1.0, extend_stride=0.6), guard=guard, on_step=on_step)
    assert seen[-1][0] == seen[-1][1] and seen[-1][2] == 100
    known = [frames for _, _, frames in seen]
    assert known == sorted(known) and {each for each in known if each >= 50} == {50, 80, 100}
    assert [step for step, *_ in seen] != sorted({step for step, *_ in seen})  # steps of second tries stand still


def test_greedy_windows_are_not_drawn_again(model):
    guard = guarded(model, 3, tolerance=0.01, temperature=0.0, duration=2.0, window=1.0, extend_stride=0.6)[1]
    assert all(each.drawn == 1 for each in guard.windows[0])


def test_bad_numbers_are_refused(model):
    with pytest.raises(ValueError, match="tries is 0; allowed is at least 1"):
        DriftGuard(model.decode, RATE, 50, tries=0)
    with pytest.raises(ValueError, match="tolerance is 0; allowed is above 0"):
        DriftGuard(model.decode, RATE, 50, tolerance=0)
