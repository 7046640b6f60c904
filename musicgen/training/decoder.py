"""Training of a codec's decoder alone, on codes that stay as they are.

The encoder and the codebooks decide which codes a song has, and a language model was trained on
these codes. The decoder only has to sound well. It may be wider than the one the codes were
trained with: :func:`widened` gives more channels to a codec without changing its output.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codec.encodec import EnCodec
from .codec import SongArray, cosine_decay, judge_codec
from .losses import MelLoss
from .resume import ProgressLog, as_stored, load_checkpoint, save_checkpoint, step_rng, step_torch_rng


@dataclass(frozen=True)
class DecoderRecipe:
    """The settings of a decoder's training."""

    n_filters: int = 16
    """Channels of the widest time resolution; the codec that it begins with may have fewer."""
    steps: int = 4000
    stop: int | None = None
    """Train only so many of the steps; the learning rate falls as over all."""
    batch: int = 8
    frames: int = 60
    """Length of a training clip, in frames."""
    learning_rate: float = 2e-3
    warmup: int = 50
    wave_weight: float = 20.0
    """Weight of the waveform's L1 loss beside the mel loss."""
    ema: float = 0.998
    """The result is the moving average of the weights."""
    seed: int = 1


@torch.no_grad()
def widened(codec: EnCodec, n_filters: int, generator: torch.Generator) -> EnCodec:
    """A codec with more channels that encodes and decodes as `codec` does, up to rounding.

    The encoder's new weights are 0. In the decoder old channels get nothing from new ones, and the
    new ones are drawn, so that training can make use of them.

    Args:
        codec: the codec to begin with.
        n_filters: the new number, at least the codec's own.
        generator: draws the decoder's new weights.

    Raises:
        ValueError: `n_filters` is less than the codec has.
    """
    if n_filters < codec.config.n_filters:
        raise ValueError(
            f"n_filters is {n_filters}, but the codec has {codec.config.n_filters} and can only become wider."
        )
    wide = EnCodec(replace(codec.config, n_filters=n_filters), codec.audio_channels)
    old = codec.model.state_dict()
    for name, tensor in wide.model.state_dict().items():
        value, drawn = old[name], name.startswith("decoder")
        gates = 4 if ".lstm." in name else 1
        across = name.endswith("convtr.weight")  # `[in, out, kernel]`; other weights are `[out, in, ...]`
        tensor.zero_()
        for ours, theirs in zip(tensor.chunk(gates), value.chunk(gates), strict=True):
            if drawn and ours.dim() > 1:
                ours.copy_(_drawn(ours, across, generator))
                if across:
                    ours[:, : theirs.shape[1]] = 0.0
                else:
                    ours[: theirs.shape[0]] = 0.0
            ours[tuple(slice(0, size) for size in theirs.shape)] = theirs
    return wide


def _drawn(weight: Tensor, across: bool, generator: torch.Generator) -> Tensor:
    fan_in = weight.shape[0] * 2 if across else weight[0].numel()
    return torch.randn(weight.shape, generator=generator) / math.sqrt(fan_in)


