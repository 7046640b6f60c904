"""The nodes that direct a piece over time: descriptions that change, and numbers that change."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

from comfy_api.latest import io

from ..musicgen.conditioning.timeline import parse_timeline
from ..musicgen.generation.schedule import Schedules, parse_schedule
from ..musicgen.times import show_time
from .host import progress
from .host.telling import Node
from .inputs.texts import encode_texts
from .inputs.times import meter_inputs, read_meter
from .sockets import CATEGORY, SPAN_KEY, GuidanceSocket, TextEncoderHandle, TextEncoderSocket

CARRY = 0.5
EXAMPLE = "0s calm piano\n5s + soft drums\n10s ~2s: big band"


class MusicGenTimeline(Node):
    """Descriptions with times -> native CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenTimeline",
            display_name="MusicGen Timeline",
            category=CATEGORY,
            description="Encodes descriptions that take over from one another: one line for each, with the time at "
            "which it begins. Connect it to MusicGen Sample Tokens in place of MusicGen Text Encode.",
            search_aliases=["story", "sections", "morph", "prompt schedule", "prompt travel", "arrangement", "bars"],
            inputs=[
                TextEncoderSocket.Input("text_encoder", tooltip="The text encoder, from MusicGen Loader."),
                io.String.Input(
                    "timeline",
                    multiline=True,
                    dynamic_prompts=True,
                    default=EXAMPLE,
                    tooltip="Lines of a time and a description. Times: 12.5s, 1:05, bar 16, beat 3. A line such as '5s "
                    "+ drums' adds to the description before it, '9s - drums' takes a phrase out, and ~2s behind a "
                    "time lets the music change for 2 seconds.",
                ),
                io.Float.Input(
                    "morph",
                    display_name="length of changes (s)",
                    default=0.0,
                    min=0.0,
                    max=60.0,
                    step=0.1,
                    tooltip="Seconds that each change takes where its line does not say. 0 changes at once.",
                ),
                io.Float.Input(
                    "carry_over",
                    display_name="heard before a change (s)",
                    default=CARRY,
                    min=0.0,
                    max=30.0,
                    step=0.02,
                    tooltip="Seconds of music before a change that the next section hears. With few, it follows its "
                    "description sooner; with many, it keeps more of the music before. 0 lets it hear everything.",
                ),
                *meter_inputs(),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning",
                    display_name="conditioning",
                    tooltip="All descriptions with their times, for positive or negative of MusicGen Sample Tokens.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        text_encoder: TextEncoderHandle,
        timeline: str,
        morph: float,
        carry_over: float,
        bpm: float = 120.0,
        beats_per_bar: int = 4,
    ) -> io.NodeOutput:
        sections = parse_timeline(timeline, read_meter(bpm, beats_per_bar), morph=morph)
        parts = encode_texts(text_encoder, [section.text for section in sections], cls.hidden.unique_id)
        for index, (section, entries) in enumerate(zip(sections, parts, strict=True)):
            carried = carry_over if index and carry_over > 0 else None
            for _, options in entries:
                options[SPAN_KEY] = astuple(replace(section.span, carry=carried))
        progress.show(cls.hidden.unique_id, "\n".join(f"{show_time(s.span.start)}: {s.text}" for s in sections))
        return io.NodeOutput([entry for entries in parts for entry in entries])


class MusicGenGuidance(Node):
    """Numbers with times -> schedules for the sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenGuidance",
            display_name="MusicGen Guidance",
            category=CATEGORY,
            description="Lets numbers of MusicGen Sample Tokens change during the piece: guidance, temperature, the "
            "likeliest tokens, the strength of a melody. An empty field leaves the sampler's own number.",
            search_aliases=["cfg schedule", "dynamic cfg", "temperature schedule", "melody strength", "keyframes"],
            inputs=[
                io.String.Input(
                    "cfg_coef",
                    display_name="guidance (cfg_coef)",
                    default="",
                    placeholder="0s 3, 10s ~4s 6",
                    tooltip="A number, or times with numbers such as '0s 3, 10s 6'. A number holds until the next; ~4s "
                    "behind a time lets it glide for 4 seconds. 1 turns guidance off.",
                ),
                io.String.Input(
                    "temperature",
                    default="",
                    placeholder="0s 1, bar 8 1.3",
                    tooltip="Temperature over time, written in the same way.",
                ),
                io.String.Input(
                    "top_k",
                    display_name="likeliest tokens (top_k)",
                    default="",
                    placeholder="0s 250, 20s 50",
                    tooltip="Likeliest tokens over time, written in the same way.",
                ),
                io.String.Input(
                    "top_p",
                    display_name="likeliest share (top_p)",
                    default="",
                    placeholder="0s 0, 20s 0.9",
                    tooltip="Likeliest share over time, written in the same way. Where it is 0, top_k counts.",
                ),
                io.String.Input(
                    "lead_strength",
                    display_name="melody strength",
                    default="",
                    placeholder="0s 1, 15s 0",
                    tooltip="How much of the melody (or of the style) counts, over time: 0 none, 1 all of it, more "
                    "exaggerates it. '0s 0, 5s 1, 9s 0' lets it lead from 5 to 9 seconds only.",
                ),
                io.String.Input(
                    "cfg_coef_beta",
                    display_name="text over melody (cfg_coef_beta)",
                    default="",
                    placeholder="1",
                    tooltip="Weight of the description against the melody (or the style), over time. 1 guides by both "
                    "at once; more brings the description out.",
                ),
                *meter_inputs(),
            ],
            outputs=[
                GuidanceSocket.Output(
                    "guidance", display_name="guidance", tooltip="The numbers, for guidance of MusicGen Sample Tokens."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, bpm: float = 120.0, beats_per_bar: int = 4, **numbers: Any) -> io.NodeOutput:
        meter = read_meter(bpm, beats_per_bar)
        found = {}
        for name, text in numbers.items():
            try:
                found[name] = parse_schedule(text, meter)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return io.NodeOutput(Schedules(**found))
