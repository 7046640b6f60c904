"""How likely given codes are under a model: the paper's cross entropy and perplexity, by codebook and by pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning.fuser import fuse
from ..conditioning.melody import Melody
from ..decoding.engine import cross_caches, embed_columns
from ..environment import torch_defaults
from ..generation.params import GenerationParams
from ..generation.request import Request
from ..lm.rows import Rows
from ..model import MusicGen
from ..training.losses import codes_cross_entropy


@dataclass(frozen=True)
class Likelihood:
    """Cross entropies of codes under a model.

    Attributes:
        nats: mean over the codes of each codebook, float64 `[B, K]`.
        counts: codes that a column predicts, int64 `[K]`; the rest begin the piece without a prediction.
    """

    nats: Tensor
    counts: Tensor

    @property
    def by_codebook(self) -> Tensor:
        """Mean cross entropy of each codebook over the batch, `[K]`."""
        return self.nats.mean(dim=0)

    @property
    def cross_entropy(self) -> float:
        """Mean over codebooks and batch, the loss that MusicGen is trained on."""
        return float(self.nats.mean())

    @property
    def perplexity(self) -> float:
        """The exponential of the cross entropy, as audiocraft logs it."""
        return float(self.nats.mean().exp())


@torch.no_grad()
@torch_defaults()
def likelihood(
    model: MusicGen,
    codes: Tensor,
    descriptions: Sequence[str | None],
    *,
    pattern: str | None = None,
    melodies: Sequence[Melody | None] = (),
) -> Likelihood:
    """Return the cross entropy of codes, each predicted from all columns before its own, without guidance.

    Args:
        model: the model to ask.
        codes: int64 `[B, K, T]`, from the model's own codec.
        descriptions: one per item; None for an item without one.
        pattern: one of `PATTERN_NAMES`; None for the model's own.
        melodies: one per item, for melody models.

    Raises:
        ValueError: the codes or conditions do not fit the model.
    """
    items = []
    for row, description in enumerate(descriptions):
        melody = list(melodies[row : row + 1])
        items.append(_one(model, codes[row : row + 1], description, pattern, melody))
    if len(items) != len(codes):
        raise ValueError(f"{len(descriptions)} descriptions came with {len(codes)} items of codes; give one for each.")
    return Likelihood(torch.stack([nats for nats, _ in items]), items[0][1])


def _one(
    model: MusicGen, codes: Tensor, description: str | None, pattern: str | None, melodies: list[Melody | None]
) -> tuple[Tensor, Tensor]:
    """The mean nats `[K]` of one item, and how many codes they are means of."""
    config, lm, device = model.config, model.lm, model.device
    seconds = codes.shape[2] / config.frame_rate
    params = GenerationParams(duration=seconds, window=seconds, pattern=pattern, cfg_coef=1.0)
    text = model.text_encoder.encode([description])
    # The codes are checked as a prompt is.
    request = Request(params=params, positive=[text], melodies=melodies, prompt=codes).checked(config)
    layout = request.pattern(config, codes.shape[2])
    branches = request.branches(config)
    leads = request.leads(config)
    conditions = fuse(lm, branches.groups[:1], 1, device, led=branches.led[:1], leads=leads)
    sequence = layout.build_sequence(codes.to(device), config.lm.special_token_id)  # [1, K, S]
    # Column s predicts column s + 1, so the last column need not be read.
    hidden = embed_columns(lm, sequence[:, :, :-1], conditions, prefill=True)
    rows, length = Rows(conditions, device), hidden.shape[1]
    mask = rows.mask(0, length, device)
    logits = lm(
        hidden, rows.positions(0, length, device), sequence.shape[2] - 1, mask, None, cross_caches(lm, conditions)
    )
    targets, valid = sequence[:, :, 1:], layout.mask[:, 1:].to(device)  # [K, S - 1]
    # float64 keeps the sums of long pieces exact.
    nats = codes_cross_entropy(logits.double(), targets, valid.double())
    return nats.cpu(), valid.sum(dim=1).cpu()