class DecoderTraining:
    """One training of a decoder; :meth:`step` does the training step `step_number`."""

    def __init__(
        self, codec: EnCodec, recipe: DecoderRecipe, songs: SongArray, codes: np.ndarray, device: str = "cpu"
    ) -> None:
        """songs `[N, L]`, and their codes `[N, K, T]` by `codec`."""
        self.recipe, self.songs, self.codes, self.device = recipe, songs, codes, device
        self.codec = widened(codec, recipe.n_filters, step_torch_rng(recipe.seed, 2**31 - 1)).to(device)
        self.parameters = list(self.codec.model.decoder.parameters())
        self.average = [weight.detach().clone() for weight in self.parameters]
        self.mel = MelLoss(codec.sample_rate).to(device)
        self.optimizer = torch.optim.AdamW(self.parameters, recipe.learning_rate, (0.8, 0.99), weight_decay=0.0)
        self.step_number = 0

    def settings(self) -> dict[str, Any]:
        """The settings that a checkpoint must match."""
        return as_stored({**asdict(self.codec.config), **asdict(self.recipe), "songs": list(self.songs.shape)})

    def state(self) -> dict[str, Any]:
        """The checkpoint: everything that the next step depends on."""
        return {
            "recipe": self.settings(),
            "step": self.step_number,
            "codec": self.codec.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint of :meth:`state`."""
        self.step_number = int(state["step"])
        self.codec.model.load_state_dict(state["codec"])
        self.average = [value.to(self.device) for value in state["average"]]
        self.optimizer.load_state_dict(state["optimizer"])

    def step(self) -> float:
        """Do one training step and return the loss."""
        recipe, number = self.recipe, self.step_number
        share = number / recipe.steps
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min((number + 1) / recipe.warmup, cosine_decay(share))
        clips, codes = self._draw(step_rng(recipe.seed, number))
        with torch.no_grad():
            z = self.codec.model.quantizer.decode(codes.transpose(0, 1))
        output = self.codec.model.decoder(z)[:, 0, : clips.shape[1]]
        loss = recipe.wave_weight * F.l1_loss(output, clips) + self.mel(output, clips)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 3.0)
        self.optimizer.step()
        self.step_number += 1
        keep = min(recipe.ema, (1 + number) / (10 + number))
        for mean, weight in zip(self.average, self.parameters, strict=True):
            mean.lerp_(weight.detach(), 1 - keep)
        return float(loss.detach())

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Clips `[B, L]` from random places, and their codes `[B, K, T]`, cut from those of the whole songs."""
        recipe, hop = self.recipe, self.codec.config.hop_length
        rows = rng.integers(len(self.codes), size=recipe.batch)
        starts = rng.integers(self.codes.shape[2] - recipe.frames + 1, size=recipe.batch)
        places = list(zip(rows, starts, strict=True))
        clips = np.stack([self.songs[row, at * hop : (at + recipe.frames) * hop] for row, at in places])
        codes = np.stack([self.codes[row, :, at : at + recipe.frames] for row, at in places])
        return (
            torch.from_numpy(clips.astype(np.float32)).to(self.device),
            torch.from_numpy(codes.astype(np.int64)).to(self.device),
        )

    @torch.no_grad()
    def result(self) -> EnCodec:
        """The codec with the averaged decoder, apart from the one that is trained."""
        codec = EnCodec(self.codec.config, self.codec.audio_channels)
        codec.model.load_state_dict(self.codec.model.state_dict())
        for weight, mean in zip(codec.model.decoder.parameters(), self.average, strict=True):
            weight.copy_(mean)
        return codec.to(self.device)


def train_decoder(
    training: DecoderTraining, checkpoint: Path, held_out: np.ndarray, *, judge_every: int = 500
) -> EnCodec:
    """Train to the recipe's end; continue from the checkpoint if it exists, and write it every minute.

    Args:
        training: the training to run.
        checkpoint: file to continue from and to write.
        held_out: songs `[N, L]` to measure the codec on.
        judge_every: steps between two measurements.

    Raises:
        ValueError: the checkpoint is damaged or was made with other settings.
    """
    state = load_checkpoint(checkpoint, training.settings())
    if state is not None:
        training.restore(state)
    recipe, songs, figures = training.recipe, np.asarray(held_out), ""
    last = recipe.steps if recipe.stop is None else recipe.stop
    progress = ProgressLog("decoder", last, training.step_number)
    saved = progress.began
    while training.step_number < last:
        loss = training.step()
        number = training.step_number
        if number % judge_every == 0 or number == last:
            figures = str(judge_codec(training.result(), songs))
        progress.update(number, f"loss {loss:.2f} {figures}")
        if number == last or progress.shown - saved >= 60.0:
            save_checkpoint(checkpoint, training.state())
            saved = progress.shown
    return training.result()
