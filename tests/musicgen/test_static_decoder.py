"""Steps that are all alike give the codes of the engine's own loop, recorded and replayed or not.

No GPU exists here. What stands in for CUDA graphs is a recorder of torch's operations: it notes each
with the very tensors that it read and wrote, undoes what recording did to them, and replays the
operations alone, without running a line of Python again. As with CUDA, a step that needed a number
of Python, a tensor made anew, or a look at a value, breaks there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from musicgen import GenerationParams, cuda_graph, generation, static_decoder
from musicgen.conditioning.base import TextCondition
from musicgen.conditioning.chroma import extract_melody
from musicgen.cuda_graph import GraphedFunction, why_no_graphs
from musicgen.generation import generate_codes
from tests.conftest import PROMPTS

CPU = torch.device("cpu")


class Recording(TorchDispatchMode):
    """Notes operations, and the tensors that they change as they were before."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple, dict, Any]] = []
        self.before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default):
            raise RuntimeError("operation not permitted when stream is capturing")
        if func._schema.is_mutable:
            changed = [each for each in (*args, *(kwargs or {}).values()) if _is_tensor(each)][:1]
            self.before += [(tensor, tensor.clone()) for tensor in changed]
        made = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, made))
        return made

    def undo(self) -> None:
        for tensor, value in reversed(self.before):
            tensor.copy_(value)
        self.before.clear()

    def replay(self) -> None:
        for func, args, kwargs, made in self.operations:
            if func._schema.is_mutable:
                func(*args, **kwargs)
                continue
            addresses = {_address(each) for each in tree_leaves((args, kwargs)) if _is_tensor(each)}
            kept = [each for each in tree_leaves(made) if _is_tensor(each)]
            if any(_address(each) in addresses for each in kept):
                continue  # a view, which shows what is there now
            for old, new in zip(kept, [e for e in tree_leaves(func(*args, **kwargs)) if _is_tensor(e)], strict=True):
                old.copy_(new)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class StandIn:
    """What CUDA's recording comes down to, without CUDA."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.live: set[Recording] = set()
        self.recorded, self.replayed, self.warmed = 0, 0, 0

    def warm_up(self, function: Callable[[], None]) -> None:
        self.warmed += 1
        function()

    def record(self, function: Callable[[], None]) -> Recording:
        recording = Recording()
        with recording:
            function()
        recording.undo()
        self.recorded += 1
        self.live.add(recording)
        return recording

    def replay(self, graph: Recording) -> None:
        self.replayed += 1
        graph.replay()

    def free(self, graph: Recording) -> None:
        self.live.remove(graph)


@pytest.fixture
def recorded(monkeypatch) -> Callable[..., tuple[torch.Tensor, StandIn]]:
    """Generate codes with recorded steps."""

    def run(*args, **options) -> tuple[torch.Tensor, StandIn]:
        stand_in = StandIn()
        with monkeypatch.context() as patch:
            patch.setattr(generation, "why_no_graphs", lambda device: None)
            patch.setattr(generation, "CudaBackend", lambda device: stand_in)
            codes = generate_codes(*args, **options)
        assert not stand_in.live
        return codes, stand_in

    return run


def sine(seconds: float, pitch: float = 440.0) -> torch.Tensor:
    return 0.3 * torch.sin(torch.arange(int(seconds * 32000)) * (2 * torch.pi * pitch / 32000))[None]


def request(model, kind: str) -> tuple[list[TextCondition], dict]:
    """Conditions and options, one kind of request each."""
    encode = model.text_encoder.encode
    both = encode(list(PROMPTS))
    if kind == "padded":
        return [encode([PROMPTS[0], ""])], {"batch_size": 2}
    if kind == "negative":
        return [both], {"batch_size": 2, "negative": [encode(["noise"])]}
    if kind == "schedule":
        first, second = encode([PROMPTS[0]]), encode([PROMPTS[1]])
        return [
            TextCondition(first.states, first.mask, 1.0, 0.0, 0.4),
            TextCondition(second.states, second.mask, 0.5, 0.6, 1.0),
        ], {}
    if kind == "prompt":
        codes = torch.randint(
            0, model.config.card, (1, model.num_codebooks, 9), generator=torch.Generator().manual_seed(3)
        )
        return [encode([PROMPTS[0]])], {"prompt": codes}
    return [both], {"batch_size": 2}


@pytest.mark.parametrize("name", ["hf-text", "hf-melody", "hf-stereo"])
@pytest.mark.parametrize("kind", ["plain", "padded", "negative", "schedule", "prompt"])
def test_recorded_steps_give_the_codes_of_the_engine(name, kind, model, recorded):
    m = model(name)
    conditions, options = request(m, kind)
    if m.config.chroma is not None and kind in ("plain", "prompt"):
        melody = extract_melody(sine(1.0), 32000, m.config.chroma)
        options["melodies"] = [melody] * options.get("batch_size", 1)
    params = GenerationParams(1.0, seed=7)
    plain = generate_codes(m.lm, m.config, conditions, params, **options)
    codes, stand_in = recorded(m.lm, m.config, conditions, params, **options)
    assert torch.equal(codes, plain)
    assert stand_in.replayed > 30


@pytest.mark.parametrize("pattern", ["delay", "parallel", "flatten", "partial_flatten", "coarse_first"])
@pytest.mark.parametrize("sampling", [{}, {"top_k": 0}, {"top_p": 0.8}, {"use_sampling": False}])
def test_every_pattern_and_way_of_drawing_is_the_same(pattern, sampling, model, recorded):
    m = model("hf-text")
    params = GenerationParams(0.5, pattern=pattern, seed=3, **sampling)
    condition = [m.text_encoder.encode([PROMPTS[0]])]
    codes, _ = recorded(m.lm, m.config, condition, params)
    assert torch.equal(codes, generate_codes(m.lm, m.config, condition, params))


def test_a_style_and_double_guidance_are_the_same(style_model, recorded):
    m = style_model
    style = m.encode_style(sine(6.0), 32000, seed=1)
    params = GenerationParams(0.5, seed=3, cfg_coef_beta=5.0)
    condition = [m.text_encoder.encode([PROMPTS[0]])]
    codes, _ = recorded(m.lm, m.config, condition, params, styles=[style])
    assert torch.equal(codes, generate_codes(m.lm, m.config, condition, params, styles=[style]))


def test_buckets_of_the_cache_and_windows_change_nothing(model, recorded, monkeypatch):
    monkeypatch.setattr(static_decoder, "BUCKET", 16)
    m = model("hf-melody")
    condition = [m.text_encoder.encode([PROMPTS[0]])]
    params = GenerationParams(3.0, seed=3, window=1.2, extend_stride=0.7)
    codes, stand_in = recorded(m.lm, m.config, condition, params)
    assert torch.equal(codes, generate_codes(m.lm, m.config, condition, params))
    assert stand_in.recorded > 8 and stand_in.warmed == stand_in.recorded


def test_early_steps_see_a_small_part_of_the_cache():
    assert [static_decoder.bucket_of(n) for n in (1, 256, 257, 1504)] == [256, 256, 512, 1536]


def test_every_step_is_reported_and_a_snapshot_shows_what_is_there(model, recorded):
    m, seen = model("hf-text"), []
    condition = [m.text_encoder.encode([PROMPTS[0]])]
    recorded(m.lm, m.config, condition, GenerationParams(1.0), on_step=lambda p: seen.append((p.step, p.codes())))
    assert [step for step, _ in seen] == list(range(1, 54))
    known = [int((codes >= 0).sum()) for _, codes in seen]
    assert known == sorted(known) and known[-1] == 4 * 50


class Cancelled(BaseException):
    """As a host's interruption: no Exception."""


