"""Generation: a request becomes codes. Patterns, guidance, windows, seeds, progress and cancel.

:func:`generate_codes` is the whole of section 2 and 3 of Copet et al. 2023 at inference: lay the
unknown codes out by a pattern, fuse the conditions, decode window after window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..conditioning.condition import TextCondition
from ..conditioning.fuser import fuse
from ..conditioning.melody import Melody
from ..config import GenerationParams, ModelConfig
from ..decoding.cuda_graph import Backend, CudaBackend, why_no_graphs
from ..decoding.engine import UNKNOWN, CachedDecoder, FullDecoder, SamplingParams, decode_sequence
from ..decoding.sampling import exponential_noise
from ..decoding.static_decoder import BLOCK, StaticDecoder, bucket_of
from ..decoding.threads import chosen_threads
from ..lm.language_model import LMModel
from ..lm.rows import Conditions
from .guidance import Branches, guidance, plan_branches
from .patterns import Pattern, named_pattern
from .windows import Window, plan_windows

Noise = Callable[[], Tensor]


@dataclass(frozen=True)
class StepProgress:
    """Told to on_step after every step: step `step` of `total` is done (both over all windows)."""

    step: int
    total: int
    codes: Callable[[], Tensor] = field(repr=False)
    """Makes a copy of the piece so far: int64 `[B, K, T]` on the CPU, -1 where unknown."""


OnStep = Callable[[StepProgress], None]


def _seeded_noise(params: GenerationParams, items: Sequence[int], config: ModelConfig) -> Noise | None:
    """Noise for some batch items, each from a generator of its own."""
    if not params.use_sampling or params.temperature == 0.0:
        return None
    generators = [torch.Generator().manual_seed(_mix_bits(params.seed + item)) for item in items]
    return lambda: exponential_noise(generators, config.num_codebooks, config.card)


def _mix_bits(seed: int) -> int:
    """torch's CPU generator reads only 32 bits of its seed: let all 64 of ours reach them."""
    digest = hashlib.sha256((seed % 2**64).to_bytes(8, "little")).digest()
    return int.from_bytes(digest[:4], "little")


def _check_request(
    config: ModelConfig, batch: int, melodies: Sequence[Melody | None], styles: Sequence[Tensor], prompt: Tensor | None
) -> None:
    if batch < 1:
        raise ValueError(f"batch size is {batch}; allowed is at least 1.")
    if config.chroma is None and any(m is not None for m in melodies):
        raise ValueError(
            f"model {config.name!r} takes text only and was given a melody; load a melody model or take the melody off."
        )
    if melodies and len(melodies) != batch:
        raise ValueError(f"{len(melodies)} melodies were given for a batch of {batch}; allowed is one per item.")
    if styles:
        _check_styles(config, batch, styles)
    if prompt is None:
        return
    if prompt.dim() != 3 or prompt.shape[1] != config.num_codebooks or prompt.shape[0] not in (1, batch):
        raise ValueError(
            f"the prompt's codes have shape {list(prompt.shape)}; model {config.name!r} needs "
            f"[1 or {batch}, {config.num_codebooks}, T]."
        )
    if prompt.is_floating_point():
        raise ValueError(f"the prompt's codes are of type {prompt.dtype}; allowed are whole numbers like torch.int64.")
    if prompt.shape[2] and (int(prompt.min()) < 0 or int(prompt.max()) >= config.card):
        raise ValueError(
            f"the prompt's codes run from {int(prompt.min())} to {int(prompt.max())}; "
            f"model {config.name!r} has codes 0 to {config.card - 1}."
        )


def _check_styles(config: ModelConfig, batch: int, styles: Sequence[Tensor]) -> None:
    if config.style is None:
        raise ValueError(
            f"model {config.name!r} has no style condition and was given a style; "
            "load a style model or take the style off."
        )
    if len(styles) != batch:
        raise ValueError(f"{len(styles)} styles were given for a batch of {batch}; allowed is one per item.")
    for tokens in styles:
        if tokens.dim() != 2 or tokens.shape[0] < 1 or tokens.shape[1] != config.style.dim:
            raise ValueError(
                f"a style's tokens have shape {list(tokens.shape)}; model {config.name!r} needs "
                f"[tokens, {config.style.dim}], made by its own style condition."
            )


def make_pattern(config: ModelConfig, name: str | None, num_frames: int) -> Pattern:
    """The pattern of a request for this model; name None is the checkpoint's own."""
    return named_pattern(name, num_frames, config.delays, config.audio_channels)


def _step_counts(config: ModelConfig, params: GenerationParams, windows: list[Window]) -> list[int]:
    kinds = [(window.num_frames, window.prompt_frames) for window in windows]
    counts = {}
    for frames, prompt_frames in dict.fromkeys(kinds):  # most windows of a long piece are alike
        pattern = make_pattern(config, params.pattern, frames)
        counts[frames, prompt_frames] = pattern.num_steps - pattern.first_step(prompt_frames)
    return [counts[kind] for kind in kinds]


