"""The properties of a CUDA device that only one can show: recorded steps, memory given back, its own arithmetic.

Where torch finds none these are skipped; `test_device_placement.py` beside it then shows that nothing mixes devices.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import cache

import pytest
import torch

from musicgen import GenerationParams, MusicGen, load_model
from musicgen.generation.generate import StepProgress, generate
from musicgen.generation.request import Request
from tests.conftest import ROOT

pytestmark = pytest.mark.cuda

NANO = ROOT / "models" / "musicgen-nano"
TEXTS = ["funk with drums and bass", "a slow waltz", "techno"]


@cache
def nano(device: str, dtype: torch.dtype) -> MusicGen:
    return load_model(NANO, device=device, dtype=dtype)


def request_of(m: MusicGen, texts: list[str], seed: int = 3, **numbers) -> Request:
    condition = m.text_encoder.encode(texts)
    params = GenerationParams(2.0, seed=seed, **numbers)
    return Request(positive=[condition], params=params, batch_size=len(texts))


def sample(m: MusicGen, texts: list[str], *, graphs: bool | None = None, **numbers) -> torch.Tensor:
    return generate(m.lm, m.config, request_of(m, texts, **numbers), device=m.device, use_cuda_graphs=graphs)


@pytest.mark.parametrize("numbers", [{}, {"top_p": 0.9}, {"use_sampling": False}, {"window": 1.0}], ids=str)
def test_codes_in_float32_are_the_cpu_s_recorded_and_not(numbers):
    expected = sample(nano("cpu", torch.float32), TEXTS, **numbers)
    for graphs in (True, False):
        assert torch.equal(sample(nano("cuda", torch.float32), TEXTS, graphs=graphs, **numbers), expected)


def test_recorded_steps_are_the_unrecorded_ones_in_bfloat16():
    m = nano("cuda", torch.bfloat16)
    assert torch.equal(sample(m, TEXTS, graphs=True), sample(m, TEXTS, graphs=False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_row_of_a_batch_is_the_item_alone(dtype):
    m = nano("cuda", dtype)
    assert torch.equal(sample(m, TEXTS)[1], sample(m, TEXTS[1:2], seed=4)[0])


@pytest.mark.parametrize("at", [1, 2, 3, 40])
def test_a_cancelled_piece_leaves_nothing_behind(at):
    m = nano("cuda", torch.float32)
    expected = sample(m, TEXTS[:1])
    before = _allocated()

    def on_step(progress: StepProgress) -> None:
        if progress.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(m.lm, m.config, request_of(m, TEXTS[:1]), device=m.device, on_step=on_step)
    assert _allocated() == before
    assert torch.equal(sample(m, TEXTS[:1]), expected)


def test_the_codec_computes_in_whole_float32_and_leaves_the_switches_alone():
    m, reference = nano("cuda", torch.float32), nano("cpu", torch.float32)
    codes = torch.randint(0, m.config.card, (1, m.num_codebooks, 100), generator=torch.Generator().manual_seed(1))
    switch = torch.backends.cudnn.allow_tf32
    sound, expected = m.decode(codes), reference.decode(codes)
    assert float((sound - expected).abs().max()) < 1e-5
    assert torch.equal(m.encode(expected, m.sample_rate), reference.encode(expected, m.sample_rate))
    assert torch.backends.cudnn.allow_tf32 == switch


def test_a_texts_condition_may_come_from_the_cpu():
    """A host may encode texts elsewhere than it samples."""
    m, elsewhere = nano("cuda", torch.float32), nano("cpu", torch.float32)
    request = request_of(m, TEXTS)
    assert torch.equal(
        generate(m.lm, m.config, replace(request, positive=request_of(elsewhere, TEXTS).positive), device=m.device),
        generate(m.lm, m.config, request, device=m.device),
    )


def _allocated() -> int:
    gc.collect()
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()
