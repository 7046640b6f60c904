"""The host's side of a training: autograd, memory, the copy that is trained, progress and sounds on the node.

Nodes run in torch's inference mode, whose tensors no gradient passes; a training leaves it and copies the weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import comfy.utils
import torch
from torch import Tensor

from ...musicgen.finetuning.adapters import trainable_copy
from ...musicgen.free_memory import free_memory
from ...musicgen.lm.language_model import LMModel
from . import patchers, previews, progress

_INTERVAL = 1.0


@contextmanager
def with_gradients() -> Iterator[None]:
    """Leave torch's inference mode, and let gradients be computed."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def free_bytes(wanted: int) -> int | None:
    """The bytes that a training may take, after the host made room for as many as are wanted; None if unknown."""
    device = mm.get_torch_device()
    if device.type == "cpu":
        return free_memory()
    mm.free_memory(wanted, device)
    return int(mm.get_free_memory(device))


def auto_dtype() -> str:
    """The number format that suits the device: bf16 where a GPU computes well in it, else fp32."""
    device = mm.get_torch_device()
    return "bf16" if device.type != "cpu" and mm.should_use_bf16(device) else "fp32"


@contextmanager
def training_copy(patcher: Any, dtype: torch.dtype, memory_required: int) -> Iterator[LMModel]:
    """A copy of a language model, its LoRAs worked in, on the device, in memory that the host knows of.

    memory_required: bytes besides the weights.
    """
    patchers.load_for_saving([patcher])
    state = patchers.weights_for_saving(patcher)
    copy = trainable_copy(patcher.model, state, dtype, mm.unet_offload_device())
    del state
    own = comfy.model_patcher.ModelPatcher(
        copy, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device()
    )
    with patchers.on_device(own, memory_required=memory_required, whole=True):
        yield copy


class TrainingReporter:
    """Called after every step: stops on interruption, moves the bar, tells loss and time left, and plays sounds.

    Args:
        node_id: of the node that trains.
        listen: makes two sounds `[C, L]`, without and with the LoRA so far, and their rate; None plays nothing.
        every: steps between two sounds.
    """

    def __init__(
        self, total: int, node_id: str | None, listen: Callable[[], tuple[list[Tensor], int]] | None, every: int
    ) -> None:
        self._bar, self._node_id = comfy.utils.ProgressBar(total), node_id
        self._listen, self._every = listen, every
        self._told = 0.0
        self.shown: dict[str, Any] | None = None
        """The node's output for the frontend: the latest sounds."""

    def __call__(self, step: Any) -> None:
        self._bar.update_absolute(step.step, step.total)
        progress.check_interrupt()
        now = time.monotonic()
        if now - self._told >= _INTERVAL or step.step == step.total:
            left, held = int(step.seconds_left), step.held_out
            songs = "" if held is None else f", held-out songs {held:.3f}"
            text = f"step {step.step} of {step.total}, loss {step.loss:.3f}{songs}, {left // 60}:{left % 60:02d} left"
            progress.show(self._node_id, text)
            self._told = now
        if self._listen is not None and self._every and step.step % self._every == 0:
            sounds, rate = self._listen()
            self.shown = previews.play_meanwhile(sounds, rate, self._node_id, f"step {step.step}") or self.shown
