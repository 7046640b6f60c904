"""The conditions of one window of a request: their tensors, and the function that guides by them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..conditioning.condition import Lead
from ..conditioning.fuser import fuse
from ..config import ModelConfig
from ..lm.language_model import LMModel
from ..lm.rows import Conditions
from .guidance import guidance
from .request import Request
from .windows import Window


def window_conditions(
    lm: LMModel, config: ModelConfig, request: Request, window: Window, device: torch.device
) -> Conditions:
    """Return the condition tensors of all rows in a window."""
    branches = request.branches(config)
    leads = _leads(config, request, window)
    return fuse(lm, branches.groups, request.batch_size, device, led=branches.led, leads=leads)


def _leads(config: ModelConfig, request: Request, window: Window) -> list[Lead]:
    """Return the leads of a window: the given ones for a single window, the window's part of a longer piece."""
    leads, windows = request.leads(config), request.windows(config)
    if len(windows) == 1 and not window.first:
        return leads
    return [lead.during(window.first, windows[0].num_frames, config.frame_rate) for lead in leads]


def window_guide(
    config: ModelConfig, request: Request, window: Window, total: int, device: torch.device
) -> Callable[[Tensor, int | Tensor], Tensor]:
    """Return the function that combines the logits of all rows into guided ones, column by column of a window.

    Args:
        config: the model's numbers.
        request: the request.
        window: the window.
        total: frames of the whole piece.
        device: where the logits are.
    """
    pattern = request.pattern(config, window.num_frames)
    # [K, S]: the time of each cell in the generated piece, 0 to 1. Codes of the prompt and empty cells get 0.
    known = request.prompt_frames
    shares = ((pattern.frames + window.first - known) / (total - known)).clamp(0.0, 1.0)
    return guidance(request.branches(config), shares, request.params, device)
