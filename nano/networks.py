"""The networks of a language model's training: the model itself and the T5 encoder that is trained with it.

How their weights begin, and the forward pass over whole sequences. What runs at inference is
:class:`musicgen.lm.LMModel`; nothing is added to it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from musicgen.config import LMConfig
from musicgen.lm.language_model import LMModel

from .copying_heads import begin_with_induction
from .corpus.score_marks import LABELS, MARKS

_BESIDE = 3.0
"""How much more a head of the text encoder begins by looking at its place than elsewhere."""


@dataclass(frozen=True)
class TextShape:
    """Size of the T5 encoder."""

    width: int = 96
    layers: int = 2
    heads: int = 4
    ffn: int = 256

    def config(self, vocab_size: int) -> Any:
        """transformers' configuration of it."""
        from transformers import T5Config

        return T5Config(
            vocab_size=vocab_size,
            d_model=self.width,
            d_kv=self.width // self.heads,
            d_ff=self.ffn,
            num_layers=self.layers,
            num_heads=self.heads,
            feed_forward_proj="relu",
            dropout_rate=0.0,
        )


class TextAndCodes(nn.Module):
    """A language model and the T5 encoder that is trained with it."""

    def __init__(
        self,
        config: LMConfig,
        text: TextShape,
        vocab_size: int,
        generator: torch.Generator,
        *,
        induction: bool = False,
    ) -> None:
        super().__init__()
        from transformers import T5EncoderModel

        self.lm = LMModel(config, nn)
        # transformers draws its weights from the global generator; they are drawn anew below.
        with torch.random.fork_rng(devices=[]):
            self.t5 = T5EncoderModel(text.config(vocab_size))
        self.marks = nn.Linear(config.dim, len(MARKS))
        self.labels = nn.Linear(text.width, len(LABELS))
        self._init_weights(generator)
        self._look_beside()
        if induction:
            begin_with_induction(self.lm, generator)

    @torch.no_grad()
    def _init_weights(self, generator: torch.Generator) -> None:
        depth = 2 * self.lm.config.num_layers
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            spread = weight.shape[1] ** -0.5
            if name == "lm.embedding.weight":
                spread = 0.3
            elif name.startswith("t5.shared") or "relative_attention_bias" in name:
                spread = 1.0 if "shared" in name else 0.1
            elif name.endswith(("self_attn.out.weight", "cross_attn.out.weight", "ffn_out.weight")):
                spread *= depth**-0.5
            elif name == "lm.head.weight":
                spread *= 0.2
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)

    @torch.no_grad()
    def _look_beside(self) -> None:
        """Let three heads of the text encoder begin by looking at the word before, after, and two before: it has to
        learn whose `no` a `no` is."""
        attention: Any = self.t5.encoder.block[0].layer[0].SelfAttention
        for block in self.t5.encoder.block:
            # T5 does not divide by the root of the width, its weights begin that much smaller.
            block.layer[0].SelfAttention.q.weight.mul_(attention.key_value_proj_dim**-0.5)
        for head, offset in enumerate((-1, 1, -2)[: attention.n_heads]):
            bucket = attention._relative_position_bucket(
                torch.tensor([offset]), num_buckets=attention.relative_attention_num_buckets
            )
            attention.relative_attention_bias.weight[bucket, head] += _BESIDE

    @torch.no_grad()
    def put(self, weights: dict[str, Tensor]) -> None:
        """Set all weights."""
        for name, weight in self.named_parameters():
            weight.copy_(weights[name])

    def read_text(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Ids `[B, n]`, padded on the right -> states `[B, n, width]` and logits of the song's labels `[B, LABELS]`."""
        states = self.t5(input_ids=text, attention_mask=(text != 0).long()).last_hidden_state
        # The end of a text stands for the whole of it.
        return states, self.labels(states[torch.arange(len(text), device=text.device), (text != 0).sum(dim=1) - 1])

    def forward(
        self, sequence: Tensor, text: Tensor, text_mask: Tensor, chroma: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `[B, K, S, card]`: column s of sequence `[B, K, S]` predicts column s + 1; of the score's marks
        `[B, S, MARKS]`; and of the song's labels `[B, LABELS]`, by the text alone.

        text: ids `[B, n]`, padded on the right; text_mask bool `[B, n]`, all False in a row without
        text. chroma: one-hot `[B, F, 12]`, for melody models.
        """
        states, labels = self.read_text(text)
        condition = self.lm.project_description(states, text_mask)
        hidden = self.lm.embed(sequence)
        columns = sequence.shape[2]
        if chroma is None:
            # A row without text looks at one zero row, which adds nothing.
            mask = text_mask.clone()
            mask[:, 0] |= ~text_mask.any(dim=1)
            cross = self.lm.transformer.cross_caches(condition, mask)
            positions = torch.arange(columns, device=hidden.device)
            states = self.lm.transformer(hidden, positions, cross=cross)
        else:
            states = self._with_prefix(hidden, condition, (text != 0).sum(dim=1), chroma)
        states = self.lm.out_norm(states[:, -columns:])
        return self.lm.logits(states), self.marks(states), labels

    def _with_prefix(self, hidden: Tensor, condition: Tensor, lengths: Tensor, chroma: Tensor) -> Tensor:
        """Prepend melody and text; rows with a shorter text are moved to the right, as at inference."""
        melody = self.lm.project_melody(chroma)
        rows = torch.cat([melody, condition, hidden], dim=1)
        pad = condition.shape[1] - lengths
        at = torch.arange(rows.shape[1], device=rows.device)
        # Row i of the result: padding, then melody, text of its own length, and codes.
        source = at[None] - pad[:, None]
        source = torch.where(source < melody.shape[1] + lengths[:, None], source, at[None])
        moved = rows.gather(1, source.clamp_min(0)[..., None].expand_as(rows))
        positions = (at[None] - pad[:, None]).clamp_min(0)
        visible = (at[None, None] >= pad[:, None, None]) & (at[None, :, None] >= at[None, None])
        # A padding row sees itself: attention over nothing is not a number.
        visible |= torch.eye(len(at), dtype=torch.bool, device=rows.device)[None]
        return self.lm.transformer(moved, positions, visible[:, None])
