"""Recording: what is checked, what is refused, and that nothing half recorded stays.

No GPU exists here: recordings are those of `tests/recording.py`, and CUDA's own backend runs over a stand-in for
torch.cuda that keeps torch's rules.
"""

from __future__ import annotations

import gc

import pytest
import torch

from musicgen.decoding import cuda_graph
from musicgen.decoding.cuda_graph import GraphedFunction, why_no_graphs
from tests.recording import CPU, Breaking, Cancelled, OlderCancelled, StandIn


def test_where_graphs_cannot_be_the_reason_is_told():
    assert why_no_graphs(CPU) == "CUDA graphs are for CUDA devices and this one is cpu"


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


def test_the_stand_in_sees_numbers_of_python_and_looks_at_values():
    number = [0]

    def counts_in_python(total):
        number[0] += 1
        total.add_(number[0])

    total, count = torch.zeros(1), GraphedFunction(counts_in_python, StandIn())
    for _ in range(4):
        count(total)
    assert total.tolist() != [10.0]
    backend = StandIn()
    looks = GraphedFunction(lambda x: x.add_(1 if bool(x > 0) else 2), backend)
    looks(torch.zeros(1))
    looks(torch.zeros(1))
    assert "not permitted when stream is capturing" in str(backend.refused)


def test_where_recording_fails_the_function_runs_directly_and_the_reason_is_told(caplog):
    total, backend = torch.zeros(1), Breaking(RuntimeError("operation not permitted\nwhen stream is capturing"))
    for function in (GraphedFunction(total.add_, backend), GraphedFunction(total.add_, backend)):
        for _ in range(4):
            function(torch.ones(1))
        function.free()
    assert total.item() == 8
    assert backend.refused == "the step could not be recorded (RuntimeError operation not permitted)"
    assert backend.tried == caplog.text.count("goes on without CUDA graphs") == 1


@pytest.mark.parametrize("interruption", [Cancelled(), OlderCancelled()])
def test_an_interruption_while_recording_passes_through(interruption, caplog):
    backend = Breaking(interruption)
    add = GraphedFunction(lambda x: None, backend)
    add(torch.ones(1))
    with pytest.raises(type(interruption)):
        add(torch.ones(1))
    add.free()
    assert backend.refused is None and not caplog.records


class Pools:
    """Stands in for torch's allocator: a recording may share a pool that a graph still holds, or take a new one."""

    def __init__(self) -> None:
        self.users: dict[int, int] = {}

    def enter(self, pool: int | None) -> int:
        assert pool is None or self.users[pool] > 0, "a pool without a graph is dead for good"
        pool = len(self.users) if pool is None else pool
        self.users[pool] = self.users.get(pool, 0) + 1
        return pool


class Graph:
    """Stands in for torch.cuda.CUDAGraph, which no machine without CUDA can make."""

    def __init__(self, log: list[str], pools: Pools) -> None:
        self.log, self.pools, self.fails, self.mine = log, pools, False, -1

    def capture_begin(self, pool=None, capture_error_mode="global"):
        assert not gc.isenabled() and capture_error_mode == "thread_local"
        self.log.append("begin")
        self.mine = self.pools.enter(pool)

    def capture_end(self):
        self.log.append("end")
        if self.fails:
            raise RuntimeError("the capture was invalidated")

    def pool(self):
        return self.mine

    def reset(self):
        self.log.append("reset")
        self.pools.users[self.mine] -= 1


class Side:
    """Stands in for a CUDA stream."""

    def wait_stream(self, other): ...

    def __enter__(self): ...

    def __exit__(self, *_): ...


@pytest.fixture
def cuda(monkeypatch):
    """CUDA's backend over a stand-in for torch.cuda: its calls, its pools and the streams that were made."""
    log, pools, streams = [], Pools(), []

    def make_stream(device):
        streams.append(Side())
        return streams[-1]

    for name, value in {
        "Stream": make_stream,
        "stream": lambda stream: stream,
        "current_stream": lambda device: Side(),
        "synchronize": lambda device: log.append("wait"),
        "CUDAGraph": lambda: Graph(log, pools),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    cuda_graph._side_stream.cache_clear()
    yield lambda: cuda_graph.CudaBackend(torch.device("cuda")), log, pools, streams
    cuda_graph._side_stream.cache_clear()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("no"), Cancelled(), OlderCancelled()])
def test_a_recording_is_ended_whatever_happens_in_it(error, fails, cuda, monkeypatch):
    make, log, pools, _ = cuda
    backend = make()

    def function():
        monkeypatch.setattr(Graph, "capture_end", Graph.capture_end if not fails else broken_end)
        log.append("run")
        raise error

    def broken_end(graph):
        log.append("end")
        raise RuntimeError("the capture was invalidated")

    with pytest.raises(type(error)):
        backend.record(function)
    backend.close()
    assert log == ["wait", "begin", "run", "end", "reset"]
    assert gc.isenabled() and not any(pools.users.values())


def test_a_recording_that_cannot_be_ended_is_given_up(cuda, monkeypatch):
    make, log, pools, _ = cuda

    def broken_end(graph):
        log.append("end")
        raise RuntimeError("the capture was invalidated")

    monkeypatch.setattr(Graph, "capture_end", broken_end)
    backend = make()
    with pytest.raises(RuntimeError, match="invalidated"):
        backend.record(lambda: None)
    assert log[-1] == "reset" and not any(pools.users.values())


def test_the_windows_of_a_run_share_one_pool_and_a_closed_run_holds_none(cuda):
    make, log, pools, _ = cuda
    for run in range(2):
        backend = make()
        for _ in range(3):
            window = [backend.record(lambda: None) for _ in range(2)]
            for graph in window:
                backend.free(graph)
            assert pools.users[run] == 1
        backend.close()
        backend.close()
        assert set(pools.users.values()) == {0} and len(pools.users) == run + 1
    assert log.count("reset") == log.count("begin") == 12


def test_a_thousand_runs_take_one_stream(cuda):
    make, _, _, streams = cuda
    for _ in range(1000):
        make()
    assert len(streams) == 1
