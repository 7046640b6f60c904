"""The conditions of one window of a request: their tensors, the function that guides by them, and the drawing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..conditioning.condition import Lead
from ..conditioning.fuser import fuse
from ..config import ModelConfig
from ..decoding.engine import SamplingParams
from ..lm.language_model import LMModel
from ..lm.rows import Conditions
from .guidance import guidance
from .request import Request
from .windows import Window


def window_conditions(
    lm: LMModel, config: ModelConfig, request: Request, window: Window, device: torch.device
) -> Conditions:
    """Return the condition tensors of all rows in a window."""
    branches = request.branches(config, window)
    leads = _leads(config, request, window)
    return fuse(lm, branches.groups, request.batch_size, device, led=branches.led, leads=leads)


def _leads(config: ModelConfig, request: Request, window: Window) -> list[Lead]:
    """Return the leads of a window: the given ones for a single window, the window's part of a longer piece."""
    leads, windows = request.leads(config), request.windows(config)
    if len(windows) == 1 and not window.first:
        return leads
    longest = max(each.num_frames for each in windows)
    return [lead.during(window.first, longest, config.frame_rate) for lead in leads]


def window_guide(
    config: ModelConfig, request: Request, window: Window, device: torch.device
) -> Callable[[Tensor, int | Tensor], Tensor]:
    """Return the function that combines the logits of all rows into guided ones, column by column of a window.

    Args:
        config: the model's numbers.
        request: the request.
        window: the window.
        device: where the logits are.
    """
    cells = request.cells(config, window)
    return guidance(request.branches(config, window), cells, request.numbers(cells), device)


def window_drawing(config: ModelConfig, request: Request, window: Window, device: torch.device) -> SamplingParams:
    """Return the settings for drawing the codes of a window."""
    return request.numbers(request.cells(config, window)).drawing(device)
