"""Quick products on a CPU: what they may differ by, which weights get which, and that rows stay apart.

The products for float16 and int8 weights are x86's; where a processor lacks them, what is tested is
that the usual product takes their place.
"""

from __future__ import annotations

import copy
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from musicgen import GenerationParams, MusicGen, load_model
from musicgen.checkpoints import loading
from musicgen.checkpoints.loading import load_components
from musicgen.conditioning.fuser import fuse
from musicgen.decoding.engine import CachedDecoder
from musicgen.generation.patterns import named_pattern
from musicgen.lm.cpu_linear import (
    few_rows_product,
    int8_product,
    pack_float16,
    pack_int8,
    quick_operations,
    reads_float16,
    reads_int8,
)
from musicgen.lm.rows import Conditions
from tests.conftest import ROOT

NANO = ROOT / "models" / "musicgen-nano"
DTYPES = {"fp32": torch.float32, "auto": None, "int8": torch.int8}
TEXTS = ["a lively piece with drums and bass", "slow strings, no percussion"]
WHERE_FLOAT16 = pytest.mark.skipif(not reads_float16(), reason="this processor has no float16 product")
WHERE_INT8 = pytest.mark.skipif(not reads_int8(), reason="this processor has no int8 product")


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(weight: torch.Tensor, *, int8: bool = False) -> nn.Module:
    layer = quick_operations(nn, int8=int8).Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


@pytest.mark.parametrize("rows", [1, 2, 3, 6, 8, 32])
def test_the_product_by_parts_is_the_usual_one(rows):
    x, weight = numbers(rows, 1024), numbers(2048, 1024, seed=1)
    assert linear(weight)(x[:, None]).shape == (rows, 1, 2048)
    torch.testing.assert_close(few_rows_product(x, weight), F.linear(x, weight), atol=2e-4, rtol=1e-5)
    assert torch.equal(linear(weight)(x[:, None])[:, 0], few_rows_product(x, weight))


@WHERE_FLOAT16
@pytest.mark.parametrize("shape", [(2, 1, 192), (1, 1, 192), (2, 600, 192), (7, 3, 192)])
def test_float16_weights_are_multiplied_as_if_they_were_float32(shape):
    x, weight = numbers(*shape), numbers(576, 192, seed=1).half()
    torch.testing.assert_close(linear(weight)(x), F.linear(x, weight.float()), atol=1e-4, rtol=1e-5)


@WHERE_INT8
def test_int8_weights_are_off_by_a_fiftieth_at_most():
    x, weight = numbers(2, 1, 1024), numbers(4096, 1024, seed=1)
    exact, rounded = F.linear(x, weight), linear(weight, int8=True)(x)
    assert 0 < float((exact - rounded).norm() / exact.norm()) < 0.02


@WHERE_INT8
def test_an_int8_row_is_the_same_whatever_stands_beside_it():
    rows, packed = numbers(6, 64), pack_int8(numbers(48, 64, seed=1))
    rows[1], rows[2], rows[3] = 1000 * rows[1], 0.0, rows[3].abs()
    together = int8_product(rows, packed)
    assert torch.equal(together, torch.cat([int8_product(row[None], packed) for row in rows]))
    assert torch.equal(together[2], torch.zeros(48)) and bool(torch.isfinite(together).all())


@WHERE_INT8
def test_int8_of_a_row_of_one_sign_is_no_worse():
    x, weight = numbers(1, 1024).abs() + 1, numbers(512, 1024, seed=1)
    exact, rounded = F.linear(x, weight), linear(weight, int8=True)(x[:, None])[:, 0]
    assert float((exact - rounded).norm() / exact.norm()) < 0.03


@WHERE_FLOAT16
@pytest.mark.parametrize("int8", [False, True])
def test_an_exchanged_weight_is_seen_and_the_first_one_again(int8):
    x, first, second = numbers(2, 1, 64), numbers(48, 64, seed=1).half(), numbers(48, 64, seed=2).half()
    layer = linear(first, int8=int8)
    before = layer(x)
    layer.weight = nn.Parameter(second, requires_grad=False)
    assert torch.equal(layer(x), linear(second, int8=int8)(x)) and not torch.allclose(layer(x), before)
    layer.weight = nn.Parameter(first, requires_grad=False)
    assert torch.equal(layer(x), before)
    assert torch.equal(copy.deepcopy(layer)(x), before)


def test_a_weight_that_a_host_is_about_to_change_is_left_to_the_host():
    layer = linear(numbers(48, 64, seed=1))
    layer.weight_function = [lambda weight: weight * 2]
    layer._packed = "never to be read"
    assert torch.equal(layer(numbers(2, 1, 64)), F.linear(numbers(2, 1, 64), layer.weight))


@pytest.fixture(scope="module")
def nano() -> dict[str, MusicGen]:
    return {name: load_model(NANO, dtype=dtype) for name, dtype in DTYPES.items()}


@WHERE_FLOAT16
def test_only_matrices_are_kept_in_float16_and_nothing_of_them_is_lost(nano):
    plain = nano["fp32"].lm.state_dict()
    for name, weight in nano["auto"].lm.state_dict().items():
        is_matrix = name.startswith(("transformer", "head")) and weight.dim() == 2
        assert weight.dtype == (torch.float16 if is_matrix else torch.float32), name
        assert torch.equal(weight.float(), plain[name])
    assert {p.dtype for p in nano["fp32"].lm.parameters()} == {torch.float32}
    assert nano["auto"].lm.dtype == torch.float32


