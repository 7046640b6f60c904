"""Where memory runs out, one sentence says for what, how much is free, and what would help."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from musicgen.free_memory import ShortageError, free_memory, require_memory, shortage, told_shortage
from tests.conftest import ROOT

REMEDY = "close other programs, choose int8 or a smaller model, or make a shorter piece"


def panic():
    """An exception like the one of the tokenizers package, which is no Exception."""
    kind = type("PanicException", (BaseException,), {})
    raise kind('The global thread pool has not been initialized: "Resource temporarily unavailable"')


def lack():
    raise MemoryError


@pytest.mark.parametrize(
    ("work", "sizes"),
    [
        (lambda: torch.empty(1 << 50, dtype=torch.uint8), r": 1\.13e\+06 GB were needed at once and .* are free"),
        (lack, ": .* were free"),
        (panic, ": .* were free"),
        (
            lambda: require_memory(1 << 50, "numbers were packed"),
            r": 1\.13e\+06 GB were needed at once and .* are free",
        ),
    ],
)
def test_a_lack_of_memory_is_one_sentence_whoever_has_it(work, sizes):
    with pytest.raises(ShortageError, match=rf"^memory ran out while [a-z ]+{sizes}; {REMEDY}\.$"), told_shortage("x"):
        work()


@pytest.mark.parametrize(
    "error", [ValueError("no"), RuntimeError("shapes differ"), KeyboardInterrupt(), OSError(28, "full")]
)
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(type(error)) as caught, told_shortage("x"):
        raise error
    assert caught.value is error


def test_the_gpu_s_own_error_is_left_to_the_host():
    error = torch.OutOfMemoryError("CUDA out of memory. DefaultCPUAllocator")
    with pytest.raises(torch.OutOfMemoryError) as caught, told_shortage("x"):
        raise error
    assert caught.value is error


def test_the_inner_of_two_works_is_told():
    with pytest.raises(ShortageError, match="while weights were packed"), told_shortage("music was sampled"):
        raise shortage("weights were packed", 5_000_000)


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of a process are those of Linux")
def test_free_memory_is_within_the_limits_of_the_process():
    code = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from musicgen.free_memory import free_memory
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 50_000_000,) * 2)
print(free_memory())
"""
    free = int(subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, check=True).stdout)
    assert 10_000_000 < free <= 50_000_000 and (free_memory() or 0) > free