def _windows(config: ModelConfig, params: GenerationParams, prompt_frames: int) -> list[Window]:
    return plan_windows(
        params, config.frame_rate, prompt_frames, model_window=config.window, model_stride=config.extend_stride
    )


def plan_steps(config: ModelConfig, params: GenerationParams, prompt_frames: int = 0) -> int:
    """Forward passes of the language model that one item takes, prefills counted as one each."""
    return sum(_step_counts(config, params, _windows(config, params, prompt_frames)))


@dataclass(frozen=True)
class _Request:
    """What stays the same from window to window."""

    lm: LMModel
    config: ModelConfig
    params: GenerationParams
    branches: Branches
    items: Sequence[int]
    melodies: list[Melody | None]
    styles: list[Tensor]
    windows: list[Window]
    prompt_frames: int
    device: torch.device
    noise: Noise | None
    slow: bool
    after_step: Callable[[], None]
    graphs: Backend | None

    @property
    def num_frames(self) -> int:
        return self.windows[-1].first + self.windows[-1].num_frames


@torch.no_grad()
def generate_codes(
    lm: LMModel,
    config: ModelConfig,
    positive: Sequence[TextCondition],
    params: GenerationParams,
    *,
    negative: Sequence[TextCondition] = (),
    batch_size: int = 1,
    melodies: Sequence[Melody | None] | None = None,
    styles: Sequence[Tensor] = (),
    prompt: Tensor | None = None,
    on_step: OnStep | None = None,
    device: torch.device | str = "cpu",
    noise: Noise | None = None,
    slow: bool = False,
    use_cuda_graphs: bool | None = None,
) -> Tensor:
    """Sample codes int64 `[B, K, T]` on the CPU; the prompt's codes come first.

    positive, negative: conditions whose logits are averaged by their strength; without a negative
    one, guidance is against the null condition. melodies: one per batch item, for melody models.
    styles: tokens `[n, style_dim]` per batch item, for style models; they stay the same in all
    windows, and where no condition acts they act alone.
    prompt: codes `[B or 1, K, T0]` to continue. device: where to compute, which is where the
    weights are or where the host moves them. noise: gives each step's Exp(1) numbers
    `[B, K, card]`; by default item i draws from a generator of its own, seeded with
    `params.seed + i`, and is the same as when it is sampled alone. slow: decode by the definition,
    without a cache. use_cuda_graphs: record steps as CUDA graphs, None where that is possible; they
    are freed before this returns, and the codes are the same with and without. Raises ValueError on anything out of
    range; whatever on_step raises passes through, and nothing of the request is left behind.
    """
    given = list(melodies or [])
    _check_request(config, batch_size, given, styles, prompt)
    if config.chroma is not None:
        given = [None if m is None else m.for_config(config.chroma) for m in given]
    prompt_frames = 0 if prompt is None else prompt.shape[2]
    windows = _windows(config, params, prompt_frames)
    led = {"melody": any(m is not None for m in given), "style": bool(styles)}
    branches = plan_branches(positive, negative, params, **led)
    parts = [list(range(batch_size))]
    if lm.dtype != torch.float32 and noise is None:
        parts = _equal_rows(branches, batch_size, styles)
    counts = _step_counts(config, params, windows) * len(parts)
    codes = torch.full((batch_size, config.num_codebooks, windows[-1].first + windows[-1].num_frames), UNKNOWN)
    if prompt is not None:
        codes[:, :, :prompt_frames] = prompt.cpu()
    recorder = _graphs(torch.device(device), False if slow else use_cuda_graphs)
    with chosen_threads(torch.device(device)) as after_step, recorder as graphs:
        for part, items in enumerate(parts):
            request = _Request(
                lm,
                config,
                params,
                branches.select(items),
                items,
                [given[item] for item in items] if given else [],
                [styles[item] for item in items] if styles else [],
                windows,
                prompt_frames,
                torch.device(device),
                noise or _seeded_noise(params, items, config),
                slow,
                after_step,
                graphs,
            )
            for index, window in enumerate(windows):
                done = sum(counts[: part * len(windows) + index])
                _fill_window(request, window, codes, on_step, done, sum(counts))
    return codes


def _equal_rows(branches: Branches, batch_size: int, styles: Sequence[Tensor]) -> list[list[int]]:
    """Batch items by the lengths of their texts and styles.

    In half precision a row's rounding depends on the padding beside it, and rounding is coarse
    enough there to change codes. Rows of equal length need none.
    """
    parts: dict[tuple[int, ...], list[int]] = {}
    for item in range(batch_size):
        rows = [None if group is None else group.row(item) for group in branches.groups]
        lengths = [0 if row is None else len(row) for row in [*rows, *styles[item : item + 1]]]
        parts.setdefault(tuple(lengths), []).append(item)
    return list(parts.values())


