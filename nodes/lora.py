"""The node that adds a LoRA to a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..musicgen.lora.apply import read_lora
from . import host
from .sockets import CATEGORY, ModelHandle, ModelSocket

NO_LORA = "no LoRA in models/loras"


class MusicGenLoraLoader(io.ComfyNode):
    """Model and a LoRA file -> the model with the LoRA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenLoraLoader",
            display_name="MusicGen LoRA Loader",
            category=CATEGORY,
            description="Adds a LoRA to a MusicGen model: a small file that was trained to change it. Several of these "
            "nodes in a row add several. Meta's weights are licensed CC-BY-NC 4.0: no commercial use, with a LoRA or "
            "without.",
            search_aliases=["load lora", "musicgen lora", "peft adapter", "fine-tune", "style lora"],
            inputs=[
                ModelSocket.Input("model", tooltip="The language model of a MusicGen Loader, or of this node."),
                io.Combo.Input(
                    "lora",
                    options=list(host.loras()) or [NO_LORA],
                    tooltip="A .safetensors file of models/loras, or a folder there that PEFT saved. It must have been "
                    "trained on this very model: small, medium, melody and large do not share LoRAs.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How much of the LoRA to add: 1 as it was trained, 0 nothing, negative the opposite.",
                ),
            ],
            outputs=[
                ModelSocket.Output(
                    "model", display_name="model", tooltip="The language model with the LoRA, for the sampler."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, lora: str | None) -> bool | str:
        """Accept backslashes of workflows saved on Windows; say in a sentence what else is wrong."""
        try:
            if lora is not None:
                host.resolve_lora(lora)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, lora: str, **_: Any) -> str:
        """Read again when the file changed."""
        return host.lora_fingerprint(lora)

    @classmethod
    def execute(cls, model: ModelHandle, lora: str, strength: float) -> io.NodeOutput:
        if strength == 0.0:
            return io.NodeOutput(model)
        changes: Any = read_lora(host.resolve_lora(lora)[1], model.config)
        if changes.warnings:
            host.say(cls.hidden.unique_id, " ".join(changes.warnings))
        return io.NodeOutput(replace(model, patcher=host.patch_lm(model.patcher, changes, strength)))
