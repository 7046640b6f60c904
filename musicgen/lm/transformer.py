"""The transformer of MusicGen: pre-norm layers of self-attention, cross-attention and a GELU FFN.

Vaswani et al. 2017 with the choices of Copet et al. 2023: biases in the LayerNorms only, sinusoidal
positions with all cosines first, exact GELU. Modules take their leaf layers from `operations`
(torch.nn or a drop-in with the same names), so that a host can manage the weights. This module has
no loop over steps and no sampling.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import TransformerConfig
from .cache import CrossCache, KVCache


def sinusoidal_positions(positions: Tensor, dim: int, max_period: float = 10000.0, scale: float = 1.0) -> Tensor:
    """Embed positions `[...]` as `[..., dim]`: scale `[cos(p w_i) | sin(p w_i)]`, w_i = max_period^(-i/(dim/2 - 1)).

    Always in float32: half precision cannot tell late positions apart.

    >>> sinusoidal_positions(torch.tensor([0]), 4)
    tensor([[1., 1., 0., 0.]])
    """
    half = dim // 2
    exponent = torch.arange(half, device=positions.device, dtype=torch.float32) / max(half - 1, 1)
    angle = positions.to(torch.float32).unsqueeze(-1) / torch.pow(max_period, exponent)
    table = torch.cat([angle.cos(), angle.sin()], dim=-1)
    return table if scale == 1.0 else table * scale


def _split_heads(x: Tensor, num_heads: int) -> Tensor:
    rows, length, dim = x.shape
    return x.view(rows, length, num_heads, dim // num_heads).transpose(1, 2)  # [rows, heads, n, head_dim]


def _merge_heads(x: Tensor) -> Tensor:
    rows, heads, length, head_dim = x.shape
    return x.transpose(1, 2).reshape(rows, length, heads * head_dim)  # [rows, n, dim]


class SelfAttention(nn.Module):
    """Causal attention with one fused projection for queries, keys and values."""

    def __init__(self, config: TransformerConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = operations.Linear(config.dim, 3 * config.dim, bias=False, **factory)
        self.out = operations.Linear(config.dim, config.dim, bias=False, **factory)

    def forward(self, x: Tensor, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        """Attend from x to the cached columns and to x itself.

        Args:
            x: the normed input, `[rows, n, dim]`.
            mask: bool `[rows, 1, n, keys]`, True = may attend; None for causal attention, in which x
                takes the last n of the keys.
            cache: keys and values of the columns before x; those of x are appended.

        Returns:
            `[rows, n, dim]`.
        """
        q, k, v = (_split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        if cache is not None:
            k, v = cache.append(k, v)
        queries, keys = q.shape[2], k.shape[2]
        if mask is None and 1 < queries < keys:
            # is_causal would align the queries with the first keys of the cache, not with the last.
            mask = torch.ones(queries, keys, dtype=torch.bool, device=x.device).tril(keys - queries)
        causal = mask is None and queries > 1
        return self.out(_merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)))


class CrossAttention(nn.Module):
    """Attention from the sequence to a condition."""

    def __init__(self, config: TransformerConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = operations.Linear(config.dim, config.dim, bias=False, **factory)
        self.kv = operations.Linear(config.dim, 2 * config.dim, bias=False, **factory)
        self.out = operations.Linear(config.dim, config.dim, bias=False, **factory)

    def project(self, condition: Tensor, mask: Tensor) -> CrossCache:
        """Project a condition `[rows, n, dim]` with mask bool `[rows, n]`, True = counts, to keys and values."""
        k, v = (_split_heads(part, self.num_heads) for part in self.kv(condition).chunk(2, dim=-1))
        return CrossCache(k, v, None if bool(mask.all()) else mask[:, None, None, :])

    def forward(self, x: Tensor, cache: CrossCache) -> Tensor:
        """Attend from x `[rows, n, dim]` to the condition; `[rows, n, dim]`."""
        q = _split_heads(self.q(x), self.num_heads)
        return self.out(_merge_heads(F.scaled_dot_product_attention(q, cache.keys, cache.values, attn_mask=cache.mask)))


class TransformerLayer(nn.Module):
    """One pre-norm layer."""

    def __init__(self, config: TransformerConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm_self = operations.LayerNorm(config.dim, eps=1e-5, **factory)
        self.self_attn = SelfAttention(config, operations, **factory)
        if config.cross_attention:
            self.norm_cross = operations.LayerNorm(config.dim, eps=1e-5, **factory)
            self.cross_attn = CrossAttention(config, operations, **factory)
        self.norm_ffn = operations.LayerNorm(config.dim, eps=1e-5, **factory)
        self.ffn_in = operations.Linear(config.dim, config.ffn_dim, bias=False, **factory)
        self.ffn_out = operations.Linear(config.ffn_dim, config.dim, bias=False, **factory)

    def forward(self, x: Tensor, mask: Tensor | None, cache: KVCache | None, cross: CrossCache | None) -> Tensor:
        """Map x `[rows, n, dim]` to `[rows, n, dim]`; rows beyond those in `cross` skip cross-attention."""
        x = x + self.self_attn(self.norm_self(x), mask, cache)
        if cross is not None:
            led = x[: len(cross.keys)]
            led = led + self.cross_attn(self.norm_cross(led), cross)
            x = led if len(led) == len(x) else torch.cat([led, x[len(led) :]])
        return x + self.ffn_out(F.gelu(self.ffn_in(self.norm_ffn(x))))


class Transformer(nn.Module):
    """The stack of layers. It adds the positions; the final norm is part of the language model."""

    def __init__(self, config: TransformerConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(TransformerLayer(config, operations, **factory) for _ in range(config.num_layers))

    def cross_caches(self, condition: Tensor, mask: Tensor) -> list[CrossCache]:
        """Project a condition `[rows, n, dim]` once for all layers and all steps."""
        return [layer.cross_attn.project(condition, mask) for layer in self._typed_layers()]

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        caches: list[KVCache] | None = None,
        cross: list[CrossCache] | None = None,
    ) -> Tensor:
        """Run all layers.

        Args:
            x: `[rows, n, dim]`.
            positions: position of each vector, `[rows, n]` or `[n]`.
            mask: bool `[rows, 1, n, keys]`, True = may attend; None for causal attention.
            caches: one key and value cache per layer, or None to attend within x alone.
            cross: one projected condition per layer, or None without cross-attention.

        Returns:
            `[rows, n, dim]`.
        """
        config = self.config
        table = sinusoidal_positions(positions, config.dim, config.max_period, config.positional_scale)
        x = x + table.to(x.dtype)
        for index, layer in enumerate(self._typed_layers()):
            x = layer(x, mask, caches[index] if caches else None, cross[index] if cross else None)
        return x

    def _typed_layers(self) -> list[TransformerLayer]:
        return [layer for layer in self.layers if isinstance(layer, TransformerLayer)]
