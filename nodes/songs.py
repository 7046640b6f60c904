"""The node that prepares a folder of songs for training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..musicgen.plots import dataset_plot
from .host import patchers, previews, progress, song_folders, trainings
from .host.telling import Node
from .inputs.trainings import check_trainable
from .sockets import CATEGORY, ModelHandle, ModelSocket, SongsSocket

if TYPE_CHECKING:
    from ..musicgen.finetuning.dataset import SongDataset

NO_SONGS = "no folder with sounds in the input folder"


class MusicGenDataset(Node):
    """A folder of songs -> pieces as codes, with captions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenDataset",
            display_name="MusicGen Dataset",
            category=CATEGORY,
            description="Prepares a folder of songs for training: cuts them into pieces, leaves out silence, finds "
            "their captions, encodes each piece once, and holds some songs out to notice over-fitting.",
            search_aliases=["train", "songs", "training data", "own music", "prepare dataset"],
            inputs=[
                ModelSocket.Input("model", tooltip="The model to train, from MusicGen Loader."),
                io.Combo.Input(
                    "songs",
                    options=list(song_folders.song_folders()) or [NO_SONGS],
                    tooltip="A folder of sounds in ComfyUI's input folder, or in a place named musicgen_songs in "
                    "extra_model_paths.yaml. Captions are in name.txt beside name.mp3, or in captions.csv or "
                    "captions.jsonl with the columns file and caption.",
                ),
                io.String.Input(
                    "trigger",
                    display_name="trigger word",
                    default="",
                    tooltip="A word to ask for this music later. It stands before each caption.",
                ),
                io.String.Input(
                    "caption",
                    default="",
                    multiline=True,
                    tooltip="The caption of songs that have none of their own.",
                ),
                io.Float.Input(
                    "seconds",
                    display_name="piece (s)",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=0.5,
                    optional=True,
                    advanced=True,
                    tooltip="Length of a piece. 0 takes the model's window. Shorter pieces take less memory.",
                ),
                io.Float.Input(
                    "overlap",
                    default=0.25,
                    min=0.0,
                    max=0.9,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="Share of a piece that the next one repeats.",
                ),
                io.Float.Input(
                    "held_out",
                    display_name="held-out share",
                    default=0.1,
                    min=0.0,
                    max=0.5,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="Share of the songs that are not trained on. Their loss tells when the model begins to "
                    "learn the others by heart. At least one of three or more songs; 0 holds none out.",
                ),
            ],
            outputs=[
                SongsSocket.Output("dataset", display_name="dataset", tooltip="The songs, for MusicGen Train LoRA."),
                io.Image.Output(
                    "picture",
                    display_name="picture",
                    tooltip="A row for each song: its pieces coloured by their level, and its caption.",
                ),
                io.Audio.Output(
                    "first_piece",
                    display_name="first piece",
                    tooltip="The first piece as the model's codec gives it back: the best that the model can learn.",
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="The dataset in words, with the files left out."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, songs: str | None) -> bool | str:
        """Explain every refusal in a sentence."""
        try:
            if songs is not None:
                song_folders.resolve_songs(songs)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, songs: str, **_: object) -> str:
        """Read again when a file changed."""
        return song_folders.songs_fingerprint(songs)

    @classmethod
    def execute(
        cls,
        model: ModelHandle,
        songs: str,
        trigger: str,
        caption: str,
        seconds: float = 0.0,
        overlap: float = 0.25,
        held_out: float = 0.1,
    ) -> io.NodeOutput:
        check_trainable(model)
        dataset, audio = _prepared(
            model, songs, caption=caption, trigger=trigger, seconds=seconds or None, overlap=overlap, held_out=held_out
        )
        words = model.parts[0].patcher.model.warnings(dataset.captions) if model.parts else []
        report = "\n".join([dataset.text(), *words])
        progress.show(cls.hidden.unique_id, report)
        picture = dataset_plot(dataset)[None]
        return io.NodeOutput(dataset, picture, audio, report, ui=previews.pictures(picture, cls))


def _prepared(model: ModelHandle, songs: str, **settings: Any) -> tuple[SongDataset, dict[str, Any]]:
    """The dataset of a folder, and its first piece after the codec."""
    from ..musicgen.finetuning.dataset import make_dataset

    assert model.parts is not None
    codec, report = model.parts[1].patcher, progress.PartReporter()
    module, config = codec.model, model.config
    samples = round(config.window * config.sample_rate)
    with trainings.with_gradients(), torch.no_grad():
        memory = module.memory_required(samples)
        with patchers.on_device(codec, memory_required=memory, whole=True):
            folder = song_folders.resolve_songs(songs)
            cache = song_folders.encodings_folder()
            dataset = make_dataset(folder, module, config, cache=cache, on_song=report, **settings)
            wave = module.decode(dataset.pieces[0].codes[None].long())
    return dataset, {"waveform": wave.float().cpu(), "sample_rate": config.sample_rate}
