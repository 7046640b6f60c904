"""The nodes around written melodies: a score leads the music, a melody is edited, a melody becomes a MIDI file."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..musicgen.conditioning.written_melody import WrittenMelody
from ..musicgen.images import chroma_image
from ..musicgen.notation.keys import key_name
from ..musicgen.plots import score_plot
from ..musicgen.times import Meter
from .host import folders, previews, progress
from .host.telling import Node
from .inputs.melodies import HOWS, MIDI, NOTES_TAKEN, PARTS, RESTS, SOURCES, Edits, read_score, save_midi, score_tune
from .inputs.widgets import beats_per_bar_input, bpm_input
from .sockets import CATEGORY, MelodyBatch, MelodySocket

NO_MIDI = "no MIDI file in the input folder"


class MusicGenScore(Node):
    """Chords, notes, ABC or a MIDI file -> a melody, and its piano roll."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenScore",
            display_name="MusicGen Score",
            category=CATEGORY,
            description="Makes a melody from written music: chords, notes, ABC or a MIDI file. A melody model plays "
            "its notes. Released models were trained on melodies; with chords they are an experiment.",
            search_aliases=[
                "abc notation",
                "midi",
                "chords",
                "chord progression",
                "sheet music",
                "piano roll",
                "notes",
            ],
            inputs=[
                io.Combo.Input(
                    "source",
                    options=list(SOURCES),
                    default=SOURCES[0],
                    tooltip="The form of the text, or a MIDI file. chords: C | G | Am F. notes: E4 F4:2 - "
                    "G#4:1/2. ABC: as score editors and SheetSage2 Audio to ABC write it.",
                ),
                io.String.Input(
                    "text",
                    default="C | G | Am | F",
                    multiline=True,
                    tooltip="The score as text. Bar lines part bars of chords; a number after a colon is the beats of "
                    "a chord or a note.",
                ),
                bpm_input("The tempo. 0 takes the score's own, and 120 where it has none.", default=0.0, low=0.0),
                beats_per_bar_input("Beats in one bar of chords."),
                io.Combo.Input(
                    "file",
                    options=list(folders.midi_files()) or [NO_MIDI],
                    optional=True,
                    tooltip="A file in ComfyUI's input folder, for the source MIDI file. Press R after adding one.",
                ),
                io.Combo.Input(
                    "part",
                    options=list(PARTS),
                    default=PARTS[0],
                    optional=True,
                    tooltip="The part that leads: the melody, or the chord symbols of a score that has both.",
                ),
                io.Combo.Input(
                    "notes",
                    display_name="notes at once (notes)",
                    options=list(NOTES_TAKEN),
                    default=NOTES_TAKEN[0],
                    optional=True,
                    tooltip="The notes that count where several sound at once. in turn: each for half a beat, from "
                    "the lowest on. all: every one, which models of one-hot melodies never met. auto: the lowest of "
                    "chords, else the highest.",
                ),
                io.Combo.Input(
                    "rests",
                    options=list(RESTS),
                    default=RESTS[0],
                    optional=True,
                    advanced=True,
                    tooltip="A rest holds the note before it, as sound dies away, or is silence, which models of "
                    "one-hot melodies take for C.",
                ),
                io.Int.Input(
                    "voice",
                    default=0,
                    min=0,
                    max=256,
                    optional=True,
                    advanced=True,
                    tooltip="Number of the only voice or track that counts. 0: all; in ABC the first one that does not "
                    "rest leads, in a MIDI file the highest note.",
                ),
            ],
            outputs=[
                MelodySocket.Output(
                    "melody",
                    display_name="melody",
                    tooltip="The melody, for MusicGen Sample Tokens with a melody model.",
                ),
                io.Image.Output(
                    "piano_roll",
                    display_name="piano roll",
                    tooltip="A picture of the notes; those that lead the music are bright.",
                ),
                io.Float.Output(
                    "seconds",
                    display_name="seconds",
                    tooltip="Length of the score, for duration of MusicGen Sample Tokens.",
                ),
                io.Float.Output(
                    "bpm", display_name="bpm", tooltip="The tempo at the start, for MusicGen Tempo and Key."
                ),
                io.String.Output(
                    "key", display_name="key", tooltip="The key that the score names, such as A minor; empty without."
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None, source: str | None = None) -> bool | str:
        """Explain every refusal in a sentence."""
        try:
            if source == MIDI and file is not None:
                folders.resolve_midi(file)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, source: str | None = None, file: str | None = None, **_: object) -> str:
        """Read again when the file changed."""
        return folders.midi_fingerprint(file) if source == MIDI and file is not None else ""

    @classmethod
    def execute(
        cls,
        source: str,
        text: str,
        bpm: float,
        beats_per_bar: int,
        file: str = NO_MIDI,
        part: str = PARTS[0],
        notes: str = NOTES_TAKEN[0],
        rests: str = RESTS[0],
        voice: int = 0,
    ) -> io.NodeOutput:
        score = read_score(source, text, file, bpm, beats_per_bar)
        melody = WrittenMelody(score_tune(score, part, notes, voice, rests))
        image = score_plot(score, melody)[None]
        key = "" if score.key is None else key_name(*score.key)
        told = f"{score.num_notes} notes, {score.seconds:.4g} s, {score.bpm:.4g} bpm"
        progress.show(cls.hidden.unique_id, f"{told}, {key}" if key else told)
        shown = previews.pictures(image, cls)
        return io.NodeOutput(MelodyBatch((melody,)), image, score.seconds, score.bpm, key, ui=shown)


