"""The training loop: steps, looks at held-out songs, the best state, checkpoints that a killed run goes on from.

The same loop trains a LoRA and a whole language model; they differ in the parameters alone. Every random number belongs
to a step, so a run that goes on from a checkpoint equals one that was never stopped, bit for bit on the same machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..environment import torch_defaults
from ..lm.language_model import LMModel
from ..training.resume import as_stored, load_checkpoint, save_checkpoint
from .batches import Batches
from .objective import Batch, codebook_losses
from .recipe import Recipe

Reduce = Callable[[list[Tensor]], None]
"""Replaces tensors by their mean over all processes that train together."""


@dataclass(frozen=True)
class Progress:
    """The argument of on_step: a step is done.

    Attributes:
        step: its number, counted from 1.
        total: steps of the recipe.
        loss: of this step, in nats.
        held_out: the latest loss of the held-out songs, None before the first look.
        seconds_left: until the last step, at the pace so far.
    """

    step: int
    total: int
    loss: float
    held_out: float | None
    seconds_left: float


OnStep = Callable[[Progress], None]


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        state: the trained parameters by name, on the CPU.
        step: the step after which they were taken.
        losses: of every step.
        held_out: (step, loss) of each look at the held-out songs.
        stopped: a sentence where the training ended before its last step, else empty.
    """

    state: dict[str, Tensor]
    step: int
    losses: tuple[float, ...]
    held_out: tuple[tuple[int, float], ...] = ()
    stopped: str = ""

    def text(self) -> str:
        """Return the result in a few lines."""
        lines = [f"{len(self.losses)} steps, loss {_mean(self.losses[:20]):.3f} to {_mean(self.losses[-20:]):.3f}"]
        if self.held_out:
            first, best = self.held_out[0][1], min(loss for _, loss in self.held_out)
            lines.append(f"held-out songs {first:.3f} to {best:.3f}, best after step {self.step}")
        return "\n".join([*lines, *([self.stopped] if self.stopped else [])])


class NotFiniteError(ArithmeticError):
    """A loss or a gradient is not a number any more."""


@dataclass
class _Kept:
    """The best state so far, or the latest good one without held-out songs."""

    state: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    loss: float = math.inf


