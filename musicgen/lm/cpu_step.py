"""A decoding step in one compiled call: what can be compiled, and the step of one generation.

The ordinary step (`language_model.py`) is the definition. This one reads the same parameters where
they lie and shares the same caches, so that either can go on where the other stopped. The weights are
looked up anew for each generation, since a host may have exchanged them. The first compiled step of a
process is held against the ordinary one, kind by kind of numbers: see :meth:`CompiledStep.proven`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from . import cpu_plan as at
from .cache import CrossCache, KVCache
from .cpu_compiler import compiled_step, give_way, why_not_compiled
from .cpu_linear import rounded_rows
from .cpu_team import Team
from .language_model import LMModel
from .large_pages import LargePages
from .transformer import TransformerLayer, sinusoidal_positions

_KINDS = {
    torch.float32: at.KINDS.index("float32"),
    torch.float16: at.KINDS.index("float16"),
    torch.bfloat16: at.KINDS.index("bfloat16"),
}

CACHE_VARIABLE = "MUSICGEN_CACHE"
_CACHES = {"fp32": torch.float32, "fp16": torch.float16}
TOLERANCE = 0.01
"""How far logits may be from the ordinary step's, as a part of their standard deviation."""
_PROVEN: set[tuple[int, ...]] = set()


def why_ordinary(lm: LMModel, device: torch.device) -> str | None:
    """Give the reason for which this model's steps cannot be compiled, or None."""
    if device.type != "cpu" or lm.dtype != torch.float32:
        return "only a CPU that computes in float32 runs compiled steps"
    if torch.is_grad_enabled() and any(p.requires_grad for p in lm.parameters()):
        return "its weights are being trained"
    for name, module in lm.named_modules():
        if getattr(module, "weight_function", None) or getattr(module, "bias_function", None):
            return f"a host changes {name} whenever it is used"
        if isinstance(module, (nn.Linear, nn.LayerNorm, nn.Embedding)) and not _is_readable(name, module):
            return f"{name} is kept in a form that only its own layer reads"
    return why_not_compiled()


def _is_readable(name: str, module: nn.Linear | nn.LayerNorm | nn.Embedding) -> bool:
    if name.endswith("_proj"):
        return True  # conditions are projected before the first step
    weight = module.weight
    kinds = _KINDS if isinstance(module, nn.Linear) else {torch.float32: 0}
    return type(weight.data) is Tensor and weight.is_cpu and weight.dtype in kinds and weight.is_contiguous()


def cache_dtype(lm: LMModel) -> torch.dtype:
    """The numbers that a compiled step's cache keeps: float16 beside weights that are rounded to int8, else float32.

    MUSICGEN_CACHE, fp16 or fp32, overrides it.

    Raises:
        ValueError: the variable has another value.
    """
    asked = os.environ.get(CACHE_VARIABLE, "").strip().lower()
    if asked and asked not in _CACHES:
        raise ValueError(
            f"{CACHE_VARIABLE} is {asked!r}; allowed are fp16, fp32, or nothing for the kind that suits the weights."
        )
    rounds = any(getattr(module, "_rounds", False) for module in lm.modules())
    return _CACHES[asked or ("fp16" if rounds else "fp32")]


