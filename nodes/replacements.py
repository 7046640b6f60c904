"""Nodes of packs that are no longer kept up, and the nodes that can take their place in a workflow.

ComfyUI offers a replacement where a workflow names a node that no installed pack has; the user accepts it with a
button. The packs: ComfyUI-audio, comfyui-sound-lab, ComfyUI-MusicGen-HF. Only the names of their inputs stand here.
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host import folders
from .host.server import offer_replacement

# ComfyUI shows this widget behind every seed, and saves it among the values of the node.
CONTROL = "control_after_generate"


def _same(*names: str, **renamed: str) -> list[dict[str, Any]]:
    """Inputs that keep their name, and inputs of ours with their old names."""
    pairs = {**{name: name for name in names}, **renamed}
    return [{"new_id": new, "old_id": old} for new, old in pairs.items()]


def _fixed(**values: Any) -> list[dict[str, Any]]:
    """Inputs of ours with a value that the old node had built in."""
    return [{"new_id": name, "set_value": value} for name, value in values.items()]


def _loader(old: str) -> io.NodeReplace:
    return io.NodeReplace(
        new_node_id="MusicGenLoader",
        old_node_id=old,
        old_widget_ids=["model_name"],
        input_mapping=[*_same(model="model_name"), *_fixed(dtype="auto")],
        output_mapping=[{"new_idx": 0, "old_idx": 0}],
    )


def _generator(old: str, widgets: list[str], mapping: list[dict[str, Any]]) -> io.NodeReplace:
    return io.NodeReplace(
        new_node_id="MusicGenTextToMusic",
        old_node_id=old,
        old_widget_ids=widgets,
        input_mapping=mapping,
        output_mapping=[{"new_idx": 0, "old_idx": 0}],
    )


_AUDIO_WIDGETS = ["text", "batch_size", "duration", "cfg", "top_k", "top_p", "temperature", "seed", CONTROL]
_AUDIO_MAPPING = [
    *_fixed(model_name=folders.DEFAULT_MODEL),
    # ComfyUI may replace this node before the loader that it is linked to, so `model` must keep its name.
    *_same("model", "text", "batch_size", "duration", "top_k", "top_p", "temperature", "seed"),
    *_same(cfg_coef="cfg", prompt="audio"),
]

REPLACEMENTS = (
    _loader("MusicgenLoader"),
    _loader("MusicgenHFLoader"),
    _generator("MusicgenGenerate", _AUDIO_WIDGETS, _AUDIO_MAPPING),
    _generator("MusicgenHFGenerate", _AUDIO_WIDGETS, _AUDIO_MAPPING),
    # It always ran musicgen-small at this temperature, with the top_k of transformers.
    _generator(
        "Musicgen_",
        ["prompt", "seconds", "guidance_scale", "seed", CONTROL, "device"],
        [
            *_fixed(model_name="facebook/musicgen-small", temperature=1.5, top_k=50),
            *_same("seed", text="prompt", duration="seconds", cfg_coef="guidance_scale"),
        ],
    ),
    io.NodeReplace(
        new_node_id="PreviewAudio",
        old_node_id="AudioPlay",
        old_widget_ids=[],
        input_mapping=_same("audio"),
        output_mapping=[],
    ),
    _generator(
        "HuggingFaceMusicGen",
        [
            "model_size",
            "duration",
            "guidance_scale",
            "do_sample",
            "max_new_tokens",
            "seed",
            CONTROL,
            "prompt",
            "temperature",
            "duration_override",
        ],
        [
            *_fixed(top_k=50),
            *_same(
                "duration", "seed", "temperature", model_name="model_size", cfg_coef="guidance_scale", text="prompt"
            ),
            *_same(prompt="conditioning_audio"),
        ],
    ),
)


async def register_replacements() -> None:
    """Offer the replacements to ComfyUI."""
    for replacement in REPLACEMENTS:
        await offer_replacement(replacement)
