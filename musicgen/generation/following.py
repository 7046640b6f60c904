"""How well known codes follow others: their cross entropy under the model, given all columns before them.

A model that samples from left to right cannot look ahead. But it can say how likely the music behind a gap is after
each of several fillings, and so choose between them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..config import ModelConfig
from ..decoding.engine import by_group, cross_caches, embed_columns
from ..environment import torch_defaults
from ..free_memory import told_shortage
from ..lm.cpu_linear import plain_weights
from ..lm.language_model import LMModel
from ..lm.rows import Rows
from .conditions import window_conditions, window_guide
from .request import Request


@torch.no_grad()
@told_shortage("a seam was judged")
@torch_defaults()
def following_nats(
    lm: LMModel,
    config: ModelConfig,
    request: Request,
    codes: Tensor,
    first: int,
    frames: int,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the mean cross entropy of some frames of each piece, in nats a code. Guidance does not count.

    Args:
        lm: the language model.
        config: the model's numbers.
        request: one item; its conditions and pattern are used, and the last window of its gap.
        codes: int64 `[B, K, T]`, whole pieces without an unknown code.
        first: the first frame to predict.
        frames: how many of them, as far as the window reaches.
        device: where to compute.

    Returns:
        float32 `[B]`; 0 where no frame is left to predict.
    """
    device = torch.device(device)
    params = replace(request.params, cfg_coef=1.0)
    numbers = replace(request.schedules, cfg_coef=None)
    request = replace(request, params=params, schedules=numbers).repeated(range(len(codes))).checked(config)
    window = request.windows(config)[-1]
    stop = min(first + frames, window.first + window.num_frames)
    if stop <= first:
        return torch.zeros(len(codes))
    pattern = request.pattern(config, window.num_frames)
    part = codes[:, :, window.first : window.first + window.num_frames].to(device)
    sequence = pattern.build_sequence(part, config.lm.special_token_id)  # [B, K, S]
    columns = pattern.steps[:, first - window.first : stop - window.first].to(device)  # [K, n]
    low, high = int(columns.min()), int(columns.max())
    conditions = window_conditions(lm, config, request, window, device)
    # Column s - 1 predicts column s, so those from low - 1 to high - 1 are read.
    hidden = embed_columns(lm, sequence[:, :, :high], conditions, prefill=True)
    rows, length, count = Rows(conditions, device), hidden.shape[1], high - low + 1
    with plain_weights():
        logits = lm(
            hidden,
            rows.positions(0, length, device),
            count,
            rows.mask(0, length, device),
            None,
            cross_caches(lm, conditions),
        )  # [rows, K, count, card]
    guide = window_guide(config, request, window, device)
    each = [guide(by_group(logits[:, :, index : index + 1], conditions.groups), low + index) for index in range(count)]
    guided = torch.stack(each, dim=2).log_softmax(dim=3)  # [B, K, count, card]
    targets = sequence[:, :, low : high + 1]
    cells = torch.zeros(targets.shape[1:], dtype=torch.bool, device=device).scatter_(
        1, columns - low, True
    )  # [K, count]
    nats = -guided.gather(3, targets.clamp_max(config.card - 1).unsqueeze(3))[..., 0]
    return (nats * cells).sum(dim=(1, 2)).cpu() / int(cells.sum())
