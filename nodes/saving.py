"""The node that saves a model as one file."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..musicgen.checkpoints.loading import Components
from ..musicgen.checkpoints.saving import save_checkpoint
from .host import folders, patchers, progress
from .host.telling import Node
from .inputs.parts import check_parts
from .sockets import CATEGORY, CodecHandle, CodecSocket, ModelHandle, ModelSocket, TextEncoderHandle, TextEncoderSocket

AS_LOADED = "as loaded"


class MusicGenSaveCheckpoint(Node):
    """Model, text encoder, codec -> one file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenSaveCheckpoint",
            display_name="MusicGen Save Checkpoint",
            category=CATEGORY,
            description="Saves a model with its text encoder, tokenizer and codec as one .safetensors file in the "
            "output folder, where MusicGen Loader finds it. Patches such as LoRAs are merged into the weights. The "
            "licence of the weights stays the same: Meta's are CC-BY-NC 4.0, no commercial use.",
            search_aliases=["export checkpoint", "convert musicgen", "merge lora"],
            inputs=[
                ModelSocket.Input("model", tooltip="The language model, with a LoRA or without."),
                TextEncoderSocket.Input("text_encoder", tooltip="The text encoder from the same loader."),
                CodecSocket.Input("codec", tooltip="The codec from the same loader."),
                io.String.Input(
                    "filename_prefix",
                    display_name="file name (filename_prefix)",
                    default="musicgen/MusicGen",
                    tooltip="Path and name of the file inside ComfyUI's output folder. A number is added, and no file "
                    "is overwritten. Press R, and MusicGen Loader lists the files in output/musicgen; move a file "
                    "from another folder into models/musicgen.",
                ),
                io.Combo.Input(
                    "dtype",
                    display_name="number format (dtype)",
                    options=[AS_LOADED, *patchers.DTYPES],
                    default=AS_LOADED,
                    tooltip="Number format of the language model in the file. as loaded loses nothing. fp16 and bf16 "
                    "halve an fp32 model; fp32 does not restore precision that was lost in loading. The text encoder "
                    "keeps its format; codec and style condition are fp32.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, model: ModelHandle, text_encoder: TextEncoderHandle, codec: CodecHandle, filename_prefix: str, dtype: str
    ) -> io.NodeOutput:
        check_parts(model, text_encoder, codec)
        target = folders.new_checkpoint(filename_prefix)
        handles: list[Any] = [model, text_encoder, codec, *([] if model.style is None else [model.style])]
        parts = [handle.patcher for handle in handles]
        patchers.load_for_saving(parts)
        components = Components(model.config, *(patcher.model for patcher in parts))
        kind = components.lm.dtype if dtype == AS_LOADED else patchers.DTYPES[dtype]
        path = save_checkpoint(components, target, kind, weights=_weights(parts), on_bytes=progress.PartReporter())
        progress.show(cls.hidden.unique_id, f"saved {path.name}; MusicGen Loader: {folders.model_name(path)}")
        return io.NodeOutput()


def _weights(parts: list[Any]) -> dict[str, dict[str, Tensor]]:
    """The weights of language model, text encoder, codec and, where there is one, style condition."""
    weights = {
        "lm": patchers.weights_for_saving(parts[0]),
        "text_encoder": patchers.weights_for_saving(parts[1], "t5"),
        "codec": patchers.weights_for_saving(parts[2], "model"),
    }
    if len(parts) > 3:
        weights["style"] = patchers.weights_for_saving(parts[3])
    return weights
