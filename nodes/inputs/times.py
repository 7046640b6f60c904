"""Tempo and metre from the widgets of nodes that read times in texts."""

from __future__ import annotations

from comfy_api.latest import io

from ...musicgen.times import Meter


def meter_inputs() -> list[io.Input]:
    """The two widgets of a tempo and a metre."""
    return [
        io.Float.Input(
            "bpm",
            display_name="beats per minute (bpm)",
            default=120.0,
            min=0.0,
            max=400.0,
            step=0.1,
            optional=True,
            tooltip="Tempo, for times in bars and beats.",
        ),
        io.Int.Input(
            "beats_per_bar",
            display_name="beats per bar",
            default=4,
            min=1,
            max=32,
            optional=True,
            tooltip="Beats in one bar, for times in bars.",
        ),
    ]


def read_meter(bpm: float, beats_per_bar: int) -> Meter:
    """The widgets -> a meter."""
    return Meter(bpm, beats_per_bar)
