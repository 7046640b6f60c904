"""The nodes that train a LoRA on a dataset of songs, and save it as a folder that other programs read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..musicgen.finetuning.adapters import ALL_LINEAR, TARGETS, TrainedLora
from ..musicgen.finetuning.recipe import DTYPES
from .host import patchers, progress, song_folders, trainings
from .host.telling import Node
from .inputs.trainings import AUTO, OFF, ON, LoraRun, read_recipe
from .sockets import CATEGORY, LoraSocket, LossSocket, ModelHandle, ModelSocket, PlayerSocket, SongsSocket

if TYPE_CHECKING:
    from ..musicgen.finetuning.dataset import SongDataset

DISCARD, KEEP = "stop the run", "keep the LoRA so far"


class MusicGenTrainLora(Node):
    """Model and songs -> a LoRA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenTrainLora",
            display_name="MusicGen Train LoRA",
            category=CATEGORY,
            description="Trains a LoRA, a small change of a MusicGen model, on songs of MusicGen Dataset. The licence "
            "of the base model binds the LoRA: Meta's weights are CC-BY-NC 4.0, no commercial use.",
            search_aliases=["train lora", "training", "teach", "own style", "dreambooth"],
            inputs=[
                ModelSocket.Input("model", tooltip="The model to train, the same as at MusicGen Dataset."),
                SongsSocket.Input("dataset", tooltip="The songs, from MusicGen Dataset."),
                io.Int.Input(
                    "steps",
                    default=300,
                    min=1,
                    max=1_000_000,
                    tooltip="Steps of the optimiser. Each learns from batch x accumulation pieces.",
                ),
                io.Float.Input(
                    "learning_rate",
                    display_name="learning rate",
                    default=0.001,
                    min=0.0,
                    max=1.0,
                    step=0.0001,
                    round=False,
                    tooltip="Size of the steps, above 0 and up to 0.1. It rises over the warm-up and falls along a "
                    "cosine. The bundled models learn well at 0.003, Meta's at 0.0003.",
                ),
                io.Int.Input(
                    "rank",
                    default=16,
                    min=1,
                    max=1024,
                    tooltip="Size of the LoRA: a higher rank can learn more, and learns songs by heart sooner.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    tooltip="Starts the random numbers. The same seed trains the same LoRA on the same machine.",
                ),
                io.Int.Input(
                    "preview_every",
                    display_name="preview every (steps)",
                    default=100,
                    min=0,
                    max=1_000_000,
                    tooltip="Steps between two sounds of the usual caption, without and with the LoRA. 0 plays none.",
                ),
                *_further_inputs(),
                PlayerSocket.Input("audioUI", optional=True, tooltip="Plays the sounds, without and with the LoRA."),
            ],
            outputs=[
                LoraSocket.Output("lora", display_name="LoRA", tooltip="The LoRA, for MusicGen Save LoRA."),
                ModelSocket.Output(
                    "model", display_name="model", tooltip="The model with the LoRA, for MusicGen Sample Tokens."
                ),
                LossSocket.Output("loss", display_name="loss", tooltip="The loss of every step, for Plot Loss Graph."),
                io.Int.Output("steps", display_name="steps", tooltip="The step that the LoRA was taken after."),
                io.String.Output("report", display_name="report", tooltip="The course of the training in words."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        model: ModelHandle,
        dataset: SongDataset,
        preview_every: int,
        on_cancel: str = DISCARD,
        recompute: str = AUTO,
        batch: int = 0,
        **numbers: Any,
    ) -> io.NodeOutput:
        numbers.pop("audioUI", None)
        run = LoraRun(model, dataset, cls.hidden.unique_id)
        recipe = read_recipe(recompute=recompute, batch=batch, **numbers)
        with trainings.with_gradients():
            texts = run.captions()
            recipe, size = run.fitted(recipe, recompute, batch, texts)
            lora, result, shown = run.train(recipe, size, texts, every=preview_every, keep=on_cancel == KEEP)
        progress.show(cls.hidden.unique_id, result.text())
        patched = patchers.patch_lm(model.patcher, lora.changes(model.config), 1.0)
        trained = replace(model, patcher=patched, loras=(*model.loras, (lora.name, 1.0)))
        loss = {"loss": list(result.losses)}
        return io.NodeOutput(lora, trained, loss, result.step, result.text(), ui=shown)


def _further_inputs() -> list[Any]:
    """The settings that need no touch."""
    return [
        io.Combo.Input(
            "targets", options=[ALL_LINEAR, *(name for name in TARGETS if name != ALL_LINEAR)], default=ALL_LINEAR,
            optional=True, advanced=True, tooltip="The layers that the LoRA changes: all linear ones, or those of "
            "attention alone, which learns less and takes less memory.",
        ),
        io.Float.Input(
            "alpha", default=0.0, min=0.0, max=4096.0, step=1.0, optional=True, advanced=True,
            tooltip="The LoRA's change is alpha / rank times its factors. 0 takes the rank.",
        ),
        io.Int.Input(
            "batch", default=0, min=0, max=256, optional=True, advanced=True,
            tooltip="Pieces at once. 0: four, or as many as the memory holds, with accumulation in place of the rest.",
        ),
        io.Int.Input(
            "accumulate", display_name="accumulation", default=1, min=1, max=256, optional=True, advanced=True,
            tooltip="Batches whose gradients make one step.",
        ),
        io.Int.Input(
            "warmup", display_name="warm-up (steps)", default=20, min=0, max=100_000, optional=True, advanced=True,
            tooltip="Steps over which the learning rate rises.",
        ),
        io.Float.Input(
            "drop_text", display_name="caption dropout", default=0.1, min=0.0, max=1.0, step=0.05, optional=True,
            advanced=True, tooltip="Share of the pieces that are learned without their caption, so that guidance keeps "
            "working.",
        ),
        io.Int.Input(
            "patience", default=0, min=0, max=100, optional=True, advanced=True,
            tooltip="Ends the training when the held-out songs have not become better for so many of ten looks. 0 goes "
            "on to the last step. The best step is kept either way.",
        ),
        io.Combo.Input(
            "dtype", display_name="number format (dtype)", options=[AUTO, *DTYPES], default=AUTO, optional=True,
            advanced=True, tooltip="Number format of the model while it is trained. auto: bf16 where the GPU computes "
            "well in it, else fp32. The LoRA itself stays in fp32.",
        ),
        io.Combo.Input(
            "recompute", display_name="gradient checkpointing", options=[AUTO, ON, OFF], default=AUTO, optional=True,
            advanced=True, tooltip="Less memory for a third more time. auto turns it on where the memory is short.",
        ),
        io.Combo.Input(
            "on_cancel", display_name="on Cancel", options=[DISCARD, KEEP], default=DISCARD, optional=True,
            advanced=True, tooltip=f"{DISCARD}: Cancel stops the run, and the same settings go on from there later. "
            f"{KEEP}: Cancel ends the training alone, and the run goes on with the LoRA that exists.",
        ),
    ]  # fmt: skip


class MusicGenSaveLora(Node):
    """LoRA -> a folder as PEFT keeps it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenSaveLora",
            display_name="MusicGen Save LoRA",
            category=CATEGORY,
            description="Saves a LoRA as a folder that MusicGen LoRA Loader, PEFT and transformers read, with its "
            "caption, base model, licence and recipe.",
            search_aliases=["export lora", "save adapter"],
            inputs=[
                LoraSocket.Input("lora", display_name="LoRA", tooltip="The LoRA, from MusicGen Train LoRA."),
                io.String.Input(
                    "filename_prefix",
                    display_name="name (filename_prefix)",
                    default=f"loras/{song_folders.SONGS_MARK}",
                    tooltip="Path and name of the folder inside ComfyUI's output folder. %songs% is the name of the "
                    "songs, and a number is added. Press R, and MusicGen LoRA Loader lists those in output/loras.",
                ),
            ],
            outputs=[io.String.Output("name", display_name="name", tooltip="The name in MusicGen LoRA Loader.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, lora: Any, filename_prefix: str) -> io.NodeOutput:
        if not isinstance(lora, TrainedLora):
            raise ValueError(
                "the LoRA is not from MusicGen Train LoRA; save that of another model by Save LoRA Weights."
            )
        from ..musicgen.finetuning.adapter_folder import save_adapter

        path = save_adapter(lora, song_folders.new_lora(filename_prefix, lora.name))
        name = song_folders.lora_name(path)
        progress.show(cls.hidden.unique_id, f"saved {path.name}; MusicGen LoRA Loader: {name}")
        return io.NodeOutput(name)
