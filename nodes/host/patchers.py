"""Modules in ComfyUI's memory management: number formats, ModelPatchers, LoRA patches, loading, CUDA graphs.

Attributes of the host are looked up at call time, because its start-up replaces some of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import comfy.cli_args
import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.weight_adapter
import torch
from torch import Tensor, nn

from ...musicgen.decoding.cuda_graph import why_no_graphs
from .progress import logger, say

GRAPHS_VARIABLE = "MUSICGEN_CUDA_GRAPHS"
AUTO, INT8 = "auto", "int8"
_FLAGS = {"fp32_unet": torch.float32, "bf16_unet": torch.bfloat16, "fp16_unet": torch.float16}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def lm_dtype(choice: str, node_id: str | None = None) -> torch.dtype | None:
    """A number format of the loader's combo -> torch dtype; None is float32, over float16 weights where exact."""
    device = mm.get_torch_device()
    on_cpu = device.type == "cpu"
    if choice == INT8 and not on_cpu:
        say(node_id, f"int8 is for the CPU and this runs on {device.type}: the model is loaded as auto.")
    elif choice == INT8:
        return torch.int8
    elif choice != AUTO:
        return DTYPES[choice]
    for flag, dtype in _FLAGS.items():
        if getattr(comfy.cli_args.args, flag, False) and not (on_cpu and dtype == torch.float32):
            return dtype
    if on_cpu:
        return None
    if mm.should_use_bf16(device):
        return torch.bfloat16
    return torch.float16 if mm.should_use_fp16(device) else torch.float32


def lm_operations() -> Any:
    """The layers that the language model is built of: they fetch weights that were offloaded.

    The host turns that on where it offloads or patches in passing. Its other layers, manual_cast, look for
    something to fetch and cast in every call, which takes a third of a step of the smallest model.
    """
    return comfy.ops.disable_weight_init


def wrap_lm(module: nn.Module) -> Any:
    """A ModelPatcher around a language model: where its steps can be recorded, one that lets weights lie still."""
    device = mm.get_torch_device()
    may_move = _graphs_are_off() or why_no_graphs(device)
    return _wrap(module, device, mm.unet_offload_device(), None if may_move else comfy.model_patcher.ModelPatcher)


def wrap_text_encoder(module: nn.Module) -> Any:
    """A ModelPatcher around a text encoder."""
    return _wrap(module, mm.text_encoder_device(), mm.text_encoder_offload_device())


def wrap_style(module: nn.Module) -> Any:
    """A ModelPatcher around a style conditioner, which runs where text encoders do."""
    return wrap_text_encoder(module)


def wrap_codec(module: nn.Module) -> Any:
    """A ModelPatcher around a codec."""
    return _wrap(module, mm.vae_device(), mm.vae_offload_device())


def _wrap(module: nn.Module, load_device: torch.device, offload_device: torch.device, kind: Any = None) -> Any:
    mm.archive_model_dtypes(module)
    kind = kind or comfy.model_patcher.CoreModelPatcher
    return kind(module, load_device=load_device, offload_device=offload_device)


def _graphs_are_off() -> str | None:
    off = os.environ.get(GRAPHS_VARIABLE, "").strip() == "0"
    return f"{GRAPHS_VARIABLE} is 0" if off else None


def may_record(patcher: Any) -> bool:
    """Whether the steps of a language model that is loaded now can be recorded: its weights must lie still on the GPU
    until the run ends. Says in the log why not, where there is a GPU."""
    module, device = patcher.model, patcher.load_device
    reason = _graphs_are_off() or why_no_graphs(device)
    if reason is None and patcher.is_dynamic():
        reason = "ComfyUI may move its weights at any time (dynamic VRAM)"
    if reason is None and (module.model_lowvram or any(p.device.type != device.type for p in module.parameters())):
        reason = "it is not in the GPU's memory as a whole"
    changes = ("weight_function", "bias_function")
    if reason is None and any(getattr(m, name, None) for m in module.modules() for name in changes):
        reason = "its weights are changed whenever they are used"
    if reason is not None and device.type != "cpu":
        logger.info("Steps of the language model are not recorded: %s.", reason)
    return reason is None


def patch_lm(patcher: Any, lora: Any, strength: float) -> Any:
    """A clone of a language model's patcher that adds a LoRA. Both share one module: the host changes its weights when
    it loads the clone, and back when it loads the other."""
    whole = {_patch_key(change.rows): ("diff", (change.value,)) for change in lora.replacements}
    low_rank: dict[Any, Any] = {}
    for change in lora.low_rank:
        alpha = change.scale * change.down.shape[0]  # the host divides by the rank
        low_rank[_patch_key(change.rows)] = comfy.weight_adapter.LoRAAdapter(
            set(), (change.up, change.down, alpha, None, None, None)
        )
    patched = patcher.clone()
    done = patched.add_patches(whole, strength, 1.0 - strength) + patched.add_patches(low_rank, strength)
    if len(done) != len(whole) + len(low_rank):
        raise RuntimeError(f"ComfyUI took {len(done)} of {len(whole) + len(low_rank)} changes of LoRA {lora.name}.")
    return patched


def _patch_key(rows: Any) -> tuple[str, tuple[int, int, int]]:
    return rows.parameter, (0, rows.start, rows.count)


@contextmanager
def on_device(
    patcher: Any, *, memory_required: int = 0, whole: bool = False, beside: Any = None
) -> Iterator[torch.device]:
    """Bring a model to its device and yield that device.

    memory_required: bytes of activations and caches. whole: for modules of plain torch layers,
    which cannot run while a part of them is offloaded. beside: a second model that this run would like to have there;
    see :func:`is_whole`.
    """
    both = [patcher] if beside is None else [beside, patcher]
    mm.load_models_gpu(both, memory_required=memory_required, force_full_load=whole)
    device = patcher.load_device
    # Only with several GPUs, and only in newer hosts.
    context = getattr(mm, "cuda_device_context", None)
    with context(device) if context else nullcontext():
        yield device


def is_whole(patcher: Any) -> bool:
    """Whether all weights of a loaded model are on its device, as modules of plain torch layers need it."""
    weights = [*patcher.model.parameters(), *patcher.model.buffers()]
    return all(weight.device.type == patcher.load_device.type for weight in weights)


def require_whole(patcher: Any) -> None:
    """Raise where a loaded model of plain torch layers is not on its device as a whole."""
    if not is_whole(patcher):
        raise ValueError(
            "the codec does not fit on the device beside the language model, and the guard of MusicGen Long Form needs "
            "both at once; disconnect long form, or free memory on the device."
        )


def load_for_saving(patchers: list[Any]) -> None:
    """Bring models to where :func:`weights_for_saving` finds them, all at once so that none evicts another."""
    mm.load_models_gpu(patchers)


def weights_for_saving(patcher: Any, part: str | None = None) -> dict[str, Tensor]:
    """The state dict of a model or of one of its modules, with patches such as LoRA worked in, as core's own savers
    do it; some of its tensors compute themselves when they are moved to the CPU."""
    if part is None:
        return patcher.model_state_dict_for_saving()
    return patcher.model_state_dict_for_saving(getattr(patcher.model, part), f"{part}.")