@pytest.mark.parametrize("step", [1, 2, 40])
def test_a_cancel_leaves_no_graph_behind(step, model, monkeypatch):
    m, stand_in = model("hf-text"), StandIn()
    monkeypatch.setattr(generation, "why_no_graphs", lambda device: None)
    monkeypatch.setattr(generation, "CudaBackend", lambda device: stand_in)

    def cancel(progress):
        if progress.step == step:
            raise Cancelled

    with pytest.raises(Cancelled):
        generate_codes(m.lm, m.config, [m.text_encoder.encode(["x"])], GenerationParams(1.0), on_step=cancel)
    assert not stand_in.live


def test_logits_that_are_not_finite_are_an_error_within_a_block(model, recorded, monkeypatch):
    m, steps = model("hf-text"), []
    monkeypatch.setattr(static_decoder, "sample_codes", lambda logits, *_, **__: logits.mul_(torch.nan).argmax(-1) * 0)
    real = m.lm.logits
    monkeypatch.setattr(m.lm, "logits", lambda states: real(states) * torch.nan)
    with pytest.raises(ValueError, match="NaN or infinite"):
        recorded(
            m.lm,
            m.config,
            [m.text_encoder.encode(["x"])],
            GenerationParams(2.0),
            on_step=lambda p: steps.append(p.step),
        )
    assert len(steps) == static_decoder.BLOCK


