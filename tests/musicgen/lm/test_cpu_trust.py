"""Compiled steps that must not be trusted, numbers that are too large, and processes that fork or end."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch import nn

from musicgen import GenerationParams, load_model
from musicgen.decoding.engine import CachedDecoder
from musicgen.lm import cpu_compiler, cpu_step
from musicgen.lm.cpu_linear import reads_int8
from musicgen.lm.cpu_team import Team
from tests.conftest import ROOT
from tests.musicgen.lm.test_cpu_step import CPU, NANO, TEXTS, WHERE_COMPILED, columns_of, conditions_of, greedy

pytestmark = WHERE_COMPILED


@pytest.fixture(autouse=True)
def as_delivered(monkeypatch):
    """A process in which nothing was compared yet, whatever the environment says."""
    for variable in ("MUSICGEN_COMPILED", "MUSICGEN_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(cpu_step, "_PROVEN", set())
    monkeypatch.setattr(cpu_compiler, "_MEMORY", {**cpu_compiler._MEMORY})
    before = torch.get_num_threads(), threading.active_count()
    yield
    assert (torch.get_num_threads(), threading.active_count()) == before


def wrong_number(step):
    """The step, off in one logit of the last row."""

    def run(thread, threads, plan):
        step(thread, threads, plan)
        if thread == 0:
            words = (cpu_step.ctypes.c_int64 * cpu_step.at.LAYER_TABLE).from_address(plan)
            cpu_step.ctypes.c_float.from_address(words[cpu_step.at.LOGITS]).value += 1.0

    return run


def failing(step):
    def run(thread, threads, plan):
        raise OSError("an illegal instruction")

    return run


@pytest.mark.parametrize("fault", [wrong_number, failing])
def test_where_the_first_step_is_wrong_the_ordinary_one_goes_on_in_the_same_run(fault, monkeypatch, caplog):
    m = load_model(NANO)
    ordinary = greedy(m, TEXTS[:2], 0.5, compiled=False)
    monkeypatch.setitem(cpu_compiler._MEMORY, "step", fault(cpu_compiler.compiled_step()))
    with caplog.at_level(logging.WARNING, logger="musicgen"):
        assert torch.equal(greedy(m, TEXTS[:2], 0.5, compiled=None), ordinary)
        assert torch.equal(greedy(m, TEXTS[:2], 0.5, compiled=None), ordinary)
    (line,) = (record.message for record in caplog.records if "compiled" in record.message)
    assert "MUSICGEN_COMPILED=0" in line
    assert ("off by 1," if fault is wrong_number else "ended early") in line
    assert cpu_compiler.why_not_compiled() is not None


def test_each_kind_of_numbers_is_compared_once_in_a_process(monkeypatch):
    m, compared = load_model(NANO), []
    real = cpu_step.CompiledStep.agrees
    monkeypatch.setattr(cpu_step.CompiledStep, "agrees", lambda *arguments: compared.append(1) or real(*arguments))
    for _ in range(2):
        greedy(m, TEXTS[:1], 0.2, compiled=True)
    assert len(compared) == 1
    monkeypatch.setenv("MUSICGEN_CACHE", "fp16")
    greedy(m, TEXTS[:1], 0.2, compiled=True)
    assert len(compared) == 2


def test_without_avx512_the_bits_are_the_same(monkeypatch):
    m = load_model(NANO)
    codes = columns_of(m, 3, 6)
    steps = [cpu_compiler.compiled_step(), cpu_compiler.build(without="avx512"), cpu_compiler.build(measured=True)]
    found = []
    for step in steps[:2]:
        monkeypatch.setitem(cpu_compiler._MEMORY, "step", step)
        with torch.no_grad(), Team(2) as team:
            decoder = CachedDecoder(m.lm, conditions_of(m, TEXTS[:3]), 3, 6, CPU, team)
            found.append(torch.stack([decoder.next_logits(codes, place) for place in range(1, 7)]))
    assert torch.equal(*found)


def caches_of(m, place, monkeypatch, value):
    """The caches and logits after some steps over a layer whose keys are so large."""
    monkeypatch.setenv("MUSICGEN_CACHE", "fp16")
    layer = m.lm.transformer.layers[1]
    weight = layer.self_attn.qkv.weight.float()
    weight[m.config.lm.dim : 2 * m.config.lm.dim] *= value
    layer.self_attn.qkv.weight = nn.Parameter(weight, requires_grad=False)
    codes = columns_of(m, 1, place)
    with torch.no_grad(), Team(2) as team:
        decoder = CachedDecoder(m.lm, conditions_of(m, TEXTS[:1]), 1, place, CPU, team)
        logits = [decoder.next_logits(codes, step) for step in range(1, place + 1)]
        ordinary = CachedDecoder(m.lm, conditions_of(m, TEXTS[:1]), 1, place, CPU)
        expected = [ordinary.next_logits(codes, step) for step in range(1, place + 1)]
    return [cache.keys.dtype for cache in decoder.caches], torch.stack(logits), torch.stack(expected)


def test_a_cache_in_float16_holds_what_it_can_and_widens_for_what_it_cannot(monkeypatch):
    kinds, logits, expected = caches_of(load_model(NANO), 5, monkeypatch, 1.0)
    assert set(kinds) == {torch.float16}
    assert float((logits - expected).abs().max()) < 0.02
    kinds, logits, expected = caches_of(load_model(NANO), 5, monkeypatch, 1e6)
    assert kinds[1] == torch.float32 and set(kinds[:1] + kinds[2:]) == {torch.float16}
    assert torch.isfinite(logits).all() and float((logits - expected).abs().max()) < 0.1


@pytest.mark.skipif(not reads_int8(), reason="the loader makes int8 models where the processor has an int8 product")
def test_int8_keeps_its_cache_in_float16_and_the_others_in_float32(monkeypatch):
    assert cpu_step.cache_dtype(load_model(NANO, dtype=torch.int8).lm) == torch.float16
    m = load_model(NANO)
    assert cpu_step.cache_dtype(m.lm) == torch.float32
    monkeypatch.setenv("MUSICGEN_CACHE", "fp8")
    with pytest.raises(ValueError, match="MUSICGEN_CACHE is 'fp8'; allowed are fp16, fp32"):
        greedy(m, TEXTS[:1], 0.2, compiled=None)


def test_cancel_ends_a_piece_within_50_ms():
    m, asked = load_model(NANO), threading.Event()
    told: list[float] = []

    def cancel(progress):
        if progress.step >= 20:
            told.append(time.perf_counter())
            raise KeyError("cancelled")

    m.generate(TEXTS[:1], GenerationParams(0.2))
    took = []
    for _ in range(3):
        with pytest.raises(KeyError):
            m.generate(TEXTS[:1], GenerationParams(2.0), on_step=cancel)
        took.append(time.perf_counter() - told[-1])
    assert min(took) < 0.05 and not asked.is_set()


FORK = f"""
import os, sys, threading
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
import torch
from musicgen import GenerationParams, load_model
torch.set_num_threads(2)
m = load_model(Path({str(NANO)!r}))
first = m.generate(["rock"], GenerationParams(0.4, seed=1))
assert threading.active_count() == 1, threading.enumerate()
torch.set_num_threads(1)  # its own threads do not survive a fork
child = os.fork()
if child == 0:
    again = m.generate(["rock"], GenerationParams(0.4, seed=1))
    os._exit(0 if torch.equal(first, again) else 3)
assert os.waitpid(child, 0)[1] == 0
def end(progress):
    if progress.step == 9:
        raise SystemExit(7)  # the interpreter ends from within a piece
m.generate(["rock"], GenerationParams(2.0), on_step=end)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_goes_on_and_the_interpreter_ends_from_within_a_piece():
    made = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=240, check=False)
    assert made.returncode == 7, made.stderr
