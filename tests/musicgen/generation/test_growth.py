"""A server runs for weeks: a thousand generations in one process leave nothing behind."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import pytest
import torch

from musicgen import GenerationParams

WARM_UP, GENERATIONS = 100, 1000
WORDS = ("a calm piano melody", None, "rock")


class Cancelled(Exception):
    """What a user's Cancel raises in the middle of a piece."""


def cancel(progress):
    if progress.step == 2:
        raise Cancelled


def generate(model, number):
    """Requests of several kinds, short ones: a batch, a continued piece, one that is cancelled, greedy ones."""
    words = [WORDS[number % 3]] * (1 + (number % 7 == 0))
    params = GenerationParams(0.06, seed=number, top_k=20, use_sampling=number % 5 > 0)
    if number % 10 == 3:
        with pytest.raises(Cancelled):
            model.generate(words, params, on_step=cancel)
        return
    codes = model.generate(words, params, on_step=lambda progress: progress.codes())
    if number % 10 == 6:
        codes = model.generate(words, GenerationParams(0.1, seed=number), prompt=codes)
    model.decode(codes)


def count():
    """Tensors and all objects that Python knows of, and bytes of resident memory where the system tells."""
    gc.collect()
    objects = gc.get_objects()
    tensors = sum(issubclass(type(item), torch.Tensor) for item in objects)
    return tensors, len(objects), resident()


def resident():
    if sys.platform != "linux":
        return 0
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024


def test_a_thousand_generations_leave_no_tensor_no_object_and_no_memory_behind(model):
    tiny = model("hf-text")
    for number in range(WARM_UP):
        generate(tiny, number)
    before = count()
    for number in range(GENERATIONS):
        generate(tiny, number)
    tensors, objects, memory = (after - earlier for after, earlier in zip(count(), before, strict=True))
    assert tensors == 0
    assert objects < GENERATIONS // 10
    assert memory < GENERATIONS * 2048, f"{memory / GENERATIONS:.0f} bytes for each generation"
