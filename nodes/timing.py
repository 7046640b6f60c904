"""The nodes that join music and pictures: how long the music must be, and its curves for each picture."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..musicgen.evaluation.beats import beat_times
from ..musicgen.evaluation.curves import beat_curve, picture_curves
from .host import progress
from .host.telling import Node
from .inputs.lengths import SOURCES, describe_length, read_length
from .inputs.sound import read_audio
from .inputs.widgets import beats_per_bar_input, bpm_input
from .sockets import CATEGORY, MAX_HEARD_SECONDS

FPS = 24.0


class MusicGenDuration(Node):
    """VIDEO, IMAGE batch, AUDIO or bars -> seconds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenDuration",
            display_name="MusicGen Duration",
            category=CATEGORY,
            description="Computes how long the music must be: as long as a video, as a series of images, as another "
            "sound, or as a number of bars. Connect seconds to duration of MusicGen Sample Tokens, and the sound that "
            "MusicGen EnCodec Decode makes is exactly that long.",
            search_aliases=["length", "score a video", "video length", "bars", "bpm", "tempo", "seconds", "slideshow"],
            inputs=[
                io.Combo.Input(
                    "source",
                    options=list(SOURCES),
                    default=SOURCES[0],
                    tooltip="The thing that sets the length. connected: the video, the images or the audio, in this "
                    "order, and bars where none of them is connected.",
                ),
                io.Float.Input(
                    "fps",
                    display_name="frames per second (fps)",
                    default=FPS,
                    min=0.01,
                    max=1000.0,
                    step=0.01,
                    tooltip="Images per second, for images; a video has its own. The output frames is counted with it.",
                ),
                io.Float.Input(
                    "bars", default=4.0, min=0.25, max=1000.0, step=0.25, tooltip="Number of bars, for the source bars."
                ),
                bpm_input("Tempo, for the source bars. Write the same tempo into the description."),
                beats_per_bar_input("Beats in one bar, for the source bars: 4 for 4/4, 3 for a waltz."),
                io.Video.Input("video", optional=True, tooltip="A video, from Load Video or Create Video."),
                io.Image.Input("images", optional=True, tooltip="A batch of images, shown at fps images per second."),
                io.Audio.Input("audio", optional=True, tooltip="A sound of the wanted length."),
            ],
            outputs=[
                io.Float.Output(
                    "seconds", display_name="seconds", tooltip="The length, for duration of MusicGen Sample Tokens."
                ),
                io.Int.Output("frames", display_name="frames", tooltip="Number of images in this length."),
                io.Float.Output("fps", display_name="fps", tooltip="Images per second, a video's own where it is one."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        source: str,
        fps: float,
        bars: float,
        bpm: float,
        beats_per_bar: int,
        video: Any = None,
        images: Any = None,
        audio: Any = None,
    ) -> io.NodeOutput:
        length = read_length(
            source, fps=fps, bars=bars, bpm=bpm, beats_per_bar=beats_per_bar, video=video, images=images, audio=audio
        )
        progress.show(cls.hidden.unique_id, describe_length(length))
        return io.NodeOutput(length.seconds, length.frames, length.fps)


class MusicGenCurves(Node):
    """AUDIO -> onsets, loudness and beats for each picture of an animation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenCurves",
            display_name="MusicGen Curves",
            category=CATEGORY,
            description="Measures onsets, loudness and beats of a sound for each picture of an animation, as numbers "
            "from 0 to 1 and as masks, so that pictures move with the music.",
            search_aliases=[
                "audio reactive",
                "beat driven",
                "onset",
                "envelope",
                "amplitude",
                "pulse",
                "audio to mask",
            ],
            inputs=[
                io.Audio.Input("audio", tooltip="A sound of up to 300 seconds. The first item of a batch counts."),
                io.Float.Input(
                    "fps",
                    display_name="frames per second (fps)",
                    default=FPS,
                    min=1.0,
                    max=100.0,
                    step=0.01,
                    tooltip="Pictures per second of the animation. There is one value for each picture.",
                ),
                io.Int.Input(
                    "frames",
                    default=0,
                    min=0,
                    max=100000,
                    optional=True,
                    tooltip="Number of pictures. 0 takes as many as the sound lasts; pictures after its end get 0.",
                ),
                io.Float.Input(
                    "fade",
                    display_name="fade (s)",
                    default=0.15,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    optional=True,
                    tooltip="Seconds in which an onset or a beat fades to a third. 0 gives single flashes.",
                ),
                io.Int.Input(
                    "width",
                    default=64,
                    min=1,
                    max=4096,
                    optional=True,
                    advanced=True,
                    tooltip="Width of the masks in pixels. Nodes that need another size enlarge them.",
                ),
                io.Int.Input(
                    "height",
                    default=64,
                    min=1,
                    max=4096,
                    optional=True,
                    advanced=True,
                    tooltip="Height of the masks in pixels.",
                ),
                bpm_input(
                    "The tempo of the beats, if you know it. 0 measures it.",
                    default=0.0,
                    low=0.0,
                    optional=True,
                    advanced=True,
                ),
            ],
            outputs=[
                io.Mask.Output(
                    "onset_mask",
                    display_name="onset mask",
                    tooltip="One even mask for each picture: 1 at the strongest onset, 0 without any.",
                ),
                io.Mask.Output(
                    "loudness_mask",
                    display_name="loudness mask",
                    tooltip="One even mask for each picture: 1 at the loudest picture, 0 from 40 LU below it on.",
                ),
                io.Float.Output(
                    "onsets",
                    display_name="onsets",
                    is_output_list=True,
                    tooltip="The onsets as a list of numbers from 0 to 1. Nodes behind it run once for each picture.",
                ),
                io.Float.Output(
                    "loudness",
                    display_name="loudness",
                    is_output_list=True,
                    tooltip="The loudness as a list of numbers from 0 to 1. Nodes behind it run once for each picture.",
                ),
                io.Mask.Output(
                    "beat_mask",
                    display_name="beat mask",
                    tooltip="One even mask for each picture: 1 on each beat, also where nothing is struck.",
                ),
                io.Float.Output(
                    "beats",
                    display_name="beats",
                    is_output_list=True,
                    tooltip="The beats as a list of numbers from 0 to 1. Nodes behind it run once for each picture.",
                ),
                io.Float.Output(
                    "bpm", display_name="bpm", tooltip="The tempo of the beats; 0 for a sound without onsets."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        audio: Any,
        fps: float,
        frames: int = 0,
        fade: float = 0.15,
        width: int = 64,
        height: int = 64,
        bpm: float = 0.0,
    ) -> io.NodeOutput:
        waveform, sample_rate = read_audio(audio, cls.hidden.unique_id, MAX_HEARD_SECONDS)
        onsets, loudness = picture_curves(waveform[0], sample_rate, fps, frames or None, fade=fade)
        found, tempo = beat_times(waveform[0].mean(dim=0), sample_rate, bpm or None)
        beats = beat_curve(found, fps, len(onsets), fade=fade)
        first, second, third = (curve[:, None, None].repeat(1, height, width) for curve in (onsets, loudness, beats))
        progress.show(cls.hidden.unique_id, f"{len(found)} beats, {tempo:.4g} bpm")
        return io.NodeOutput(first, second, onsets.tolist(), loudness.tolist(), third, beats.tolist(), tempo)