def test_where_graphs_cannot_be_the_reason_is_told():
    assert why_no_graphs(CPU) == "CUDA graphs are for CUDA devices and this one is cpu"


def test_graphs_that_are_asked_for_where_they_cannot_be_are_refused(model):
    m = model("hf-text")
    condition = [m.text_encoder.encode(["x"])]
    with pytest.raises(ValueError, match="use_cuda_graphs is True, but CUDA graphs are for CUDA devices"):
        generate_codes(m.lm, m.config, condition, GenerationParams(1.0), use_cuda_graphs=True)


def test_amd_cards_are_left_alone(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert why_no_graphs(torch.device("cuda")) == "graphs of ROCm are not tried"


def test_a_recorded_function_reads_the_values_of_each_call():
    total, backend = torch.zeros(3), StandIn()
    add = GraphedFunction(lambda x, y: total.add_(x * y), backend)
    for number in range(1, 6):
        add(torch.full((3,), float(number)), torch.ones(3))
    assert total.tolist() == [15.0] * 3
    assert (backend.warmed, backend.recorded, backend.replayed) == (1, 1, 4)
    add.free()
    assert not backend.live


@pytest.mark.parametrize(
    "other", [torch.zeros(4), torch.zeros(3, dtype=torch.float64), torch.zeros(3, device="meta"), torch.zeros(3, 1)]
)
def test_other_shapes_dtypes_and_devices_are_refused_and_named(other):
    function = GraphedFunction(lambda x: None, StandIn())
    function(torch.zeros(3))
    found = f"{other.dtype} {list(other.shape)} on {other.device}".replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(ValueError, match=rf"called with {found}; allowed is .* torch.float32 \[3\] on cpu"):
        function(other)
    with pytest.raises(ValueError, match="called with nothing"):
        function()


class Breaking(StandIn):
    """Raises in the middle of a recording."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def record(self, function):
        raise self.error


def test_the_stand_in_sees_numbers_of_python_and_looks_at_values():
    number = [0]

    def counts_in_python(total):
        number[0] += 1
        total.add_(number[0])

    total, count = torch.zeros(1), GraphedFunction(counts_in_python, StandIn())
    for _ in range(4):
        count(total)
    assert total.tolist() != [10.0]
    looks = GraphedFunction(lambda x: x.add_(1 if bool(x > 0) else 2), StandIn())
    looks(torch.zeros(1))
    looks(torch.zeros(1))
    assert "not permitted when stream is capturing" in str(looks.reason)


def test_where_recording_fails_the_function_runs_directly_and_the_reason_is_told(caplog):
    total, backend = torch.zeros(1), Breaking(RuntimeError("operation not permitted\nwhen stream is capturing"))
    add = GraphedFunction(total.add_, backend)
    for _ in range(4):
        add(torch.ones(1))
    assert total.item() == 4
    assert add.reason == "the step could not be recorded (RuntimeError operation not permitted)"
    assert caplog.text.count("goes on without CUDA graphs") == 1
    add.free()


def test_an_interruption_while_recording_passes_through():
    add = GraphedFunction(lambda x: None, Breaking(Cancelled()))
    add(torch.ones(1))
    with pytest.raises(Cancelled):
        add(torch.ones(1))
    add.free()


class Graph:
    """Stands in for torch.cuda.CUDAGraph, which no machine without CUDA can make."""

    def __init__(self, log: list[str], fails: bool = False) -> None:
        self.log, self.fails = log, fails

    def capture_begin(self, pool, capture_error_mode):
        self.log.append("begin")

    def capture_end(self):
        self.log.append("end")
        if self.fails:
            raise RuntimeError("the capture was invalidated")

    def reset(self):
        self.log.append("reset")


class Side:
    """Stands in for a CUDA stream."""

    def wait_stream(self, other): ...

    def __enter__(self): ...

    def __exit__(self, *_): ...


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("error", [None, RuntimeError("no"), Cancelled()])
def test_a_recording_is_ended_whatever_happens_in_it(error, fails, monkeypatch):
    log: list[str] = []
    for name, value in {
        "Stream": lambda device: Side(),
        "stream": lambda stream: stream,
        "graph_pool_handle": lambda: (0, 0),
        "synchronize": lambda device: None,
        "CUDAGraph": lambda: Graph(log, fails and error is not None),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    backend = cuda_graph.CudaBackend(torch.device("cuda"))

    def function():
        log.append("run")
        if error is not None:
            raise error

    if error is None:
        backend.free(backend.record(function))
    else:
        with pytest.raises(type(error)):
            backend.record(function)
    assert log == ["begin", "run", "end", "reset"]
