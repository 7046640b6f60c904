"""Widgets that several nodes have: the same ids, ranges, labels and words wherever they appear."""

from __future__ import annotations

from comfy_api.latest import io

from ..sockets import MAX_SECONDS


def duration_input(tooltip: str) -> io.Float.Input:
    """A length in seconds."""
    return io.Float.Input(
        "duration",
        display_name="duration (s)",
        default=10.0,
        min=0.1,
        max=MAX_SECONDS,
        step=0.1,
        tooltip=tooltip,
    )


def seed_input() -> io.Int.Input:
    """The seed of the first piece."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="Starts the random numbers. The same seed gives the same piece.",
    )


def batch_size_input(*, extra: bool = False) -> io.Int.Input:
    """The number of pieces. extra: optional, and shown among the advanced widgets only."""
    return io.Int.Input(
        "batch_size",
        display_name="pieces (batch_size)",
        default=1,
        min=1,
        max=64,
        optional=extra,
        advanced=extra or None,
        tooltip="Number of pieces to sample at once. Piece i equals the piece that seed + i gives alone.",
    )


def sampling_inputs(*, follows: str = "its conditions", extra: bool = False) -> list[io.Input]:
    """Guidance and the three numbers of drawing: the ids are fields of `GenerationParams`.

    Args:
        follows: the object of guidance, in words.
        extra: makes them optional, and shows them among the advanced widgets only.
    """
    shown = {"optional": extra, "advanced": extra or None}
    return [
        io.Float.Input(
            "cfg_coef",
            display_name="guidance (cfg_coef)",
            default=3.0,
            min=0.0,
            max=20.0,
            step=0.1,
            tooltip=f"Classifier-free guidance: the higher, the closer the piece follows {follows}. 1 turns guidance "
            "off and takes less time.",
            **shown,
        ),
        io.Float.Input(
            "temperature",
            default=1.0,
            min=0.0,
            max=5.0,
            step=0.01,
            tooltip="Below 1 the music is more predictable, above 1 more varied. 0 always takes the likeliest token.",
            **shown,
        ),
        io.Int.Input(
            "top_k",
            display_name="likeliest tokens (top_k)",
            default=250,
            min=0,
            max=65536,
            tooltip="Draw each token from this many of the likeliest ones. 0 draws from all.",
            **shown,
        ),
        io.Float.Input(
            "top_p",
            display_name="likeliest share (top_p)",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Draw each token from the likeliest ones that together have this probability. Above 0 it replaces "
            "top_k.",
            **shown,
        ),
    ]


def bpm_input(
    tooltip: str, *, default: float = 120.0, low: float = 20.0, high: float = 400.0, step: float = 0.1, **shown: bool
) -> io.Float.Input:
    """A tempo. shown: `optional` and `advanced`, where it is."""
    return io.Float.Input(
        "bpm",
        display_name="beats per minute (bpm)",
        default=default,
        min=low,
        max=high,
        step=step,
        tooltip=tooltip,
        **shown,
    )


def beats_per_bar_input(tooltip: str, **shown: bool) -> io.Int.Input:
    """The beats of a bar. shown: `optional` and `advanced`, where it is."""
    return io.Int.Input(
        "beats_per_bar", display_name="beats per bar", default=4, min=1, max=32, tooltip=tooltip, **shown
    )


def meter_inputs() -> list[io.Input]:
    """Tempo and metre."""
    return [
        bpm_input("Tempo of bars and beats. Write the same tempo into the description."),
        beats_per_bar_input("Beats in one bar: 4 for 4/4, 3 for a waltz."),
    ]


def choice_inputs() -> list[io.Input]:
    """How many candidates a seam is chosen from, and how often its end is sampled anew."""
    return [
        io.Int.Input(
            "candidates",
            default=8,
            min=1,
            max=64,
            tooltip="Number of candidates, sampled side by side. The one stays after which the music that follows is "
            "likeliest. 1 chooses nothing.",
        ),
        io.Int.Input(
            "rounds",
            default=3,
            min=0,
            max=8,
            advanced=True,
            tooltip="How often the end of the best candidate is sampled anew, shorter each time. More rounds take more "
            "time.",
        ),
    ]
