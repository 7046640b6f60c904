"""The rivals of our decoding: one step of two other implementations, on weights of the same shapes.

`Transformers` runs the installed transformers' own decoder with its own cache. `Audiocraft` is a
model of a step of audiocraft, written for this comparison, since that package cannot be
installed beside ComfyUI: four embeddings and four heads, the keys and values of the condition
projected anew in every step, a cache that is copied when it grows. Both guide and draw as their
originals do; all other work of their loops is left out, in their favour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import measuring  # noqa: F401  (makes the library importable)
import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen.config import ModelConfig


def draw(logits: Tensor, cfg_coef: float, top_k: int) -> Tensor:
    """Guide logits `[2B, K, card]`, keep the likeliest codes, and draw codes `[B, K]`."""
    conditional, null = logits.chunk(2)
    guided = null + (conditional - null) * cfg_coef
    smallest = guided.topk(top_k, dim=-1).values[..., -1:]
    probs = guided.masked_fill(guided < smallest, -torch.inf).softmax(dim=-1)
    return torch.multinomial(probs.flatten(0, 1), 1).view(probs.shape[:2])


@dataclass(frozen=True)
class Setting:
    """The input of a peer: weights under our names, and a cache `[2, rows, heads, n, head_dim]` for each layer."""

    config: ModelConfig
    weights: dict[str, Tensor]
    batch: int
    cache: list[Tensor]
    dtype: torch.dtype
    device: torch.device | str


class Transformers:
    """The step of transformers' MusicgenForCausalLM."""

    def __init__(self, setting: Setting) -> None:
        from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

        lm, batch, dtype, device = setting.config.lm, setting.batch, setting.dtype, setting.device
        settings = MusicgenDecoderConfig(
            vocab_size=lm.card,
            hidden_size=lm.dim,
            num_hidden_layers=lm.num_layers,
            num_attention_heads=lm.num_heads,
            ffn_dim=lm.ffn_dim,
            num_codebooks=lm.num_codebooks,
            pad_token_id=None,
            bos_token_id=None,
        )
        with torch.device("meta"):
            model = MusicgenForCausalLM(settings)
        model.load_state_dict(self._named(setting.weights, lm.num_codebooks, dtype, device), strict=True, assign=True)
        positions = model.model.decoder.embed_positions
        positions.weights = positions.get_embedding(2048, lm.dim).to(device, dtype)
        self.model, self.rows, self.base = model.eval(), 2 * batch, setting.cache
        generator = torch.Generator().manual_seed(1)
        self.condition = torch.randn(self.rows, 16, lm.dim, generator=generator).to(device, dtype)
        self.condition[batch:] = 0
        self.mask = torch.ones(self.rows, 16, device=device, dtype=torch.long)
        self.mask[batch:] = 0
        self.codes = torch.zeros(self.rows * lm.num_codebooks, 1, dtype=torch.long, device=device)
        self.num_codebooks, self.device = lm.num_codebooks, device
        self.cache: Any = None

    @staticmethod
    def _named(
        weights: dict[str, Tensor], num_codebooks: int, dtype: torch.dtype, device: torch.device | str
    ) -> dict[str, Tensor]:
        """Return our weights under transformers' names, as views if dtype and device are the same."""
        made = {}
        tables = weights["embedding.weight"].chunk(num_codebooks)
        heads = weights["head.weight"].chunk(num_codebooks)
        for index, (table, head) in enumerate(zip(tables, heads, strict=True)):
            made[f"model.decoder.embed_tokens.{index}.weight"], made[f"lm_heads.{index}.weight"] = table, head
        for kind in ("weight", "bias"):
            made[f"model.decoder.layer_norm.{kind}"] = weights[f"out_norm.{kind}"]
        names = {"norm_self": "self_attn_layer_norm", "norm_cross": "encoder_attn_layer_norm"}
        names |= {"norm_ffn": "final_layer_norm", "ffn_in": "fc1", "ffn_out": "fc2"}
        names |= {"self_attn.out": "self_attn.out_proj", "cross_attn.out": "encoder_attn.out_proj"}
        names |= {"cross_attn.q": "encoder_attn.q_proj"}
        split = {"self_attn.qkv": ("self_attn", "qkv"), "cross_attn.kv": ("encoder_attn", "kv")}
        for name, tensor in weights.items():
            if not name.startswith("transformer.layers."):
                continue
            layer, _, rest = name.removeprefix("transformer.layers.").partition(".")
            module, _, kind = rest.rpartition(".")
            place = f"model.decoder.layers.{layer}."
            if module in split:
                whose, letters = split[module]
                for letter, part in zip(letters, tensor.chunk(len(letters)), strict=True):
                    made[f"{place}{whose}.{letter}_proj.{kind}"] = part
            else:
                made[f"{place}{names[module]}.{kind}"] = tensor
        return {name: tensor.to(device, dtype) for name, tensor in made.items()}

    def reset(self, position: int) -> None:
        """Pretend that so many positions are decoded."""
        from transformers import DynamicCache, EncoderDecoderCache

        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self._forward()
        if position:
            for layer, tensor in zip(self.cache.self_attention_cache.layers, self.base, strict=True):
                layer.keys, layer.values = (part[:, :, :position].contiguous() for part in tensor)

    def _forward(self) -> Tensor:
        return self.model(
            input_ids=self.codes,
            encoder_hidden_states=self.condition,
            encoder_attention_mask=self.mask,
            past_key_values=self.cache,
            use_cache=True,
        ).logits

    def step(self) -> None:
        """Decode one column."""
        logits = self._forward().float().view(self.rows, self.num_codebooks, -1)
        drawn = draw(logits, 3.0, 250)
        self.codes = drawn.repeat(2, 1).view(-1, 1)


