"""The codec both ways: its sound and codes beside the CPU's, its time and memory, and the `encodec` package's."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from codec import action, codec_of, codes_and_sound
from measuring import seconds

from .report import Report


def run(report: Report) -> None:
    """Check and measure the codec of the released shape, with random weights."""
    report.attempt("as on the CPU", lambda: _agreement(report))
    for who in ("ours",) if report.dry else ("ours", "encodec"):
        for way in ("decode", "encode"):
            report.attempt(f"{way}, {who}", _timed(report, who, way))


def _agreement(report: Report) -> dict[str, Any]:
    """Compare over some seconds. TF32 would show as a difference of 1e-3 and as other codes."""
    there, here = codec_of(str(report.device)), codec_of("cpu")
    codes, sound = codes_and_sound(1 if report.dry else 5, "cpu")
    expected, decoded = here.decode(codes), there.decode(codes.to(report.device)).cpu()
    encoded, found = here.encode(sound, 32000), there.encode(sound.to(report.device), 32000).cpu()
    difference = float((decoded - expected).abs().max() / expected.abs().max())
    return {
        "difference": difference,
        "sound_as_on_the_cpu": difference < 1e-5,
        "codes_as_on_the_cpu": torch.equal(found, encoded),
        "share_of_codes": round((found == encoded).float().mean().item(), 5),
    }


def _timed(report: Report, who: str, way: str) -> Callable[[], dict[str, Any]]:
    def measure() -> dict[str, Any]:
        device, length = str(report.device), 1 if report.dry else 30
        with torch.inference_mode():
            code = action(who, way, length, device)
            for _ in range(0 if report.dry else 3):
                code()
            before = report.allocated()
            if not report.dry:
                torch.cuda.reset_peak_memory_stats()
            samples = [seconds(code, device) for _ in range(1 if report.dry else 5)]
            peak = 0 if report.dry else torch.cuda.max_memory_allocated() - before
        return {"length": length, "ms": round(statistics.median(samples) * 1e3, 1), "peak_gb": round(peak / 1e9, 3)}

    return measure
