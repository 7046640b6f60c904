"""Drift of long pieces by the bundled models, with and without the guard: the rows of `longform.py --drift`."""

from __future__ import annotations

import statistics
import time
from typing import Any

from measuring import ROOT
from torch import Tensor

from musicgen import GenerationParams, MusicGen, load_model
from musicgen.evaluation.drift import Drift, DriftGuard, drift_over_time
from musicgen.finishing import hold_level

DESCRIPTIONS = (
    "happy folk with a guitar melody, piano chords, bass and drums, 125 bpm, in d major",
    "moody lofi hip hop with an electric piano melody, deep bass and laid back drums, 83 bpm, in a minor",
    "rock with trumpet melody, bass guitar and rock drums, 150 bpm, in e minor",
    "ambient with warm pads, soft bells melody, slow, 75 bpm, in c major",
)
STRETCH = 10.0


def drift_rows(pieces: int, seconds: float, tries: int) -> list[dict[str, Any]]:
    """Measure pieces whose windows are drawn once, and at most `tries` times.

    The drift is measured anew, of the whole sound in stretches of 10 s, which are not the stretches of the guard.
    """
    model = load_model(ROOT / "models" / "musicgen-nano")
    texts: list[str | None] = [DESCRIPTIONS[piece % len(DESCRIPTIONS)] for piece in range(pieces)]
    rows = []
    for most in (1, tries):
        guard = DriftGuard(model.decode, model.sample_rate, model.frame_rate, tries=most)
        began = time.process_time()
        codes = model.generate(texts, GenerationParams(seconds, seed=3, cfg_coef=2.0), guard=guard)
        spent = time.process_time() - began
        drawn = [each.drawn for windows in guard.windows.values() for each in windows[1:]]
        rows.append({"tries": most, "seconds": spent, "drawn": statistics.mean(drawn), **_figures(model, codes)})
    return rows


def _figures(model: MusicGen, codes: Tensor) -> dict[str, float]:
    """Means over all stretches after the first, the worst and the last stretch, and the share beyond the bound."""
    sounds = [model.decode(row)[0] for row in codes.split(1)]
    pieces = [drift_over_time(sound, model.sample_rate, STRETCH) for sound in sounds]
    held = [drift_over_time(hold_level(sound, model.sample_rate), model.sample_rate, STRETCH) for sound in sounds]
    later: list[Drift] = [drift for piece in pieces for drift in piece[1:]]
    return {
        "level": statistics.mean(abs(each.level) for each in later),
        "held": statistics.mean(abs(each.level) for piece in held for each in piece[1:]),
        "spectrum": statistics.mean(each.spectrum for each in later),
        "key": statistics.mean(each.key for each in later),
        "cost": statistics.mean(each.cost for each in later),
        "beyond": statistics.mean(each.cost > 1 for each in later),
        "worst": max(each.cost for each in later),
        "last": statistics.mean(piece[-1].cost for piece in pieces),
    }


def drift_line(row: dict[str, Any]) -> str:
    """A row as text."""
    return (
        f"{row['tries']} tries: level {row['level']:.2f} dB ({row['held']:.2f} once held), "
        f"spectrum {row['spectrum']:.2f} dB, key {row['key']:.3f}; "
        f"cost {row['cost']:.2f} (worst {row['worst']:.2f}, last {row['last']:.2f}), {row['beyond']:.2f} of the "
        f"stretches beyond 1; each window drawn {row['drawn']:.2f} times, {row['seconds']:.0f} s"
    )
