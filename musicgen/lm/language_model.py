"""The language model: K embeddings, a transformer, K heads. `[B, K, S]` -> logits `[B, K, S, card]`.

It knows neither patterns nor sampling. The projections of the conditions are part of it, since
their weights are trained and stored with its own.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from ..config import LMConfig
from .cache import CrossCache, KVCache
from .transformer import Transformer


class LMModel(nn.Module):
    """MusicGen's language model (Copet et al. 2023, section 2). Treat the weights as constants after loading."""

    def __init__(
        self,
        config: LMConfig,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Build the layers.

        Args:
            config: the numbers of the language model.
            operations: the source of Linear, LayerNorm and Embedding: torch.nn, or a host's drop-in.
            device: where to create the weights.
            dtype: dtype of the weights and of the computation; torch's default if None.
        """
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
        if config.chroma_dim is not None and config.chroma_projection:
            self.melody_proj = operations.Linear(config.chroma_dim, config.dim, **factory)
        if config.style_dim is not None:
            self.style_proj = operations.Linear(config.style_dim, config.dim, **factory)

    def fingerprint(self) -> str:
        """Return twelve hexadecimal digits, equal for equal weights in one number format: the start of each tensor."""
        digest = hashlib.sha256(repr(self.config).encode())
        for name, weight in sorted(self.state_dict().items()):
            start = weight.detach().reshape(-1)[:64].cpu().to(torch.float32).contiguous()
            digest.update(f"{name} {list(weight.shape)}".encode() + start.numpy().tobytes())
        return digest.hexdigest()[:12]

    def project_description(self, states: Tensor, mask: Tensor) -> Tensor:
        """Project T5 states `[B, n, text_dim]` to `[B, n, dim]`; vectors where mask `[B, n]` is False become zero."""
        states = states.to(self.dtype)
        projected = self.description_proj(states) if self.config.text_projection else states
        return projected * mask.unsqueeze(-1).to(self.dtype)

    def project_melody(self, chroma: Tensor) -> Tensor:
        """Project a chromagram `[B, frames, num_chroma]` to `[B, frames, dim]`."""
        chroma = chroma.to(self.dtype)
        return self.melody_proj(chroma) if self.config.chroma_projection else chroma

    def project_style(self, tokens: Tensor) -> Tensor:
        """Project style tokens `[B, n, style_dim]` to `[B, n, dim]`."""
        return self.style_proj(tokens.to(self.dtype))

    def embed(self, sequence: Tensor) -> Tensor:
        """Embed a sequence `[B, K, S]` as the sum of its K embeddings, `[B, S, dim]`."""
        offsets = torch.arange(self.config.num_codebooks, device=sequence.device) * (self.config.card + 1)
        # Cast here, since a host may store the table in a narrower dtype.
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
        """Run embedded columns through the model.

        Args:
            hidden: prefix and embedded sequence, `[rows, n, dim]`.
            positions: position of each vector, `[rows, n]` or `[n]`.
            num_logits: how many of the last columns to return logits for.
            mask: bool `[rows, 1, n, keys]`, True = may attend; None for causal attention.
            caches: one key and value cache per layer, or None to attend within `hidden` alone.
            cross: one projected condition per layer, or None without cross-attention.

        Returns:
            float32 logits `[rows, K, num_logits, card]`.
        """
        x = self.transformer(hidden, positions, mask, caches, cross)
        return self.logits(self.out_norm(x[:, x.shape[1] - num_logits :]))

    def logits(self, states: Tensor) -> Tensor:
        """Map normalised last states `[rows, n, dim]` to float32 logits `[rows, K, n, card]`."""
        logits = self.head(states).float()  # [rows, n, K x card]
        return logits.view(*logits.shape[:2], self.config.num_codebooks, self.config.card).transpose(1, 2)