def _fill_window(
    request: _Request, window: Window, codes: Tensor, on_step: OnStep | None, steps_done: int, steps_total: int
) -> None:
    """Decode one window's unknown codes of the request's items into `codes` `[B, K, T]`, in place."""
    config, params = request.config, request.params
    pattern = make_pattern(config, params.pattern, window.num_frames)
    items, span = torch.tensor(request.items), slice(window.first, window.first + window.num_frames)
    sequence = pattern.build_sequence(codes[items, :, span], config.lm.special_token_id).to(request.device)
    first_step = pattern.first_step(window.prompt_frames)

    def snapshot() -> Tensor:
        codes[items, :, span] = pattern.revert_sequence(sequence).cpu()
        return codes.clone()

    def report(step: int) -> None:
        request.after_step()
        if on_step is not None:
            on_step(StepProgress(steps_done + step - first_step + 1, steps_total, snapshot))

    shares = (pattern.frames + window.first - request.prompt_frames) / (request.num_frames - request.prompt_frames)
    sampling = SamplingParams(params.temperature, params.top_k, params.top_p)
    # What is known already, and the empty cells, have no time of their own.
    guide = guidance(request.branches, shares.clamp(0.0, 1.0), params, request.device)
    conditions = _conditions(request, window)
    if request.graphs is None:
        batch, steps = len(request.items), pattern.num_steps - 1
        decoder = (
            FullDecoder(request.lm, conditions, request.device)
            if request.slow
            else CachedDecoder(request.lm, conditions, batch, steps, request.device)
        )
        decode_sequence(decoder, sequence, first_step, sampling, guide=guide, noise=request.noise, on_step=report)
    else:
        static = StaticDecoder(request.lm, conditions, sequence, sampling, guide, request.graphs)
        try:
            static.decode(first_step, request.noise, report)
        finally:
            static.close()
    snapshot()


def _conditions(request: _Request, window: Window) -> Conditions:
    return fuse(
        request.lm,
        request.branches.groups,
        len(request.items),
        request.device,
        led=request.branches.led,
        chroma=_window_chroma(request, window),
        chroma_config=request.config.chroma,
        styles=request.styles,
    )


def _graphs(device: torch.device, wanted: bool | None) -> AbstractContextManager[Backend | None]:
    """What records the steps of one run, or runs them; None for the engine's own loop."""
    reason = why_no_graphs(device)
    if wanted and reason is not None:
        raise ValueError(
            f"use_cuda_graphs is True, but {reason}; allowed there are False, and None to use them where they run."
        )
    if reason is not None and device.type != "cuda":
        return nullcontext()
    # Without graphs the steps are the same, one kernel after the other: so are the codes, in half precision too.
    backend = CudaBackend(device)
    backend.refused = reason if wanted is not False else "they are turned off"
    return closing(backend)


def _window_chroma(request: _Request, window: Window) -> list[Tensor | None]:
    """Chroma per item. Within one window the melody's own frames are tiled; in a long piece its
    waveform goes on from window to window, repeating."""
    chroma = request.config.chroma
    if chroma is None:
        return []
    if len(request.windows) == 1:
        return [None if m is None else m.chroma for m in request.melodies]
    rate = request.config.frame_rate
    first = window.first * chroma.sample_rate // rate
    length = request.windows[0].num_frames * chroma.sample_rate // rate
    return [None if m is None else m.window(first, length) for m in request.melodies]


def memory_required(
    config: ModelConfig,
    positive: Sequence[TextCondition],
    params: GenerationParams,
    *,
    negative: Sequence[TextCondition] = (),
    batch_size: int = 1,
    melody: bool = False,
    style_tokens: int = 0,
    prompt_frames: int = 0,
    itemsize: int = 4,
) -> int:
    """Bytes that one request takes beside the weights.

    melody: whether one is given. style_tokens: how many a style has, 0 without one. itemsize: bytes
    per number of the language model. Counted: the key and value cache, the condition's keys and
    values, the activations of the prefill or of one step, and the float32 logits with what sampling
    makes of them and its noise.
    """
    groups = plan_branches(positive, negative, params, melody=melody, style=style_tokens > 0).groups
    num_text_tokens = max(c.states.shape[1] for c in (*positive, *negative))
    lm, rows = config.lm, len(groups) * batch_size
    windows = _windows(config, params, prompt_frames)
    steps = make_pattern(config, params.pattern, windows[0].num_frames).num_steps
    lead = max(style_tokens, 1) if config.chroma is None else config.chroma.chroma_length
    prefix = 0 if lm.cross_attention else lead + num_text_tokens
    kv = 2 * lm.num_layers * rows * bucket_of(steps + prefix) * lm.dim * itemsize
    cross = 2 * lm.num_layers * rows * num_text_tokens * lm.dim * itemsize if lm.cross_attention else 0
    prefill = prefix + steps * max(w.prompt_frames for w in windows) // windows[0].num_frames + 1
    # At its fullest a layer holds its input, the normed one, queries, keys, values, and the FFN's inside twice.
    activations = rows * prefill * (7 * lm.dim + 2 * lm.ffn_dim) * itemsize
    # One block of noise is being used while the next one arrives.
    logits = (rows + (6 + 2 * BLOCK) * batch_size) * lm.num_codebooks * lm.card * 4
    return kv + cross + activations + logits