class Audiocraft:
    """A step with the structure of audiocraft's own."""

    def __init__(self, setting: Setting) -> None:
        lm, batch, dtype, device = setting.config.lm, setting.batch, setting.dtype, setting.device
        self.weights = {name: tensor.to(device, dtype) for name, tensor in setting.weights.items()}
        self.tables = self.weights["embedding.weight"].chunk(lm.num_codebooks)
        self.heads = self.weights["head.weight"].chunk(lm.num_codebooks)
        self.lm, self.rows, self.base = lm, 2 * batch, setting.cache
        self.condition = torch.randn(self.rows, 16, lm.dim, generator=torch.Generator().manual_seed(1)).to(
            device, dtype
        )
        self.condition[batch:] = 0
        self.codes = torch.zeros(self.rows, lm.num_codebooks, 1, dtype=torch.long, device=device)
        half = torch.arange(lm.dim // 2, device=device) / (lm.dim // 2 - 1)
        self.frequencies = torch.pow(10000.0, -half)
        self.past: list[Any] = []
        self.position = 0

    def reset(self, position: int) -> None:
        """Pretend that so many positions are decoded."""
        self.position = position
        self.past = [tensor[:, :, :, :position].contiguous() for tensor in self.base]

    def step(self) -> None:
        """Decode one column."""
        x = torch.stack([F.embedding(self.codes[:, k], table) for k, table in enumerate(self.tables)]).sum(dim=0)
        angle = self.position * self.frequencies
        x = x + torch.cat([angle.cos(), angle.sin()]).to(x.dtype)
        for index in range(self.lm.num_layers):
            x = self._layer(x, f"transformer.layers.{index}.", index)
        x = self._norm(x, "out_norm")
        logits = torch.stack([F.linear(x, head) for head in self.heads], dim=1).float()
        self.codes = draw(logits[:, :, -1], 3.0, 250).repeat(2, 1)[..., None]
        self.position += 1

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.lm.num_heads, -1).transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, out: str) -> Tensor:
        found = F.scaled_dot_product_attention(self._heads(q), k, v)
        return F.linear(found.transpose(1, 2).flatten(2), self.weights[out])

    def _layer(self, x: Tensor, place: str, index: int) -> Tensor:
        w = self.weights
        q, k, v = F.linear(self._norm(x, place + "norm_self"), w[place + "self_attn.qkv.weight"]).chunk(3, dim=-1)
        new = torch.stack([self._heads(k), self._heads(v)])
        self.past[index] = torch.cat([self.past[index], new], dim=3)
        k, v = self.past[index]
        x = x + self._attend(q, k, v, place + "self_attn.out.weight")
        q = F.linear(self._norm(x, place + "norm_cross"), w[place + "cross_attn.q.weight"])
        k, v = (self._heads(F.linear(self.condition, part)) for part in w[place + "cross_attn.kv.weight"].chunk(2))
        x = x + self._attend(q, k, v, place + "cross_attn.out.weight")
        inner = F.gelu(F.linear(self._norm(x, place + "norm_ffn"), w[place + "ffn_in.weight"]))
        return x + F.linear(inner, w[place + "ffn_out.weight"])