@WHERE_FLOAT16
def test_a_matrix_that_float16_cannot_hold_stays_in_float32(checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    stored = {name: weight.half().float() for name, weight in load_file(folder / "model.safetensors").items()}
    (odd,) = (name for name in stored if name.endswith("layers.1.fc1.weight"))
    stored[odd][0, 0] += 1e-7
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    kept = load_model(folder).lm.state_dict()
    assert kept.pop("transformer.layers.1.ffn_in.weight").dtype == torch.float32
    assert {w.dtype for n, w in kept.items() if n.startswith("transformer") and w.dim() == 2} == {torch.float16}


def greedy(model: MusicGen, seconds: float, **options) -> torch.Tensor:
    return model.generate(TEXTS, GenerationParams(seconds, cfg_coef=2.0, use_sampling=False, **options))


def logits_along(model: MusicGen, codes: torch.Tensor) -> torch.Tensor:
    """Guided logits of each step along given codes."""
    sequence = named_pattern(None, codes.shape[2], model.config.delays).build_sequence(
        codes, model.config.lm.special_token_id
    )
    with torch.no_grad():
        conditions = fuse(model.lm, [model.text_encoder.encode(TEXTS), None], 2, model.device, led=[False] * 2)
        decoder = CachedDecoder(model.lm, conditions, 2, sequence.shape[2], model.device)
        steps = [decoder.next_logits(sequence, step) for step in range(1, sequence.shape[2])]
    return torch.stack([null + 2 * (led - null) for led, null in steps])


def test_over_500_steps_float16_weights_give_the_codes_of_float32(nano):
    codes = greedy(nano["fp32"], 10.0)
    assert codes.shape[2] == 500
    assert torch.equal(greedy(nano["auto"], 10.0), codes)
    exact, kept = logits_along(nano["fp32"], codes), logits_along(nano["auto"], codes)
    torch.testing.assert_close(kept, exact, atol=2e-4, rtol=0)


@WHERE_INT8
def test_over_500_steps_int8_takes_the_same_code_in_96_of_100(nano):
    codes = greedy(nano["fp32"], 10.0)
    exact, rounded = logits_along(nano["fp32"], codes), logits_along(nano["int8"], codes)
    assert not torch.equal(exact, rounded)
    assert float((exact.argmax(-1) == rounded.argmax(-1)).float().mean()) > 0.96
    assert float((exact - rounded).std() / exact.std()) < 0.08


@pytest.mark.parametrize("name", DTYPES)
def test_in_every_format_an_item_is_what_it_is_alone(name, nano):
    params = GenerationParams(1.0, cfg_coef=2.0, seed=5)
    both = nano[name].generate([TEXTS[0], ""], params)
    assert torch.equal(both[:1], nano[name].generate(TEXTS[:1], params))
    alone = GenerationParams(1.0, cfg_coef=2.0, seed=6)
    assert torch.equal(both[1:], nano[name].generate([""], alone))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", DTYPES)
def test_codes_do_not_depend_on_the_number_of_threads(name, nano, threads):
    params = GenerationParams(1.0, cfg_coef=2.0, seed=5)
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(nano[name].generate(TEXTS, params))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_rows_without_a_condition_get_what_zeros_would_give_them(nano):
    lm, device = nano["fp32"].lm, torch.device("cpu")
    text = nano["fp32"].text_encoder.encode(TEXTS)
    with torch.no_grad():
        short = fuse(lm, [text, None], 2, device, led=[False] * 2)
        assert short.cross is not None and len(short.cross) == 2
        rows = torch.cat([short.cross, torch.zeros_like(short.cross)])
        whole = Conditions(2, cross=rows, cross_mask=torch.cat([short.cross_mask, short.cross_mask]))
        sequence = torch.randint(0, 100, (2, 4, 9), generator=torch.Generator().manual_seed(0))
        found = [CachedDecoder(lm, each, 2, 9, device).next_logits(sequence, 9) for each in (short, whole)]
        assert fuse(lm, [None], 2, device, led=[False]).cross is None
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)


def test_int8_on_another_device_is_refused():
    with pytest.raises(ValueError, match="int8 on cuda; allowed is int8 on a CPU"):
        load_components(NANO, dtype=torch.int8, device="cuda")


def test_a_processor_without_these_products_gets_float32_and_is_told_of_int8(monkeypatch, caplog, nano):
    # What another processor would answer.
    monkeypatch.setattr(loading, "reads_float16", lambda: False)
    monkeypatch.setattr(loading, "reads_int8", lambda: False)
    with caplog.at_level(logging.WARNING, logger="musicgen"):
        assert {p.dtype for p in load_model(NANO).lm.parameters()} == {torch.float32}
        assert not caplog.records
        fallback = load_model(NANO, dtype=torch.int8)
    assert "no quick int8 product" in caplog.text
    assert torch.equal(greedy(fallback, 0.5), greedy(nano["fp32"], 0.5))


LIMITED = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from musicgen.lm import cpu_linear
pack = getattr(cpu_linear, sys.argv[2])
weight = torch.randn(8192, 2048)
pack(weight[:64, :64])
for spare in range(0, 200, 8):
    child = os.fork()
    if not child:
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + spare * 1_000_000,) * 2)
        try:
            pack(weight)
        except (RuntimeError, MemoryError):
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set on Linux")
@pytest.mark.parametrize(
    "pack", [pytest.param("pack_float16", marks=WHERE_FLOAT16), pytest.param("pack_int8", marks=WHERE_INT8)]
)
def test_memory_that_runs_out_while_packing_raises_and_does_not_end_the_process(pack):
    command = [sys.executable, "-c", LIMITED, str(ROOT), pack]
    codes = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout.split()
    assert len(codes) == 25 and set(codes) == {"0", "1"}


@WHERE_FLOAT16
def test_the_memory_that_packing_takes_is_named(monkeypatch):
    def refuse(*arguments, **named):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(MemoryError, match=r"4\.19 MB were needed at once and .* are free; close other"):
        pack_float16(torch.zeros(2048, 1000))
