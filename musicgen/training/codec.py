"""Training of the codec: first as an autoencoder, then with residual vector quantisation inside.

Defossez et al. 2022 without the adversary: waveform and mel losses, codebooks updated by moving
averages of their vectors (van den Oord et al. 2017, appendix A), and unused entries replaced by
current vectors. The networks come from the `encodec` package; this module only trains them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codec.encodec import EnCodec
from ..config import CodecConfig
from ..fidelity import mel_distance, si_snr
from .losses import MelLoss
from .resume import ProgressLog, as_stored, load_checkpoint, save_checkpoint, step_rng, step_torch_rng


class SongArray(Protocol):
    """Songs as an array `[N, L]`, in memory or on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and L."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any) -> Any: ...


@dataclass(frozen=True)
class CodecRecipe:
    """The settings of a codec's training. With the songs and the networks they determine the result."""

    steps: int = 10000
    autoencoder_steps: int = 500
    """Steps before the codebooks are initialised and used."""
    batch: int = 8
    frames: int = 50
    """Length of a training clip, in frames."""
    learning_rate: float = 4e-3
    warmup: int = 50
    wave_weight: tuple[float, float] = (80.0, 10.0)
    """Weight of the waveform's L1 loss at the first and at the last step. It starts high, since the codec learns
    the phase early or never."""
    commitment: float = 0.25
    decay: float = 0.98
    dead_share: float = 0.1
    """Entries used less often than this share of an even use are replaced."""
    seed: int = 1


