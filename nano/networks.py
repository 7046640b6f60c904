"""The networks of a language model's training: the model itself and the T5 encoder that is trained with it.

How their weights begin, and the forward pass over whole sequences. Inference runs
:class:`musicgen.lm.LMModel`; nothing is added to it here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen.config import LMConfig
from musicgen.lm.language_model import LMModel

from .copying_heads import begin_with_induction
from .corpus.score_marks import LABELS, MARKS
from .corpus.store import NANO_CHROMA
from .melody_heads import begin_with_melody

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
            if config.chroma_dim is not None:
                self.look_at_melody(generator)

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

    def look_at_melody(self, generator: torch.Generator) -> None:
        """Let a head begin by looking at the melody of the same time."""
        begin_with_melody(self.lm, NANO_CHROMA.chroma_length + (self.lm.config.text_length or 0), generator)

    @torch.no_grad()
    def put(self, weights: dict[str, Tensor]) -> None:
        """Set all weights that are given."""
        for name, weight in self.named_parameters():
            if name in weights:
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
            states = self._with_prefix(hidden, condition, chroma)
        states = self.lm.out_norm(states[:, -columns:])
        return self.lm.logits(states), self.marks(states), labels

    def _with_prefix(self, hidden: Tensor, condition: Tensor, chroma: Tensor) -> Tensor:
        """Prepend melody and text, which always take the same room: zeros follow a shorter text."""
        length = self.lm.config.text_length or condition.shape[1]
        condition = F.pad(condition[:, :length], (0, 0, 0, max(0, length - condition.shape[1])))
        # [B, chroma_length + length + S, dim]
        rows = torch.cat([self.lm.project_melody(chroma), condition, hidden], dim=1)
        return self.lm.transformer(rows, torch.arange(rows.shape[1], device=rows.device))