class MusicGenEditMelody(Node):
    """A melody -> the same, cut, silenced, transposed, stretched, mixed, joined or repeated."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenEditMelody",
            display_name="MusicGen Edit Melody",
            category=CATEGORY,
            description="Edits a melody of a recording or a score: cuts it, silences a range, transposes, stretches, "
            "mixes it with another one or appends that, and repeats it, in this order.",
            search_aliases=["transpose", "pitch shift", "time stretch", "mask melody", "mix melodies", "chroma"],
            inputs=[
                MelodySocket.Input("melody", tooltip="From MusicGen Melody Chroma or MusicGen Score."),
                io.Int.Input(
                    "transpose",
                    display_name="transpose (semitones)",
                    default=0,
                    min=-12,
                    max=12,
                    tooltip="Semitones up, or down if negative. Name the new key in the description.",
                ),
                io.Float.Input(
                    "stretch",
                    default=1.0,
                    min=0.1,
                    max=10.0,
                    step=0.01,
                    tooltip="How many times as long the melody gets: 2 is half the tempo, 0.5 twice the tempo.",
                ),
                io.Int.Input("repeat", default=1, min=1, max=100, tooltip="How often the melody is played in a row."),
                io.String.Input(
                    "keep",
                    default="",
                    optional=True,
                    tooltip="The only range to keep, such as 0s to 4s, bar 3 to bar 5, or bar 1 for 4 bars.",
                ),
                io.String.Input(
                    "silence",
                    default="",
                    optional=True,
                    tooltip="A range without a melody, such as 4s to 6s or bar 3 for 1 bar, after keep.",
                ),
                MelodySocket.Input(
                    "other", optional=True, tooltip="A second melody, to mix in or to append. It repeats without end."
                ),
                io.Combo.Input(
                    "how",
                    display_name="with the other (how)",
                    options=list(HOWS),
                    default=HOWS[0],
                    optional=True,
                    tooltip="mix: both at once, by share. append: the other one after the first.",
                ),
                io.Float.Input(
                    "share",
                    display_name="share of the other (share)",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="For mix: 0 is the melody alone, 1 the other one. Between them frames are not one-hot, "
                    "which models of one-hot melodies never met.",
                ),
                io.String.Input(
                    "mix_range",
                    display_name="range to mix (mix_range)",
                    default="",
                    optional=True,
                    tooltip="The range in which the other melody is mixed in, such as 4s to 8s. Empty: everywhere.",
                ),
                bpm_input("The tempo for ranges in bars and beats.", low=1.0, optional=True, advanced=True),
                beats_per_bar_input("Beats in one bar, for ranges in bars.", optional=True, advanced=True),
            ],
            outputs=[
                MelodySocket.Output(
                    "melody", display_name="melody", tooltip="The edited melody, for MusicGen Sample Tokens."
                ),
                io.Image.Output("chromagram", display_name="chromagram", tooltip="A picture of the edited melody."),
                io.Float.Output("seconds", display_name="seconds", tooltip="Its length, before it repeats."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        melody: MelodyBatch,
        transpose: int,
        stretch: float,
        repeat: int,
        keep: str = "",
        silence: str = "",
        other: MelodyBatch | None = None,
        how: str = HOWS[0],
        share: float = 1.0,
        mix_range: str = "",
        bpm: float = 120.0,
        beats_per_bar: int = 4,
    ) -> io.NodeOutput:
        edits = Edits(transpose, stretch, repeat, keep, silence, how, share, mix_range)
        batch = edits.apply(melody, other, Meter(bpm, beats_per_bar))
        images = torch.stack([chroma_image(item.chroma) for item in batch.items])
        return io.NodeOutput(batch, images, batch.items[0].tune.seconds)


class MusicGenSaveMidi(Node):
    """A melody -> a MIDI file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenSaveMidi",
            display_name="MusicGen Save MIDI",
            category=CATEGORY,
            description="Saves a melody as a MIDI file in the output folder: each run of frames with one pitch class "
            "is a note between C4 and B4.",
            search_aliases=["export midi", "audio to midi", "melody to midi", "transcribe", "download midi"],
            inputs=[
                MelodySocket.Input(
                    "melody", tooltip="From MusicGen Melody Chroma, MusicGen Score or MusicGen Edit Melody."
                ),
                io.String.Input(
                    "filename_prefix",
                    display_name="file name (filename_prefix)",
                    default="midi/MusicGen",
                    tooltip="Path and name of the file inside ComfyUI's output folder. A number is added, and no file "
                    "is overwritten.",
                ),
                bpm_input("The tempo that the file names. Notes keep their seconds at any tempo.", low=1.0),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, melody: MelodyBatch, filename_prefix: str, bpm: float) -> io.NodeOutput:
        target = folders.new_midi(filename_prefix)
        paths = [save_midi(item, target, bpm) for item in melody.items]
        progress.show(cls.hidden.unique_id, "\n".join(f"saved {path.name}" for path in paths))
        return io.NodeOutput(ui={"files": [folders.saved_file(path) for path in paths]})
