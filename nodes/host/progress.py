"""Progress on a node: interruption, the bar, pictures, and lines of text on the node and in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import comfy.model_management as mm
import comfy.utils
import torch
from PIL import Image
from torch import Tensor

logger = logging.getLogger("musicgen")

_PICTURE_INTERVAL = 0.25
_PICTURE_SIZE = 512


Interrupted: type[BaseException] = mm.InterruptProcessingException
"""Raised where the user pressed Cancel; the host's mark of it is cleared by then, so that a run can go on."""


def check_interrupt() -> None:
    """Raise if the user pressed Cancel."""
    mm.throw_exception_if_processing_interrupted()


def say(node_id: str | None, text: str) -> None:
    """Show a line on a node, and in the log."""
    logger.warning(text)
    show(node_id, text)


def show(node_id: str | None, text: str) -> None:
    """Show a line on a node."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        server.send_progress_text(text, node_id)


class PartReporter:
    """Called with the done and the whole of a part: stops on interruption and moves the progress bar.

    parts: how many, as long as one another, come one after the other.
    """

    def __init__(self, parts: int = 1) -> None:
        self._bar, self._parts = comfy.utils.ProgressBar(parts), parts

    def __call__(self, done: int, total: int, part: int = 0) -> None:
        check_interrupt()
        self._bar.update_absolute(part * total + done, self._parts * total)


class StepReporter:
    """Called after every step: stops on interruption, moves the progress bar, and now and then shows a picture.

    last: the progress of the latest step, from which the piece so far can be read; None before the first.
    """

    def __init__(self, total: int, draw: Callable[[Tensor], Tensor]) -> None:
        """total: steps. draw: codes [B, K, T] -> picture [H, W, 3], floats of 0 to 1."""
        self._bar = comfy.utils.ProgressBar(total)
        self._draw = draw
        self._next_picture = 0.0
        self.last: Any = None
        self.watch: Callable[[Any], None] | None = None
        """Called with the progress of every step as well."""

    def __call__(self, progress: Any) -> None:
        self.last = progress
        check_interrupt()
        if self.watch is not None:
            self.watch(progress)
        preview = None
        if progress.step == progress.total or time.monotonic() >= self._next_picture:
            picture = (self._draw(progress.codes()) * 255).to(torch.uint8).numpy()
            preview = ("JPEG", Image.fromarray(picture), _PICTURE_SIZE)
            self._next_picture = time.monotonic() + _PICTURE_INTERVAL
        self._bar.update_absolute(progress.step, progress.total, preview)