class CodebookTrainer:
    """Update the codebooks of a residual vector quantiser, in the buffers of the `encodec` package."""

    def __init__(self, quantizer: nn.Module, recipe: CodecRecipe) -> None:
        self.books: list[Any] = [layer._codebook for layer in quantizer.vq.layers]  # type: ignore[union-attr]
        self.recipe = recipe

    @torch.no_grad()
    def init_by_kmeans(self, vectors: Tensor, generator: torch.Generator, iterations: int = 12) -> None:
        """Initialise all codebooks by k-means of vectors `[n, dim]`, each on the residual of the ones before it.

        Args:
            vectors: encoder outputs, one per frame.
            generator: draws the first means.
            iterations: rounds of k-means per codebook.
        """
        for book in self.books:
            card = book.embed.shape[0]
            means = vectors[torch.randperm(len(vectors), generator=generator)[:card]].clone()
            for _ in range(iterations):
                nearest = _nearest(vectors, means)
                counts = torch.bincount(nearest, minlength=card)
                sums = torch.zeros_like(means).index_add_(0, nearest, vectors)
                means = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], means)
            nearest = _nearest(vectors, means)
            # Scale the counts to one training step, as the moving averages keep them.
            counts = torch.bincount(nearest, minlength=card) * (self._vectors_per_step() / len(vectors))
            book.embed.copy_(means)
            book.cluster_size.copy_(counts)
            book.embed_avg.copy_(means * counts[:, None])
            book.inited.fill_(1.0)
            vectors = vectors - means[nearest]

    def __call__(self, z: Tensor, update: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Quantise encoder outputs; gradients pass straight through.

        Args:
            z: `[B, dim, T]`.
            update: update the codebooks too, and draw replacements of unused entries from this generator.

        Returns:
            The quantised outputs `[B, dim, T]`, and the commitment loss.
        """
        flat = z.transpose(1, 2).reshape(-1, z.shape[1])  # [B x T, dim]
        residual, total, commitment = flat, torch.zeros_like(flat), z.new_zeros(())
        for book in self.books:
            index = _nearest(residual.detach(), book.embed)
            found = F.embedding(index, book.embed)
            commitment = commitment + F.mse_loss(residual, found)
            if update is not None:
                self._move(book, residual.detach(), index, update)
            total, residual = total + found, residual - found
        straight = flat + (total - flat).detach()
        return straight.view(z.shape[0], z.shape[2], z.shape[1]).transpose(1, 2), commitment

    @torch.no_grad()
    def _move(self, book: Any, vectors: Tensor, index: Tensor, generator: torch.Generator) -> None:
        # Moving averages of each entry's count and of the sum of its vectors.
        card, keep = book.embed.shape[0], self.recipe.decay
        counts = torch.bincount(index, minlength=card).to(vectors.dtype)
        sums = torch.zeros_like(book.embed).index_add_(0, index, vectors)
        book.cluster_size.mul_(keep).add_(counts, alpha=1 - keep)
        book.embed_avg.mul_(keep).add_(sums, alpha=1 - keep)
        # Replace entries that are hardly used by random vectors of this step.
        even = self._vectors_per_step() / card
        dead = book.cluster_size < self.recipe.dead_share * even
        if bool(dead.any()):
            picked = torch.randint(len(vectors), (int(dead.sum()),), generator=generator)
            book.cluster_size[dead] = even * 0.5
            book.embed_avg[dead] = vectors[picked] * (even * 0.5)
        book.embed.copy_(book.embed_avg / book.cluster_size.clamp_min(1e-6)[:, None])

    def _vectors_per_step(self) -> float:
        return float(self.recipe.batch * self.recipe.frames)


def _nearest(vectors: Tensor, entries: Tensor) -> Tensor:
    return (entries.pow(2).sum(1) - 2.0 * vectors @ entries.t()).argmin(dim=1)


@torch.no_grad()
def init_weights(codec: EnCodec, generator: torch.Generator) -> None:
    """Initialise convolutions so that they keep the signal's size; with the usual weights the decoder stays silent."""
    convolutions = [m for m in codec.model.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
    for module in convolutions:
        fan_in = module.weight[0].numel()
        if isinstance(module, nn.ConvTranspose1d):
            # Each output sample is a sum over kernel / stride taps of every input channel.
            fan_in = module.in_channels * module.kernel_size[0] // module.stride[0]
        module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * 1.2 / math.sqrt(fan_in))
        if module.bias is not None:
            module.bias.zero_()
    convolutions[-1].weight.mul_(0.2)
    for name, weight in codec.model.named_parameters():
        if ".lstm." in name:
            bound = 1.0 / math.sqrt(weight.shape[0] // 4)
            weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)


def random_clips(songs: SongArray, rng: np.random.Generator, count: int, samples: int) -> Tensor:
    """Cut `count` clips `[count, samples]` from random positions of songs `[N, L]`."""
    rows = rng.integers(len(songs), size=count)
    starts = rng.integers(songs.shape[1] - samples + 1, size=count)
    clips = np.stack([songs[row, start : start + samples] for row, start in zip(rows, starts, strict=True)])
    return torch.from_numpy(clips.astype(np.float32))


@dataclass(frozen=True)
class CodecFigures:
    """Measures of a codec on held-out songs."""

    si_snr: float
    mel_db: float
    perplexity: tuple[float, ...]
    """Perplexity of each codebook, as a share of its size."""

    def __str__(self) -> str:
        shares = "/".join(f"{p:.2f}" for p in self.perplexity)
        return f"si-snr {self.si_snr:.2f} dB, mel {self.mel_db:.2f} dB, perplexity {shares}"


@torch.no_grad()
def judge_codec(codec: EnCodec, songs: np.ndarray, quantized: bool = True) -> CodecFigures:
    """Measure a codec on whole songs `[N, L]`; with quantized False, the autoencoder without its quantiser."""
    ratios, distances, codes = [], [], []
    device = next(codec.parameters()).device
    for first in range(0, len(songs), 8):
        audio = torch.from_numpy(np.asarray(songs[first : first + 8], dtype=np.float32)).to(device)
        if quantized:
            batch = codec.encode(audio[:, None], codec.sample_rate)
            output = codec.decode(batch)[:, 0, : audio.shape[1]]
            codes.append(batch)
        else:
            output = codec.model.decoder(codec.model.encoder(audio[:, None]))[:, 0, : audio.shape[1]]
        output, audio = output.cpu(), audio.cpu()
        ratios.append(si_snr(output, audio))
        distances.append(mel_distance(output, audio, codec.sample_rate))
    # Perplexity of each codebook: the exponential of the entropy of its codes.
    shares = []
    for k in range(codec.config.num_codebooks if quantized else 0):
        use = torch.bincount(torch.cat([c[:, k].flatten() for c in codes]), minlength=codec.config.card).double()
        use = use / use.sum()
        shares.append(float(torch.exp(-(use * use.clamp_min(1e-12).log()).sum())) / codec.config.card)
    return CodecFigures(float(torch.cat(ratios).mean()), float(torch.cat(distances).mean()), tuple(shares))


class CodecTraining:
    """One training of a codec; :meth:`step` does the training step `step_number`."""

    def __init__(
        self,
        config: CodecConfig,
        recipe: CodecRecipe,
        songs: SongArray,
        device: str = "cpu",
        begin: EnCodec | None = None,
    ) -> None:
        """begin: a codec whose encoder and decoder to begin with; by default they are drawn."""
        self.config, self.recipe, self.songs, self.device = config, recipe, songs, device
        self.codec = EnCodec(config, 1)
        init_weights(self.codec, step_torch_rng(recipe.seed, -1 % 2**31))
        if begin is not None:
            self.codec.model.encoder.load_state_dict(begin.model.encoder.state_dict())
            self.codec.model.decoder.load_state_dict(begin.model.decoder.state_dict())
        self.codec.to(device)
        self.books = CodebookTrainer(self.codec.model.quantizer, recipe)
        self.mel = MelLoss(config.sample_rate).to(device)
        self.optimizer = torch.optim.AdamW(
            self.codec.model.parameters(), recipe.learning_rate, (0.8, 0.99), weight_decay=0.0
        )
        self.step_number = 0

    def settings(self) -> dict[str, Any]:
        """The settings that a checkpoint must match."""
        return as_stored({**asdict(self.config), **asdict(self.recipe), "songs": list(self.songs.shape)})

    def state(self) -> dict[str, Any]:
        """The checkpoint: everything that the next step depends on."""
        return {
            "recipe": self.settings(),
            "step": self.step_number,
            "codec": self.codec.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint of :meth:`state`."""
        self.step_number = int(state["step"])
        self.codec.model.load_state_dict(state["codec"])
        self.optimizer.load_state_dict(state["optimizer"])

    def step(self) -> float:
        """Do one training step and return the loss."""
        recipe, number = self.recipe, self.step_number
        if number == recipe.autoencoder_steps:
            self._start_codebooks()
        # Warm the learning rate up, then let it fall by a cosine.
        share = number / recipe.steps
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min((number + 1) / recipe.warmup, cosine_decay(share))
        # Encode random clips, quantise them once the autoencoder has been trained, and decode.
        samples = recipe.frames * self.config.hop_length
        clips = random_clips(self.songs, step_rng(recipe.seed, number), recipe.batch, samples).to(self.device)
        z = self.codec.model.encoder(clips[:, None])  # [B, dim, T]
        commitment = z.new_zeros(())
        if number >= recipe.autoencoder_steps:
            z, commitment = self.books(z, step_torch_rng(recipe.seed, number))
        output = self.codec.model.decoder(z)[:, 0]  # [B, L]
        # The weight of the waveform's loss falls from the first to the last value.
        first, last = recipe.wave_weight
        wave = first * (last / first) ** share
        loss = wave * F.l1_loss(output, clips) + self.mel(output, clips) + recipe.commitment * commitment
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.codec.model.parameters(), 3.0)
        self.optimizer.step()
        self.step_number += 1
        return float(loss.detach())

    @torch.no_grad()
    def _start_codebooks(self) -> None:
        samples = self.recipe.frames * self.config.hop_length
        clips = random_clips(self.songs, step_rng(self.recipe.seed, 0, 2), 160, samples).to(self.device)
        z = torch.cat([self.codec.model.encoder(part[:, None]) for part in clips.split(32)])
        vectors = z.transpose(1, 2).reshape(-1, z.shape[1])
        self.books.init_by_kmeans(vectors, step_torch_rng(self.recipe.seed, 2**31 - 2))


def cosine_decay(share: float) -> float:
    """The part of the learning rate after a share of the steps: from 1 to 0.02, along half a cosine."""
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def train_codec(
    training: CodecTraining,
    checkpoint: Path,
    held_out: Sequence[Any] | np.ndarray,
    *,
    every_seconds: float = 60.0,
    judge_every: int = 500,
    report: Callable[[str], None] | None = None,
) -> EnCodec:
    """Train to the recipe's end; continue from the checkpoint if it exists, and write it from time to time.

    Args:
        training: the training to run.
        checkpoint: file to continue from and to write.
        held_out: songs `[N, L]` to measure the codec on.
        every_seconds: time between two checkpoints.
        judge_every: steps between two measurements.
        report: called with a line of text after each measurement.

    Returns:
        The trained codec.

    Raises:
        ValueError: the checkpoint is damaged or was made with other settings.
    """
    state = load_checkpoint(checkpoint, training.settings())
    if state is not None:
        training.restore(state)
    recipe, songs = training.recipe, np.asarray(held_out)
    progress = ProgressLog("codec", recipe.steps, training.step_number)
    saved, figures = time.monotonic(), ""
    while training.step_number < recipe.steps:
        loss = training.step()
        done = training.step_number
        if done % judge_every == 0 or done == recipe.steps:
            quantized = done > recipe.autoencoder_steps
            figures = str(judge_codec(training.codec, songs, quantized))
            if report is not None:
                report(f"step {done}: {figures}")
        if time.monotonic() - saved > every_seconds or done == recipe.steps:
            save_checkpoint(checkpoint, training.state())
            saved = time.monotonic()
        progress.update(done, f"loss {loss:.2f} {figures}")
    return training.codec
