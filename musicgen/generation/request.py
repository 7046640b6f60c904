"""One request: everything that describes the codes to generate, in one object that all stages read.

It knows no weights and no device. :func:`Request.checked` compares it with a model's numbers,
:func:`Request.steps` and :func:`Request.bytes` estimate its cost, and `generate` samples it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..conditioning.condition import Lead, TextCondition
from ..conditioning.melody import Melody, MelodyLead
from ..conditioning.style import StyleLead
from ..config import ModelConfig
from ..times import show_time
from .guidance import Branches, Cells, plan_branches
from .memory import memory_required
from .params import GenerationParams
from .patterns import Pattern, named_pattern, trained_pattern
from .schedule import Numbers, Schedules
from .windows import Cut, Window, plan_cut_windows, plan_gap_windows, plan_windows, to_frames


@dataclass(frozen=True, kw_only=True)
class Request:
    """The input of one call of `generate`.

    Args:
        params: length, guidance, sampling, seed and pattern.
        positive: conditions to guide towards; their logits are averaged, weighted by strength. Give
            at least one, which may be the null condition.
        negative: conditions to guide away from; empty: the null condition.
        batch_size: number of items; item i draws from seed + i.
        seeds: one per item, for items that are not neighbours in one batch; `params.seed` is then not read.
            Empty: seed + i.
        melodies: one per item, for melody models; None leaves an item without one. Empty: no melody.
        styles: tokens `[n, style_dim]` per item, for style models. They stay the same in all windows
            and act alone while no description acts. Empty: no style.
        prompt: codes int64 `[batch_size or 1, K, T0]` to continue; the result begins with them.
        schedules: numbers that change over time, in place of those of `params`.
        known: codes int64 `[batch_size or 1, K, T]` of a whole piece of `params.duration`, -1 for each code to
            sample; the others stay as they are. Not together with a prompt.
    """

    params: GenerationParams
    positive: Sequence[TextCondition]
    negative: Sequence[TextCondition] = ()
    batch_size: int = 1
    seeds: Sequence[int] = ()
    melodies: Sequence[Melody | None] = ()
    styles: Sequence[Tensor] = ()
    prompt: Tensor | None = None
    schedules: Schedules = field(default_factory=Schedules)
    known: Tensor | None = None

    @property
    def prompt_frames(self) -> int:
        """Length of the prompt in frames."""
        return 0 if self.prompt is None else self.prompt.shape[2]

    @property
    def item_seeds(self) -> Sequence[int]:
        """The seed that each item draws from."""
        return self.seeds or [self.params.seed + item for item in range(self.batch_size)]

    def select(self, items: Sequence[int]) -> Request:
        """Return the request of some batch items alone, each with its own seed."""
        return replace(
            self,
            batch_size=len(items),
            seeds=[self.item_seeds[item] for item in items],
            positive=[condition.select(items) for condition in self.positive],
            negative=[condition.select(items) for condition in self.negative],
            melodies=[self.melodies[item] for item in items] if self.melodies else (),
            styles=[self.styles[item] for item in items] if self.styles else (),
            prompt=_rows(self.prompt, items),
            known=_rows(self.known, items),
        )

    def repeated(self, seeds: Sequence[int]) -> Request:
        """Return a request of one item as a batch: the same item, once with each seed."""
        count = len(seeds)
        return replace(
            self, batch_size=count, seeds=seeds, melodies=[*self.melodies] * count, styles=[*self.styles] * count
        )

    def leads(self, config: ModelConfig) -> list[Lead]:
        """Return one lead per item for a model that prepends its conditions, else none."""
        if config.chroma is not None:
            return [MelodyLead(config.chroma, melody) for melody in self.melodies or [None] * self.batch_size]
        if config.style is not None:
            styles: Sequence[Tensor | None] = self.styles or [None] * self.batch_size
            return [StyleLead(tokens) for tokens in styles]
        return []

    def branches(self, config: ModelConfig, window: Window | None = None) -> Branches:
        """Return the condition groups that each item is decoded under, in one window or in all of them.

        A window leaves out the conditions whose span lies outside it, so a long timeline costs no more than its
        sections in the window.
        """
        positive, negative = self.positive, self.negative
        if window is not None:
            first, last = (frame / config.frame_rate for frame in (window.first, window.first + window.num_frames))
            positive = _acting(positive, first, last) or positive[:1]
            negative = _acting(negative, first, last) or negative[:1]
        return plan_branches(positive, negative, self.params, self.leads(config), self.schedules)

    def cells(self, config: ModelConfig, window: Window) -> Cells:
        """Return the time of each cell of a window's sequence."""
        frames = self.pattern(config, window.num_frames).frames + window.first
        known = self.prompt_frames
        total = to_frames(self.params.duration, config.frame_rate)
        return Cells(((frames - known) / (total - known)).clamp(0.0, 1.0), frames / config.frame_rate)

    def numbers(self, cells: Cells) -> Numbers:
        """Return guidance and sampling numbers for each cell of a window."""
        return self.schedules.resolve(self.params, cells.seconds)

    def windows(self, config: ModelConfig) -> list[Window]:
        """Return the windows that the piece, or its unknown part, is sampled in."""
        size = {"model_window": config.window, "model_stride": config.extend_stride}
        if self.known is None:
            cuts = self._cuts(config.frame_rate)
            if cuts:
                self._check_sections()
                return plan_cut_windows(cuts, self.params, config.frame_rate, self.prompt_frames, **size)
            return plan_windows(self.params, config.frame_rate, self.prompt_frames, **size)
        frames = torch.nonzero((self.known < 0).any(dim=1).any(dim=0))[:, 0]  # with an unknown code
        return plan_gap_windows(self.params, config.frame_rate, int(frames[0]), int(frames[-1]) + 1, **size)

    def _cuts(self, frame_rate: int) -> list[Cut]:
        """Return the places at which a description takes over that hears only the last moments before it."""
        cuts = {
            to_frames(span.start, frame_rate): max(to_frames(span.carry, frame_rate), 1)
            for span in (each.span for each in self.positive)
            if span is not None and span.carry is not None
        }
        return [Cut(frame, keep) for frame, keep in sorted(cuts.items()) if frame > self.prompt_frames]

    def pattern(self, config: ModelConfig, num_frames: int) -> Pattern:
        """Return the pattern of a window of num_frames."""
        if self.params.pattern is None:
            return trained_pattern(num_frames, config.delays, config.pattern)
        return named_pattern(self.params.pattern, num_frames, config.delays, config.audio_channels)

    def step_counts(self, config: ModelConfig) -> list[int]:
        """Count the steps of each window."""
        windows = self.windows(config)
        if self.known is not None:
            return [stop - first for first, stop in (self.columns(config, window) for window in windows)]
        kinds = [(window.num_frames, window.prompt_frames) for window in windows]
        counts = {}
        for frames, prompt_frames in dict.fromkeys(kinds):  # most windows of a long piece are alike
            pattern = self.pattern(config, frames)
            counts[frames, prompt_frames] = pattern.num_steps - pattern.first_step(prompt_frames)
        return [counts[kind] for kind in kinds]

    def columns(self, config: ModelConfig, window: Window) -> tuple[int, int]:
        """Return the first column of a window's pattern to fill, and the one after the last."""
        pattern = self.pattern(config, window.num_frames)
        if self.known is None:
            return pattern.first_step(window.prompt_frames), pattern.num_steps
        unknown = (self.known[:, :, window.first : window.first + window.num_frames] < 0).any(dim=0)  # [K, n]
        unknown[:, : window.prompt_frames] = False  # known by now, from the window before
        columns = pattern.steps[unknown]
        return int(columns.min()), int(columns.max()) + 1

    def steps(self, config: ModelConfig) -> int:
        """Count the forward passes of the language model that one item takes, each prefill as one."""
        return sum(self.step_counts(config))

    def bytes(self, config: ModelConfig, itemsize: int = 4) -> int:
        """Estimate the bytes that sampling takes besides the weights; see :func:`memory_required`.

        Args:
            config: the model's numbers.
            itemsize: bytes per number of the language model.
        """
        windows = self.windows(config)
        longest = max(window.num_frames for window in windows)
        steps = self.pattern(config, longest).num_steps
        known = max(window.prompt_frames for window in windows)
        return memory_required(
            config.lm,
            max((self.branches(config, window) for window in windows), key=lambda each: len(each.groups)),
            self.batch_size,
            lead_rows=max((lead.size for lead in self.leads(config)), default=0),
            steps=steps,
            known_steps=steps * known // longest,
            itemsize=itemsize,
        )

    def checked(self, config: ModelConfig) -> Request:
        """Return the request with its melodies converted to the model's chroma.

        Raises:
            ValueError: two parts of the request contradict each other, or the model cannot take one;
                the message names the values that would fit.
        """
        if not isinstance(self.params, GenerationParams):
            raise ValueError(
                f"params is {type(self.params).__name__}; allowed is GenerationParams, such as "
                "GenerationParams(duration=10.0)."
            )
        if self.batch_size < 1:
            raise ValueError(f"batch size is {self.batch_size}; allowed is at least 1.")
        if self.seeds and len(self.seeds) != self.batch_size:
            raise ValueError(
                f"{len(self.seeds)} seeds were given for a batch of {self.batch_size}; allowed is one per item."
            )
        self._check_melodies(config)
        self._check_styles(config)
        self._check_codes(config)
        self._check_known(config)
        self._check_times()
        params, schedules = self.schedules.folded(self.params)
        if schedules.lead_strength is not None and not any(not lead.is_null for lead in self.leads(config)):
            raise ValueError(
                "a strength of the melody was given without a melody; connect a melody (or a style), or leave the "
                "strength empty."
            )
        self = replace(self, params=params, schedules=schedules)
        if config.chroma is None:
            return self
        return replace(self, melodies=[None if m is None else m.for_config(config.chroma) for m in self.melodies])

    def _check_times(self) -> None:
        self.schedules.check(self.params)
        self._check_sections()

    def _check_sections(self) -> None:
        for condition in (*self.positive, *self.negative):
            if condition.span is not None and condition.span.start >= self.params.duration:
                raise ValueError(
                    f"a section begins at {show_time(condition.span.start)}, beyond the piece of "
                    f"{show_time(self.params.duration)}; make the piece longer, or take the section out."
                )

    def _check_melodies(self, config: ModelConfig) -> None:
        if config.chroma is None and any(melody is not None for melody in self.melodies):
            raise ValueError(
                f"model {config.name!r} takes text only and was given a melody; load a melody model or take the "
                "melody off."
            )
        if self.melodies and len(self.melodies) != self.batch_size:
            raise ValueError(
                f"{len(self.melodies)} melodies were given for a batch of {self.batch_size}; allowed is one per item."
            )

    def _check_styles(self, config: ModelConfig) -> None:
        if not self.styles:
            return
        if config.style is None:
            raise ValueError(
                f"model {config.name!r} has no style condition and was given a style; "
                "load a style model or take the style off."
            )
        if len(self.styles) != self.batch_size:
            raise ValueError(
                f"{len(self.styles)} styles were given for a batch of {self.batch_size}; allowed is one per item."
            )
        for tokens in self.styles:
            if tokens.dim() != 2 or tokens.shape[0] < 1 or tokens.shape[1] != config.style.dim:
                raise ValueError(
                    f"a style's tokens have shape {list(tokens.shape)}; model {config.name!r} needs "
                    f"[tokens, {config.style.dim}], made by its own style condition."
                )

    def _check_codes(self, config: ModelConfig) -> None:
        for name, codes, least in (("prompt", self.prompt, 0), ("known", self.known, -1)):
            if codes is None:
                continue
            if codes.dim() != 3 or codes.shape[1] != config.num_codebooks or len(codes) not in (1, self.batch_size):
                raise ValueError(
                    f"the {name}'s codes have shape {list(codes.shape)}; model {config.name!r} needs "
                    f"[1 or {self.batch_size}, {config.num_codebooks}, T]."
                )
            if codes.is_floating_point():
                raise ValueError(
                    f"the {name}'s codes are of type {codes.dtype}; allowed are whole numbers like torch.int64."
                )
            if codes.shape[2] and (int(codes.min()) < least or int(codes.max()) >= config.card):
                raise ValueError(
                    f"the {name}'s codes run from {int(codes.min())} to {int(codes.max())}; "
                    f"model {config.name!r} has codes 0 to {config.card - 1}."
                )

    def _check_known(self, config: ModelConfig) -> None:
        if self.known is None:
            return
        if self.prompt is not None:
            raise ValueError("a request has both a prompt and known codes; put the prompt into the known codes.")
        frames = to_frames(self.params.duration, config.frame_rate)
        if self.known.shape[2] != frames:
            raise ValueError(
                f"the known codes have {self.known.shape[2]} frames and the duration {frames}; allowed is the same "
                f"number, so set the duration to {self.known.shape[2] / config.frame_rate:g} seconds."
            )
        if not bool((self.known < 0).any()):
            raise ValueError("the known codes leave nothing to sample; allowed is at least one code of -1.")


def _acting(conditions: Sequence[TextCondition], first: float, last: float) -> Sequence[TextCondition]:
    """The conditions that may act between two times in seconds."""
    return [each for each in conditions if each.span is None or each.span.acts_in(first, last)]


def _rows(codes: Tensor | None, items: Sequence[int]) -> Tensor | None:
    """The codes of some items; one row serves all."""
    return codes if codes is None or len(codes) == 1 else codes[list(items)]
