"""Style: a short excerpt of a recording to a handful of tokens that tell how it sounds, not which notes it plays.

The style conditioner of Rouard et al. 2024 (*Audio Conditioning for Music Generation via Discrete
Bottleneck Features*): features of the excerpt go through a transformer and a residual quantiser,
the bottleneck, and are thinned out. The features come from MERT (Li et al. 2024), which is HuBERT
(Hsu et al. 2021) trained on music and runs in transformers' class for that, or from an EnCodec model.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio import as_audio, check_audio, convert_channels, resample
from ..codec.encodec import EnCodec
from ..config import StyleConfig
from ..environment import torch_defaults
from ..free_memory import told_shortage
from ..lm.language_model import LMModel
from ..lm.transformer import Transformer

_BYTES_PER_SAMPLE = 1000  # of MERT's first layers; measured at the released width, 700 to 920


@dataclass(frozen=True)
class StyleLead:
    """The tokens `[n, style_dim]` that a style model's rows begin with: a :class:`Lead`; None leaves one zero row.

    A style is encoded once and stays the same through all windows of a long piece.
    """

    tokens: Tensor | None = None
    acts_alone = True

    @property
    def is_null(self) -> bool:
        """Whether there is no style."""
        return self.tokens is None

    @property
    def size(self) -> int:
        """Number of tokens; without a style one zero row takes their place."""
        return 1 if self.tokens is None else len(self.tokens)

    def rows(self, lm: LMModel, device: torch.device) -> Tensor:
        """Project the tokens to `[n, dim]`."""
        if self.tokens is None:
            return self.null_rows(lm, device)
        return lm.project_style(self.tokens.to(device)[None])[0]

    def null_rows(self, lm: LMModel, device: torch.device) -> Tensor:
        """Return zeros `[n, dim]`: training dropped the style after its projection."""
        return torch.zeros(self.size, lm.config.dim, device=device, dtype=lm.dtype)

    def during(self, first: int, num_frames: int, frame_rate: int) -> StyleLead:
        """Return the style itself, for every window."""
        return self


class StyleConditioner(nn.Module):
    """Encodes the style of a recording; the projection of its tokens belongs to the language model.

    features: a :class:`Mert` or an :class:`EnCodec`, or None where it is missing; `missing` is
    then a sentence with the remedy.
    """

    def __init__(self, config: StyleConfig, features: nn.Module | None = None, missing: str = "") -> None:
        super().__init__()
        self.config = config
        self.mean: Tensor
        self.variance: Tensor
        self.missing = missing
        self.features = features
        if config.features == "mert":
            self.embed: nn.Module = nn.Linear(config.feature_dim, config.dim)
        else:
            self.embed = nn.Embedding(config.feature_codebooks * config.feature_dim, config.dim)
        self.transformer = Transformer(config, nn)
        self.register_buffer("mean", torch.empty(config.dim))
        self.register_buffer("variance", torch.empty(config.dim))
        self.codebooks = nn.Embedding(config.num_codebooks * config.card, config.dim)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that tell whether two conditioners speak of style in the same tokens."""
        data = self.codebooks.weight.detach().cpu().to(torch.float16).contiguous().view(torch.uint8).numpy().tobytes()
        return hashlib.sha256(data + repr(self.config).encode()).hexdigest()[:12]

    def memory_required(self, seconds: float) -> int:
        """Bytes that hearing an excerpt of `seconds` takes beside the weights."""
        samples = round(seconds * self.config.sample_rate)
        if isinstance(self.features, EnCodec):
            return self.features.memory_required(samples)
        return _BYTES_PER_SAMPLE * samples

    @torch.no_grad()
    @told_shortage("a style was encoded")
    @torch_defaults()
    def encode(
        self,
        audio: Tensor,
        sample_rate: int,
        *,
        excerpt_length: float | None = None,
        seed: int | None = None,
        eval_q: int | None = None,
    ) -> Tensor:
        """The style of a recording `[C, L]` or `[L]` of any rate: float32 tokens `[n, dim]`.

        excerpt_length: seconds that are heard. seed: chooses where they start; None takes the
        middle. eval_q: how many codebooks of the quantiser to use. None is the checkpoint's own
        number. Raises FileNotFoundError where the feature model is missing, and ValueError for a
        recording that is shorter than the excerpt or a number outside its range.
        """
        if self.features is None:
            raise FileNotFoundError(self.missing)
        seconds = self.config.excerpt_length if excerpt_length is None else excerpt_length
        codebooks = self.config.eval_q if eval_q is None else eval_q
        self._check(seconds, codebooks)
        audio = as_audio(audio, "the style's audio")
        audio = audio[None] if audio.dim() == 1 else audio
        mono = convert_channels(check_audio(audio[None], sample_rate, "the style's audio"), 1)[0, 0]
        excerpt = cut_excerpt(mono, sample_rate, seconds, seed).to(self.codebooks.weight.device)
        states = self.normalise(self.contextualise(self.embed_features(excerpt, sample_rate)))
        tokens = self.quantise(states, codebooks)[0, :: self.config.stride]
        return tokens.clone(memory_format=torch.contiguous_format)  # without the states between

    def embed_features(self, excerpt: Tensor, sample_rate: int) -> Tensor:
        """The features of a mono excerpt `[L]`, embedded: `[1, frames, dim]`."""
        if isinstance(self.features, EnCodec):
            codes = self.features.encode(excerpt[None, None], sample_rate)[:, : self.config.feature_codebooks]
            offsets = torch.arange(codes.shape[1], device=codes.device) * self.config.feature_dim
            embedded: Tensor = self.embed(codes + offsets[:, None]).sum(dim=1)
        else:
            assert self.features is not None
            wave = resample(excerpt, sample_rate, self.config.sample_rate)
            embedded = self.embed(self.features(wave[None]))
        return embedded

    def contextualise(self, embedded: Tensor) -> Tensor:
        """Embedded features `[B, frames, dim]` through the transformer, where each frame sees all others."""
        frames = embedded.shape[1]
        everything = torch.ones(1, 1, frames, frames, dtype=torch.bool, device=embedded.device)
        states: Tensor = self.transformer(embedded, torch.arange(frames, device=embedded.device), everything)
        return states

    def normalise(self, states: Tensor) -> Tensor:
        """States `[B, frames, dim]` by the mean and variance that training saw (Ioffe and Szegedy 2015)."""
        return F.batch_norm(states.transpose(1, 2), self.mean, self.variance).transpose(1, 2)

    def quantise(self, states: Tensor, num_codebooks: int) -> Tensor:
        """Each state `[B, frames, dim]` as the sum of the nearest codes of the first num_codebooks codebooks."""
        books = self.codebooks.weight.view(self.config.num_codebooks, self.config.card, self.config.dim)
        quantised = torch.zeros_like(states)
        for book in books[:num_codebooks]:
            nearest = torch.cdist(states - quantised, book[None]).argmin(dim=-1)
            quantised = quantised + F.embedding(nearest, book)
        return quantised

    def _check(self, seconds: float, codebooks: int) -> None:
        low, high = self.config.min_excerpt, self.config.max_excerpt
        if not low <= seconds <= high:
            raise ValueError(f"excerpt_length is {seconds:g} seconds; allowed is {low:g} to {high:g}, as in training.")
        if not 1 <= codebooks <= self.config.num_codebooks:
            raise ValueError(
                f"eval_q is {codebooks}; allowed is 1 to {self.config.num_codebooks}, the codebooks of the style."
            )


def cut_excerpt(wave: Tensor, sample_rate: int, seconds: float, seed: int | None) -> Tensor:
    """The excerpt of `seconds` out of a mono recording `[L]`: its middle, or at a place that the seed chooses.

    The same seed chooses the same moment at every sample rate. Raises ValueError where the
    recording is shorter.
    """
    length = round(seconds * sample_rate)
    spare = wave.shape[0] - length
    if spare < 0:
        raise ValueError(
            f"the style's audio is {wave.shape[0] / sample_rate:.2f} seconds long, shorter than the excerpt of "
            f"{seconds:g} seconds; give a longer recording or a shorter excerpt."
        )
    start = spare // 2 if seed is None else int(random.Random(seed).random() * (spare + 1))
    return wave[start : start + length]