class CompiledStep:
    """The step of one generation.

    Args:
        lm: the model, for which :func:`why_ordinary` gave None.
        caches: keys and values of each layer; the step appends to them.
        cross: keys and values of the condition, or None without one.
        batch: items; row = group x batch + item.
        pads: how many places at the beginning of the cache a row leaves out, int64 `[rows]`, or None for none.
        team: the threads that run it.
    """

    def __init__(
        self,
        lm: LMModel,
        caches: Sequence[KVCache],
        cross: Sequence[CrossCache] | None,
        batch: int,
        pads: Tensor | None,
        team: Team,
    ) -> None:
        self._team, self._caches, self._step = team, caches, compiled_step()
        self._pages = LargePages()
        self._fault: BaseException | None = None
        self._config, self._batch = lm.config, batch
        self._rows, _, self._capacity, _ = caches[0].keys.shape
        self._plan = (ctypes.c_int64 * (at.LAYER_TABLE + at.LAYER_WORDS * lm.config.num_layers))()
        self._address = ctypes.addressof(self._plan)
        self._kept: list[Tensor] = []
        self._cache_kinds: list[torch.dtype | None] = [None] * len(caches)
        self._set_sizes(lm)
        self._set_work_space()
        zeros = torch.zeros(self._rows, dtype=torch.long)
        self._put(at.FIRST_KEYS, zeros if pads is None else pads.contiguous())
        self._set_weights(lm)
        if cross is not None:
            self._set_condition(cross)

    def __call__(self, codes: Tensor) -> Tensor:
        """Feed one column of codes `[B, K]`; give float32 logits `[rows, K, 1, card]` of the next one."""
        config, place = self._config, self._caches[0].length
        if place >= self._capacity:
            raise ValueError(f"a KV cache of {self._capacity} positions was asked to hold {place + 1}.")
        self._follow_caches()
        codes = codes.contiguous()
        least, most = codes.aminmax()
        if int(least) < 0 or int(most) > config.card:
            raise IndexError(f"codes from {int(least)} to {int(most)}, where 0 to {config.card} are allowed.")
        logits = torch.empty(self._rows, config.num_codebooks, 1, config.card)
        plan = self._plan
        plan[at.CODES], plan[at.LOGITS], plan[at.PLACE] = codes.data_ptr(), logits.data_ptr(), place
        self._run()
        while self._widened():
            self._run()  # the step writes the same again, to the same places
        for cache in self._caches:
            cache.length = place + 1
        return logits

    @property
    def proven(self) -> bool:
        """Whether steps over these kinds of numbers were compared in this process."""
        return self._kinds() in _PROVEN

    def agrees(self, codes: Tensor, expected: Tensor) -> tuple[Tensor, str | None]:
        """Feed a column as a call does, and hold the logits against those of the ordinary step.

        Returns:
            The logits, and None or how they are wrong.
        """
        logits = self(codes)
        allowed = TOLERANCE * float(expected.std())
        largest = float((logits - expected).abs().max())
        if largest <= allowed:
            _PROVEN.add(self._kinds())
            return logits, None
        return logits, f"its logits are off by {largest:.3g}, where {allowed:.3g} is allowed"

    def _kinds(self) -> tuple[int, ...]:
        """The kinds of the matrices and of the caches, and whether there is more than one row."""
        words = range(at.LAYER_TABLE, len(self._plan), at.LAYER_WORDS)
        matrices = {self._plan[start + at.SELF_QKV + 1] for start in words} | {self._plan[at.HEAD + 1]}
        caches = {len(at.KINDS) + self._plan[start + at.CACHE_KIND] for start in words}
        return (*sorted(matrices | caches), int(self._rows > 1))

    def _run(self) -> None:
        try:
            self._team.run(self._part)
        except BaseException:
            self._plan[at.GIVEN_UP] = 1  # whoever waits for this thread leaves
            raise
        if self._fault is not None:
            raise RuntimeError("a thread of the compiled step ended early") from self._fault

    def _follow_caches(self) -> None:
        """Look for caches that were widened while the ordinary step filled them."""
        for number, cache in enumerate(self._caches):
            if self._cache_kinds[number] is not cache.keys.dtype:
                self._put_cache(number)

    def _widened(self) -> bool:
        """Widen the caches that a number was too large for; whether there were any."""
        found = False
        for number, cache in enumerate(self._caches):
            start = at.LAYER_TABLE + at.LAYER_WORDS * number
            if self._plan[start + at.TOO_LARGE]:
                self._plan[start + at.TOO_LARGE] = 0
                found = True
                cache.widen()
                self._put_cache(number)
        return found

    def _put_cache(self, number: int) -> None:
        start, cache = at.LAYER_TABLE + at.LAYER_WORDS * number, self._caches[number]
        self._put(start + at.KEYS, cache.keys)
        self._put(start + at.VALUES, cache.values)
        self._cache_kinds[number] = cache.keys.dtype
        self._plan[start + at.CACHE_KIND] = at.CACHE_KINDS.index(str(cache.keys.dtype).removeprefix("torch."))

    def _part(self, thread: int, threads: int) -> None:
        try:
            self._step(thread, threads, self._address)
        except BaseException as error:
            self._plan[at.GIVEN_UP], self._fault = 1, error

    def _put(self, index: int, tensor: Tensor) -> None:
        """Put a tensor's address into the plan, and keep the tensor."""
        self._kept.append(tensor)
        self._plan[index] = tensor.data_ptr()

    def _set_sizes(self, lm: LMModel) -> None:
        config = lm.config
        sizes = {
            at.LAYERS: config.num_layers,
            at.ROWS: self._rows,
            at.BATCH: self._batch,
            at.DIM: config.dim,
            at.HEADS: config.num_heads,
            at.HEAD_DIM: config.dim // config.num_heads,
            at.FFN: config.ffn_dim,
            at.CODEBOOKS: config.num_codebooks,
            at.CARD: config.card,
            at.CAPACITY: self._capacity,
            at.YIELD: give_way(),
        }
        for index, number in sizes.items():
            self._plan[index] = number

    def _set_work_space(self) -> None:
        config, rows, dim, ffn = self._config, self._rows, self._config.dim, self._config.ffn_dim
        places = torch.arange(self._capacity)
        self._put(at.POSITIONS, sinusoidal_positions(places, dim, config.max_period, config.positional_scale))
        for index, width in ((at.STATES, dim), (at.QKV, 3 * dim), (at.ATTENDED, dim), (at.INNER, ffn)):
            self._put(index, torch.zeros(rows, width))
        self._put(at.NORMED, torch.zeros(self._team.most, rows, dim))
        self._set_scores(self._capacity)

    def _set_scores(self, size: int) -> None:
        self._plan[at.SCORES_SIZE] = size = -(-size // 16) * 16
        self._put(at.SCORES, torch.zeros(self._team.most, size))

    def _set_weights(self, lm: LMModel) -> None:
        self._put(at.EMBEDDING, lm.embedding.weight)
        self._put_norm(at.OUT_NORM, lm.out_norm)
        self._put_matrix(at.HEAD, lm.head)
        for number, layer in enumerate(lm.transformer.layers):
            assert isinstance(layer, TransformerLayer)
            start = at.LAYER_TABLE + at.LAYER_WORDS * number
            self._put_norm(start + at.NORM_SELF, layer.norm_self)
            self._put_norm(start + at.NORM_FFN, layer.norm_ffn)
            self._put_matrix(start + at.SELF_QKV, layer.self_attn.qkv)
            self._put_matrix(start + at.SELF_OUT, layer.self_attn.out)
            self._put_matrix(start + at.FFN_IN, layer.ffn_in)
            self._put_matrix(start + at.FFN_OUT, layer.ffn_out)
            self._put_cache(number)
            if self._config.cross_attention:
                self._put_norm(start + at.NORM_CROSS, layer.norm_cross)
                self._put_matrix(start + at.CROSS_Q, layer.cross_attn.q)
                self._put_matrix(start + at.CROSS_OUT, layer.cross_attn.out)

    def _put_norm(self, index: int, norm: nn.LayerNorm) -> None:
        self._put(index, norm.weight)
        self._put(index + 1, norm.bias)

    def _put_matrix(self, index: int, layer: nn.Linear) -> None:
        rounded = rounded_rows(layer, self._pages)
        if rounded is None:
            self._put(index, layer.weight)
            self._plan[index + 1] = _KINDS[layer.weight.dtype]
        else:
            numbers, scales = rounded
            self._put(index, numbers)
            self._plan[index + 1] = at.KINDS.index("int8")
            self._put(index + 2, scales)

    def _set_condition(self, cross: Sequence[CrossCache]) -> None:
        """Take the condition's keys and values; those that a mask leaves out are closed up, row by row."""
        rows, _, length, _ = cross[0].keys.shape
        mask = cross[0].mask
        lengths = torch.full((rows,), length) if mask is None else mask[:, 0, 0].sum(dim=1)
        # The vectors that count come first, in their order; the others are never read.
        order = None if mask is None else mask[:, 0, 0].long().argsort(dim=1, descending=True, stable=True)
        self._plan[at.CROSS_ROWS], self._plan[at.CROSS_CAPACITY] = rows, length
        self._put(at.CROSS_LENGTHS, lengths)
        if length > self._capacity:
            self._set_scores(length)
        for number, layer in enumerate(cross):
            start = at.LAYER_TABLE + at.LAYER_WORDS * number
            self._put(start + at.CROSS_KEYS, _ordered(layer.keys, order))
            self._put(start + at.CROSS_VALUES, _ordered(layer.values, order))


def _ordered(vectors: Tensor, order: Tensor | None) -> Tensor:
    """Vectors `[rows, heads, n, head_dim]`, each row's in the order `[rows, n]`, in one piece of memory."""
    if order is not None:
        vectors = vectors.gather(2, order[:, None, :, None].expand_as(vectors))
    return vectors.contiguous()
