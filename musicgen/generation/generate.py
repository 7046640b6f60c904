"""Generation: sample the codes of a request. Windows, seeds, progress and cancelling.

:func:`generate` implements sections 2 and 3 of Copet et al. 2023 at inference: lay the unknown codes
out by a pattern, fuse the conditions, decode window after window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..config import ModelConfig
from ..decoding.cuda_graph import Backend, CudaBackend, why_no_graphs
from ..decoding.engine import UNKNOWN, CachedDecoder, FullDecoder, SamplingParams, decode_sequence
from ..decoding.sampling import exponential_noise
from ..decoding.static_decoder import StaticDecoder
from ..decoding.threads import chosen_threads
from ..environment import torch_defaults
from ..free_memory import told_shortage
from ..lm.cpu_step import why_ordinary
from ..lm.cpu_team import Team
from ..lm.language_model import LMModel
from ..lm.rows import Conditions
from .conditions import window_conditions, window_drawing, window_guide
from .guard import Guard, seed_of_try
from .request import Request
from .windows import Window

Noise = Callable[[], Tensor]


@dataclass(frozen=True)
class StepProgress:
    """The argument of on_step: step `step` of `total` is done, both counted over all windows."""

    step: int
    total: int
    codes: Callable[[], Tensor] = field(repr=False)
    """Returns a copy of the piece so far: int64 `[B, K, T]` on the CPU, -1 for unknown codes."""


OnStep = Callable[[StepProgress], None]


@torch.no_grad()
@told_shortage("music was sampled")
@torch_defaults()
def generate(
    lm: LMModel,
    config: ModelConfig,
    request: Request,
    *,
    on_step: OnStep | None = None,
    device: torch.device | str = "cpu",
    noise: Noise | None = None,
    slow: bool = False,
    use_cuda_graphs: bool | None = None,
    use_compiled_steps: bool | None = None,
    guard: Guard | None = None,
) -> Tensor:
    """Sample the codes of a request.

    Args:
        lm: the language model.
        config: the model's numbers.
        request: the conditions, prompt and numbers to sample from.
        on_step: called after every step; an exception from it propagates and ends the request.
        device: where to compute: the weights' device, or the device that the host moves them to.
        noise: returns each step's Exp(1) numbers `[B, K, card]`. By default each item draws from its
            own generator, seeded with `params.seed + i` or its own of `seeds`, and equals the item alone.
        slow: decode by the definition, without a cache.
        use_cuda_graphs: record steps as CUDA graphs; None records them if the device can. They are
            freed before this returns, and the codes are the same with and without them.
        use_compiled_steps: run each step of a CPU in one compiled call; None does so where that is
            possible and MUSICGEN_COMPILED is not 0.
        guard: judges each window, which is then drawn again where it is too far from the first; the
            best try stays. The first try is the same as without a guard. Progress shows a window
            once it stays.

    Returns:
        Codes int64 `[B, K, T]` on the CPU; the prompt's codes come first.

    Raises:
        ValueError: a number is out of range, the request does not fit the model, a guard came with noise
            that cannot be drawn again, or the model's logits are not finite.
    """
    if guard is not None and noise is not None:
        raise ValueError("a guard draws windows again from seeds of its own; give either a guard or noise.")
    request = request.checked(config)
    device, windows = torch.device(device), request.windows(config)
    codes = _laid_out(request, config, windows[-1].first + windows[-1].num_frames)
    # Decode all items side by side, or in half precision the items with equal rows.
    parts = [list(range(request.batch_size))]
    if lm.dtype != torch.float32 and noise is None:
        parts = _equal_rows(request, config)
    counts = request.step_counts(config) * len(parts)
    recorder = _graphs(device, False if slow else use_cuda_graphs)
    compiled = not slow and _compiles(lm, device, use_compiled_steps)
    # Fill the piece part by part, window after window.
    with chosen_threads(device, compiled=compiled) as (after_step, team), recorder as graphs:
        for index, items in enumerate(parts):
            part = _Part(
                lm=lm,
                config=config,
                request=request.select(items),
                items=items,
                codes=codes,
                device=device,
                noise=noise or _seeded_noise(request.select(items), config),
                graphs=graphs,
                team=team,
                slow=slow,
            )
            for number, window in enumerate(windows):
                place = index * len(windows) + number
                report = _Reporter(sum(counts[:place]), sum(counts), after_step, on_step)
                if guard is None:
                    part.fill_window(window, report)
                else:
                    part.hold_window(window, guard, report)
                    report(counts[place], codes.clone)
    return codes


def _laid_out(request: Request, config: ModelConfig, num_frames: int) -> Tensor:
    """Lay out the piece `[B, K, T]`: the known codes or those of the prompt, and unknown ones."""
    if request.known is not None:
        return request.known.cpu().long().repeat(request.batch_size // len(request.known), 1, 1)
    codes = torch.full((request.batch_size, config.num_codebooks, num_frames), UNKNOWN)
    if request.prompt is not None:
        codes[:, :, : request.prompt_frames] = request.prompt.cpu()
    return codes


@dataclass(frozen=True)
class _Reporter:
    """Report the steps of one window as steps of the whole request."""

    done: int
    total: int
    after_step: Callable[[], None]
    on_step: OnStep | None
    still: int | None = None
    """A number of steps to report in place of every other, while a window is drawn again."""

    def __call__(self, step: int, codes: Callable[[], Tensor]) -> None:
        """Report step `step` of the window, counted from 1."""
        self.after_step()
        if self.on_step is not None:
            self.on_step(StepProgress(self.done + (step if self.still is None else self.still), self.total, codes))


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Some items of a request, decoded side by side. `codes` `[B, K, T]` holds all items of the request."""

    lm: LMModel
    config: ModelConfig
    request: Request
    items: Sequence[int]
    codes: Tensor
    device: torch.device
    noise: Noise | None
    graphs: Backend | None
    team: Team | None
    slow: bool

    def hold_window(self, window: Window, guard: Guard, report: _Reporter) -> None:
        """Decode one window, and again the items that a guard finds too far off; each keeps its best try."""
        span, end = slice(window.first, window.first + window.num_frames), window.first + window.num_frames
        before = self.codes[:, :, span].clone()
        self.fill_window(window, report, shown=before if window.first else None)
        # The best try of each item so far: its cost and its codes.
        best = {
            item: (guard.cost(item, self.codes[item, :, :end], window), self._taken(item, span)) for item in self.items
        }
        drawn = dict.fromkeys(self.items, 1)
        for attempt in range(1, guard.tries if self.noise is not None else 1):
            again = [item for item, (cost, _) in best.items() if cost > 1.0]
            if not again:
                break
            self.codes[again, :, span] = before[again]
            self._drawn_again(again, window, attempt).fill_window(window, replace(report, still=0), shown=before)
            for item in again:
                drawn[item] += 1
                cost = guard.cost(item, self.codes[item, :, :end], window)
                if cost < best[item][0]:
                    best[item] = cost, self._taken(item, span)
                self.codes[item, :, span] = best[item][1]
        for item in self.items:
            guard.accept(item, self.codes[item, :, :end], window, drawn[item])

    def _taken(self, item: int, span: slice) -> Tensor:
        return self.codes[item, :, span].clone()

    def _drawn_again(self, items: list[int], window: Window, attempt: int) -> _Part:
        """Some of these items alone, with the seeds of another try of a window."""
        request = self.request.select([list(self.items).index(item) for item in items])
        request = replace(request, seeds=[seed_of_try(seed, window, attempt) for seed in request.item_seeds])
        return replace(self, request=request, items=items, noise=_seeded_noise(request, self.config))

    def fill_window(self, window: Window, report: _Reporter, shown: Tensor | None = None) -> None:
        """Decode these items' unknown codes in one window into `codes`, in place.

        Args:
            window: the frames to decode.
            report: called after each step.
            shown: codes `[B, K, T]` of the window for progress, while it is not known whether the new ones stay.
        """
        pattern = self.request.pattern(self.config, window.num_frames)
        items, span = torch.tensor(self.items), slice(window.first, window.first + window.num_frames)
        # [items, K, S]: the window's codes, laid out by the pattern
        sequence = pattern.build_sequence(self.codes[items, :, span], self.config.lm.special_token_id).to(self.device)
        first_step, stop = self.request.columns(self.config, window)

        def snapshot() -> Tensor:
            self.codes[items, :, span] = pattern.revert_sequence(sequence).cpu()
            codes = self.codes.clone()
            if shown is not None:
                codes[:, :, span] = shown
            return codes

        request = self.request
        self._decode(
            sequence[:, :, :stop],
            first_step,
            window_conditions(self.lm, self.config, request, window, self.device),
            window_drawing(self.config, request, window, self.device),
            window_guide(self.config, request, window, self.device),
            lambda step: report(step - first_step + 1, snapshot),
        )
        snapshot()

    def _decode(
        self,
        sequence: Tensor,
        first_step: int,
        conditions: Conditions,
        sampling: SamplingParams,
        guide: Callable[[Tensor, int | Tensor], Tensor],
        on_step: Callable[[int], None],
    ) -> None:
        """Fill the sequence `[items, K, S]` in place: by the definition, with a cache, or in recorded steps."""
        if self.graphs is None:
            decoder = (
                FullDecoder(self.lm, conditions, self.device)
                if self.slow
                else CachedDecoder(self.lm, conditions, len(self.items), sequence.shape[2] - 1, self.device, self.team)
            )
            decode_sequence(decoder, sequence, first_step, sampling, guide=guide, noise=self.noise, on_step=on_step)
        else:
            static = StaticDecoder(self.lm, conditions, sequence, sampling, guide, self.graphs)
            try:
                static.decode(first_step, self.noise, on_step)
            finally:
                static.close()