class Training:
    """One training; :meth:`step` does the step `step_number`.

    Args:
        lm: the language model on its device.
        config: its numbers.
        parameters: those that are trained, by name, float32.
        batches: draws the pieces.
        recipe: the numbers of the training.
        base: identity of the weights that it begins with, for checkpoints.
        reduce: for several processes: takes the mean of the gradients; see :mod:`.processes`.
    """

    def __init__(
        self,
        lm: LMModel,
        config: ModelConfig,
        parameters: Mapping[str, nn.Parameter],
        batches: Batches,
        recipe: Recipe,
        *,
        base: str = "",
        reduce: Reduce | None = None,
    ) -> None:
        self.lm, self.config, self.batches, self.recipe, self.base = lm, config, batches, recipe, base
        self.parameters, self.reduce = dict(parameters), reduce
        self.device = next(iter(self.parameters.values())).device
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), recipe.learning_rate, (0.9, 0.999), weight_decay=recipe.weight_decay
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.dtype == "fp16")
        self.average = {name: value.detach().clone() for name, value in self.parameters.items()} if recipe.ema else {}
        self.step_number = 0
        self.losses: list[float] = []
        self.looks: list[tuple[int, float]] = []
        self.kept = _Kept()

    def settings(self) -> dict[str, Any]:
        """The settings that a checkpoint must match."""
        return as_stored(
            {**self.recipe.settings(), "base": self.base, "songs": self.batches.dataset.fingerprint(),
             "ranks": self.batches.ranks}
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """The checkpoint: everything that the next step depends on."""
        return {
            "recipe": self.settings(),
            "step": self.step_number,
            "parameters": _copied(self.parameters),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "losses": self.losses,
            "looks": self.looks,
            "kept": (self.kept.state, self.kept.step, self.kept.loss),
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint of :meth:`state`."""
        self.put(state["parameters"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step_number, self.losses = int(state["step"]), list(state["losses"])
        self.looks = [(int(step), float(loss)) for step, loss in state["looks"]]
        self.kept = _Kept(*state["kept"])

    @torch.no_grad()
    def put(self, values: Mapping[str, Tensor]) -> None:
        """Give the parameters these values."""
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])

    def step(self) -> float:
        """Do one step and return its loss.

        Raises:
            NotFiniteError: the loss or a gradient is no number; the parameters are those of the step before.
        """
        recipe, number = self.recipe, self.step_number
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(number)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for part in range(recipe.accumulate):
            loss = self.loss(self.batches.draw(number, part)) / recipe.accumulate
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        gradients = [each.grad for each in self.parameters.values() if each.grad is not None]
        if self.reduce is not None:
            self.reduce([total, *gradients])
        length = nn.utils.clip_grad_norm_(self.parameters.values(), recipe.clip)
        # With fp16 an overflow is usual: the scaler leaves the step out and scales less.
        if not bool(total.isfinite()) or not (self.scaler.is_enabled() or bool(length.isfinite())):
            raise NotFiniteError
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step_number += 1
        self._average(number)
        self.losses.append(float(total))
        return self.losses[-1]

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch: the mean over the codebooks."""
        return codebook_losses(self.lm, self.config, batch, self.device, recompute=self.recipe.recompute).mean()

    @torch.no_grad()
    def judge(self) -> float | None:
        """Return the loss of the held-out songs with the weights that would be the result; None without such songs."""
        batches = self.batches.held_out()
        if not batches:
            return None
        own = _copied(self.parameters) if self.average else None
        if own is not None:
            self.put(self.average)
        try:
            total = torch.stack([self.loss(batch) * len(batch.codes) for batch in batches]).sum()
            if self.reduce is not None:  # so that all processes decide alike
                self.reduce([total])
        finally:
            if own is not None:
                self.put(own)
        return float(total) / sum(len(batch.codes) for batch in batches)

    def result(self) -> dict[str, Tensor]:
        """A copy of the weights as they would be the result now."""
        return _copied(self.average or self.parameters)

    def look(self) -> None:
        """Look at the held-out songs, and keep the weights where they are the best; without such songs, keep them.

        Raises:
            NotFiniteError: the loss of the held-out songs is no number.
        """
        loss = self.judge()
        if loss is None:
            self.kept = _Kept(self.result(), self.step_number)
            return
        if not math.isfinite(loss):
            raise NotFiniteError
        self.looks.append((self.step_number, loss))
        if loss < self.kept.loss:
            self.kept = _Kept(self.result(), self.step_number, loss)

    @property
    def is_enough(self) -> bool:
        """Whether the held-out songs have not become better for as many looks as the patience is."""
        worse = sum(step > self.kept.step for step, _ in self.looks)
        return bool(self.recipe.patience) and worse >= self.recipe.patience

    @torch.no_grad()
    def _average(self, number: int) -> None:
        keep = min(self.recipe.ema, (1 + number) / (10 + number))
        for name, mean in self.average.items():
            mean.lerp_(self.parameters[name].detach(), 1.0 - keep)

    def trained(self, stopped: str = "") -> Trained:
        """The result so far: the best weights, or without held-out songs the latest."""
        kept = self.kept
        if not self.looks and not stopped:
            kept = _Kept(self.result(), self.step_number)
        return Trained(kept.state, kept.step, tuple(self.losses), tuple(self.looks), stopped)


@torch_defaults()
def train(
    training: Training,
    checkpoint: Path | None = None,
    *,
    every_seconds: float = 60.0,
    on_step: OnStep | None = None,
    writes: bool = True,
) -> Trained:
    """Train to the recipe's end, from the checkpoint where there is one.

    Args:
        training: the training to run.
        checkpoint: file to go on from, and to write from time to time and when an exception ends the run; None for
            none.
        every_seconds: time between two checkpoints.
        on_step: called after every step; an exception from it ends the run, and the checkpoint holds that step.
        writes: whether this process writes the checkpoint; of several that train together one does.

    Returns:
        The best weights by the held-out songs; without these the last ones. Where a loss is no number any more, or
        the held-out songs have not become better for `patience` looks, `stopped` says so.

    Raises:
        ValueError: the checkpoint is damaged or was made with other settings, or the first steps have no finite loss.
    """
    state = None if checkpoint is None else load_checkpoint(checkpoint, training.settings())
    if state is not None:
        training.restore(state)
    if not writes:
        checkpoint = None
    try:
        stopped = _run(training, checkpoint, every_seconds, on_step)
    except BaseException:
        if checkpoint is not None and training.step_number:
            save_checkpoint(checkpoint, training.state())
        raise
    if checkpoint is not None:
        save_checkpoint(checkpoint, training.state())
    return training.trained(stopped)


def _run(training: Training, checkpoint: Path | None, every_seconds: float, on_step: OnStep | None) -> str:
    """Do the steps that are left; returns why there are fewer, or nothing."""
    recipe = training.recipe
    began, first, saved = time.monotonic(), training.step_number, time.monotonic()
    while training.step_number < recipe.steps:
        if training.is_enough:
            return _enough(training)
        try:
            if not training.kept.state:
                training.look()  # before the first step, for comparison
            loss = training.step()
            done = training.step_number
            if done % recipe.interval == 0 or done == recipe.steps:
                training.look()
        except NotFiniteError:
            return _not_finite(training)
        now = time.monotonic()
        if checkpoint is not None and now - saved > every_seconds:
            save_checkpoint(checkpoint, training.state())
            saved = now
        if on_step is not None:
            left = (now - began) / max(1, done - first) * (recipe.steps - done)
            held = training.looks[-1][1] if training.looks else None
            on_step(Progress(done, recipe.steps, loss, held, left))
    return ""


def _enough(training: Training) -> str:
    return (
        f"The training ended after step {training.step_number}: the held-out songs were best after step "
        f"{training.kept.step}, whose weights are kept."
    )


def _not_finite(training: Training) -> str:
    kept, rate = training.kept, training.recipe.learning_rate
    if not kept.step:
        raise ValueError(
            f"the loss is no number after step {training.step_number}, and no good state was reached; choose a lower "
            f"learning rate than {rate:g}, or fp32."
        )
    return (
        f"The loss is no number after step {training.step_number}; the weights of step {kept.step} are kept. Choose a "
        f"lower learning rate than {rate:g}, or fp32."
    )


def _copied(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in values.items()}


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / max(1, len(values))
