"""The language model: K embeddings, a transformer, K heads. `[B, K, S]` -> logits `[B, K, S, card]`.

It knows neither patterns nor sampling. The projections of the conditions belong to it, since
their weights are trained and stored with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..config import LMConfig
from .cache import CrossCache, KVCache
from .transformer import Transformer


class LMModel(nn.Module):
    """MusicGen's language model (Copet et al. 2023, section 2).

    operations: where Linear, LayerNorm and Embedding come from (torch.nn, or a host's drop-in).
    The weights are not meant to change after loading.
    """

    def __init__(
        self,
        config: LMConfig,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.config = config
        self.operations = operations
        self.dtype = dtype or torch.get_default_dtype()
        # One table for all codebooks, card + 1 rows each: a single lookup per step.
        self.embedding = operations.Embedding(config.num_codebooks * (config.card + 1), config.dim, **factory)
        self.transformer = Transformer(config, operations, **factory)
        self.out_norm = operations.LayerNorm(config.dim, eps=1e-5, **factory)
        self.head = operations.Linear(config.dim, config.num_codebooks * config.card, bias=False, **factory)
        if config.text_projection:
            self.description_proj = operations.Linear(config.text_dim, config.dim, **factory)
        if config.chroma_dim is not None:
            self.melody_proj = operations.Linear(config.chroma_dim, config.dim, **factory)
        if config.style_dim is not None:
            self.style_proj = operations.Linear(config.style_dim, config.dim, **factory)

    def project_description(self, states: Tensor, mask: Tensor) -> Tensor:
        """T5 states `[B, n, text_dim]` -> condition `[B, n, dim]`; rows where mask `[B, n]` is False become zero."""
        states = states.to(self.dtype)
        projected = self.description_proj(states) if self.config.text_projection else states
        return projected * mask.unsqueeze(-1).to(self.dtype)

    def project_melody(self, chroma: Tensor) -> Tensor:
        """A chromagram `[B, frames, num_chroma]` -> condition `[B, frames, dim]`."""
        return self.melody_proj(chroma.to(self.dtype))

    def project_style(self, tokens: Tensor) -> Tensor:
        """Style tokens `[B, n, style_dim]` -> condition `[B, n, dim]`."""
        return self.style_proj(tokens.to(self.dtype))

    def embed(self, sequence: Tensor) -> Tensor:
        """Sequence `[B, K, S]` -> sum of the K embeddings `[B, S, dim]`."""
        offsets = torch.arange(self.config.num_codebooks, device=sequence.device) * (self.config.card + 1)
        # The dtype is stated by a cast and not left to the leaf: a host may store narrower weights.
        return self.embedding(sequence + offsets[:, None]).to(self.dtype).sum(dim=1)

    def forward(
        self,
        hidden: Tensor,
        positions: Tensor,
        num_logits: int,
        mask: Tensor | None = None,
        caches: list[KVCache] | None = None,
        cross: list[CrossCache] | None = None,
    ) -> Tensor:
        """Run embedded rows and prefixes through the model.

        hidden `[rows, n, dim]` (prefix and embedded sequence) at positions `[rows, n]` or `[n]`.
        Returns float32 logits `[rows, K, num_logits, card]` of the last num_logits columns.
        """
        x = self.transformer(hidden, positions, mask, caches, cross)
        return self.logits(self.out_norm(x[:, x.shape[1] - num_logits :]))

    def logits(self, states: Tensor) -> Tensor:
        """Normalised last states `[rows, n, dim]` -> float32 logits `[rows, K, n, card]`."""
        logits = self.head(states).float()
        return logits.view(*logits.shape[:2], self.config.num_codebooks, self.config.card).transpose(1, 2)