def _equal_rows(request: Request, config: ModelConfig) -> list[list[int]]:
    """Group batch items by the lengths of their texts and leads.

    Rows of equal length need no padding. In half precision padding changes the rounding of a row's
    results, by enough to change codes.
    """
    groups, leads = request.branches(config).groups, request.leads(config)
    parts: dict[tuple[int, ...], list[int]] = {}
    for item in range(request.batch_size):
        rows = [None if group is None else group.row(item) for group in groups]
        lengths = [0 if row is None else len(row) for row in rows] + [lead.size for lead in leads[item : item + 1]]
        parts.setdefault(tuple(lengths), []).append(item)
    return list(parts.values())


def _seeded_noise(request: Request, config: ModelConfig) -> Noise | None:
    """Return a function that draws the noise of a request's items, each from its own generator."""
    cold = request.params.temperature == 0.0 and request.schedules.temperature is None
    if not request.params.use_sampling or cold:
        return None
    generators = [torch.Generator().manual_seed(_mix_bits(seed)) for seed in request.item_seeds]
    return lambda: exponential_noise(generators, config.num_codebooks, config.card)


def _mix_bits(seed: int) -> int:
    """Hash a 64-bit seed to 32 bits, since torch's CPU generator reads only the low 32 bits of a seed."""
    digest = hashlib.sha256((seed % 2**64).to_bytes(8, "little")).digest()
    return int.from_bytes(digest[:4], "little")


def _compiles(lm: LMModel, device: torch.device, wanted: bool | None) -> bool:
    """Whether the steps run compiled."""
    reason = why_ordinary(lm, device) if wanted is not False else "they are turned off"
    if wanted and reason is not None:
        raise ValueError(
            f"use_compiled_steps is True, but {reason}; allowed there are False, and None to use them where they run."
        )
    return reason is None


def _graphs(device: torch.device, wanted: bool | None) -> AbstractContextManager[Backend | None]:
    """Return the backend that records one run's steps, or runs them directly; None for the engine's own loop."""
    reason = why_no_graphs(device)
    if wanted and reason is not None:
        raise ValueError(
            f"use_cuda_graphs is True, but {reason}; allowed there are False, and None to use them where they run."
        )
    if reason is not None and device.type != "cuda":
        return nullcontext()
    # Without graphs a GPU runs the same static steps directly, so that codes are equal in half precision too.
    backend = CudaBackend(device)
    backend.refused = reason if wanted is not False else "they are turned off"
    return closing(backend)
