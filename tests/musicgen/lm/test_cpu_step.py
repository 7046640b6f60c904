"""Compiled steps against the ordinary one: logits, codes, bits, threads, and what happens where they cannot be had."""

from __future__ import annotations

import builtins
import logging
import threading
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from musicgen import GenerationParams, load_model
from musicgen.conditioning.fuser import fuse
from musicgen.conditioning.melody import MelodyLead, extract_melody
from musicgen.decoding.engine import CachedDecoder, FullDecoder
from musicgen.generation import generate as generation
from musicgen.generation.request import Request
from musicgen.lm import cpu_compiler
from musicgen.lm.cpu_linear import quick_operations, reads_float16, reads_int8, round_rows
from musicgen.lm.cpu_step import CompiledStep, why_ordinary
from musicgen.lm.cpu_team import Team
from musicgen.lm.language_model import LMModel
from tests.conftest import ROOT, golden_model

CPU = torch.device("cpu")
NANO = ROOT / "models" / "musicgen-nano"
NANO_MELODY = ROOT / "models" / "musicgen-nano-melody"
DTYPES = {"fp32": torch.float32, "auto": None, "int8": torch.int8}
TEXTS = ["a lively piece with drums and bass", "rock", None, "slow strings, no percussion"]
WHERE_COMPILED = pytest.mark.skipif(
    cpu_compiler.why_not_compiled() is not None, reason=f"no compiled steps: {cpu_compiler.why_not_compiled()}"
)


@pytest.fixture(autouse=True)
def as_delivered(monkeypatch):
    """Whatever the environment says."""
    for variable in ("MUSICGEN_COMPILED", "MUSICGEN_CACHE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads(), threading.active_count()
    yield
    assert (torch.get_num_threads(), threading.active_count()) == before


def conditions_of(m, texts):
    leads = []
    if m.config.chroma is not None:
        tone = torch.sin(torch.arange(64000) * torch.linspace(0.05, 0.2, 64000))
        leads = [MelodyLead(m.config.chroma, extract_melody(tone[None], 32000))] * len(texts)
    groups = [m.text_encoder.encode(texts), None]
    return fuse(m.lm, groups, len(texts), CPU, led=[True, False], leads=leads)


def columns_of(m, batch, count, seed=0):
    return torch.randint(
        0, m.config.card, (batch, m.num_codebooks, count), generator=torch.Generator().manual_seed(seed)
    )


def logits_along(m, texts, sequence, *, team=None, portions=None):
    with torch.no_grad():
        conditions = conditions_of(m, texts)
        decoder = CachedDecoder(m.lm, conditions, len(texts), sequence.shape[2], CPU, team)
        return torch.stack([decoder.next_logits(sequence, s) for s in portions or range(1, sequence.shape[2] + 1)])


@WHERE_COMPILED
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("name", ["hf-text", "hf-stereo", "hf-melody"])
def test_a_compiled_step_gives_the_logits_of_the_ordinary_one(name, count, model):
    m, texts = model(name), TEXTS[:count]
    sequence = columns_of(m, count, 24)
    with Team(2) as team:
        compiled = logits_along(m, texts, sequence, team=team)
    torch.testing.assert_close(compiled, logits_along(m, texts, sequence), atol=3e-5, rtol=0)


@WHERE_COMPILED
@pytest.mark.parametrize("name", ["hf-text", "hf-melody"])
@pytest.mark.parametrize("portions", [(1, 2, 3), (4, 7, 12), (1, 12), (6, 7, 11, 12)], ids=str)
def test_columns_in_portions_give_the_logits_of_the_decoder_without_a_cache(name, portions, model):
    m, texts = model(name), TEXTS[:2]
    sequence = columns_of(m, 2, 12)
    with Team(2) as team:
        compiled = logits_along(m, texts, sequence, team=team, portions=portions)
    with torch.no_grad():
        full = FullDecoder(m.lm, conditions_of(m, texts), CPU)
        for made, step in zip(compiled, portions, strict=True):
            torch.testing.assert_close(made, full.next_logits(sequence, step), atol=3e-5, rtol=0)


@WHERE_COMPILED
@pytest.mark.parametrize("name", ["hf-text", "hf-stereo", "hf-melody"])
def test_an_item_of_a_batch_has_the_logits_that_it_has_alone(name, model):
    m = model(name)
    sequence = columns_of(m, 4, 16)
    with Team(2) as team:
        together = logits_along(m, TEXTS, sequence, team=team)
        for item, text in enumerate(TEXTS):
            alone = logits_along(m, [text], sequence[item : item + 1], team=team)
            # Conditions are projected in products whose bits are torch's to choose.
            torch.testing.assert_close(alone[:, :, 0], together[:, :, item], atol=2e-5, rtol=0)


@WHERE_COMPILED
@pytest.mark.parametrize("name", DTYPES)
def test_logits_have_the_same_bits_with_any_number_of_threads_and_of_rows(name):
    m = load_model(NANO, dtype=DTYPES[name])
    sequence = columns_of(m, 7, 5)
    texts = [TEXTS[0]] * 7
    found = []
    for count in (1, 2, 3, 5):
        with Team(count) as team:
            found.append(logits_along(m, texts, sequence, team=team))
    assert all(torch.equal(found[0], other) for other in found[1:])
    with Team(2) as team:
        for count in (1, 2, 3):
            few = logits_along(m, texts[:count], sequence[:count], team=team)
            assert torch.equal(few, found[0][:, :, :count])


def random_model(**changes) -> LMModel:
    config = golden_model("hf-text").lm.config
    config = type(config)(**{**{f: getattr(config, f) for f in config.__dataclass_fields__}, **changes})
    lm = LMModel(config, quick_operations(nn), dtype=torch.float32).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for weight in lm.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5)
    return lm


@WHERE_COMPILED
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, "mixed"])
@pytest.mark.parametrize("shape", [(48, 1, 50), (60, 4, 100), (128, 2, 512), (96, 6, 384)], ids=str)
def test_any_size_and_kind_of_weights(kind, shape):
    dim, heads, ffn = shape
    lm = random_model(dim=dim, num_heads=heads, ffn_dim=ffn, num_layers=2)
    wide = random_model(dim=dim, num_heads=heads, ffn_dim=ffn, num_layers=2)
    for index, (module, other) in enumerate(zip(lm.modules(), wide.modules(), strict=True)):
        if isinstance(module, nn.Linear) and module.bias is None:
            chosen = (torch.float16, torch.float32, torch.bfloat16)[index % 3] if kind == "mixed" else kind
            module.weight = nn.Parameter(module.weight.to(chosen), requires_grad=False)
            other.weight = nn.Parameter(module.weight.float(), requires_grad=False)
    assert why_ordinary(lm, CPU) is None
    conditions = fuse(lm, [None], 2, CPU, led=[False])
    sequence = torch.randint(0, lm.config.card, (2, 4, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), Team(2) as team:
        compiled = CachedDecoder(lm, conditions, 2, 9, CPU, team)
        ordinary = CachedDecoder(wide, conditions, 2, 9, CPU)
        for step in range(1, 10):
            torch.testing.assert_close(
                compiled.next_logits(sequence, step), ordinary.next_logits(sequence, step), atol=3e-5, rtol=0
            )


def greedy(m, texts, seconds, *, compiled, **changes):
    params = GenerationParams(seconds, **{"cfg_coef": 2.0, "use_sampling": False, **changes})
    request = Request(params=params, positive=[m.text_encoder.encode(texts)], batch_size=len(texts))
    return generation.generate(m.lm, m.config, request, use_compiled_steps=compiled)


@WHERE_COMPILED
@pytest.mark.parametrize("folder", [NANO, NANO_MELODY], ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["fp32", "auto"])
def test_over_500_steps_the_codes_are_those_of_float32(folder, name):
    exact, texts = load_model(folder, dtype=torch.float32), [TEXTS[0], TEXTS[3]]
    codes = greedy(exact, texts, 10.0, compiled=False)
    assert codes.shape[2] == 500
    assert torch.equal(greedy(load_model(folder, dtype=DTYPES[name]), texts, 10.0, compiled=True), codes)


@WHERE_COMPILED
@pytest.mark.skipif(not reads_int8(), reason="the loader makes int8 models where the processor has an int8 product")
def test_int8_rounds_the_weights_alone():
    exact, rounded = load_model(NANO, dtype=torch.float32), load_model(NANO, dtype=torch.int8)
    sequence = columns_of(exact, 1, 30)
    with Team(2) as team:
        compiled = logits_along(rounded, TEXTS[:1], sequence, team=team)
    for module in rounded.lm.modules():
        if isinstance(module, nn.Linear) and module.bias is None:
            numbers, scales = round_rows(module.weight)
            module.weight = nn.Parameter(numbers.float() * scales[:, None], requires_grad=False)
            module._rounds = False
            module.__class__ = nn.Linear
    torch.testing.assert_close(compiled[1:], logits_along(rounded, TEXTS[:1], sequence)[1:], atol=2e-2, rtol=0)
    first = logits_along(exact, TEXTS[:1], sequence)
    assert float((compiled - first).std() / first.std()) < 0.05


@WHERE_COMPILED
@pytest.mark.parametrize("changes", [{"top_k": 50}, {"top_p": 0.9}, {"cfg_coef": 1.0}, {"pattern": "flatten"}])
def test_a_drawn_piece_is_the_same_with_and_without(changes):
    m = load_model(NANO)
    drawn = {"use_sampling": True, "seed": 4, **changes}
    made = [greedy(m, [TEXTS[0], None], 1.0, compiled=compiled, **drawn) for compiled in (True, False)]
    assert torch.equal(*made)


@WHERE_COMPILED
@pytest.mark.skipif(not reads_float16(), reason="this processor has no float16 product")
def test_no_weight_is_packed():
    m = load_model(NANO)
    prompt = greedy(m, TEXTS[:2], 1.0, compiled=True)
    m.generate(TEXTS[:2], GenerationParams(2.0), prompt=prompt)
    assert not [name for name, module in m.lm.named_modules() if getattr(module, "_packed", None) is not None]


@WHERE_COMPILED
def test_an_error_leaves_torch_and_the_threads_as_they_were(monkeypatch):
    m = load_model(NANO)
    monkeypatch.setenv("MUSICGEN_THREADS", "3")

    def cancel(progress):
        if progress.step == 5:
            assert torch.get_num_threads() == 1
            raise KeyError("cancelled")

    with pytest.raises(KeyError, match="cancelled"):
        m.generate(TEXTS[:1], GenerationParams(1.0), on_step=cancel)


@WHERE_COMPILED
def test_two_pieces_at_once_do_not_disturb_each_other():
    m = load_model(NANO)
    alone, found = greedy(m, TEXTS[:1], 1.0, compiled=True), []
    both = [threading.Thread(target=lambda: found.append(greedy(m, TEXTS[:1], 1.0, compiled=True))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(found) == 2 and all(torch.equal(each, alone) for each in found)
    torch.set_num_threads(1)  # each put back what it found, and the second may have found the first's


@WHERE_COMPILED
def test_a_code_out_of_range_and_a_full_cache_are_refused():
    m = load_model(NANO)
    with torch.no_grad(), Team(1) as team:
        decoder = CachedDecoder(m.lm, conditions_of(m, TEXTS[:1]), 1, 2, CPU, team)
        for wrong in (-1, m.config.card + 1):
            with pytest.raises(IndexError, match="0 to 256 are allowed"):
                decoder.next_logits(torch.full((1, 4, 1), wrong), 1)
        with pytest.raises(ValueError, match="2 positions was asked to hold 3"):
            decoder.next_logits(columns_of(m, 1, 3), 3)


@WHERE_COMPILED
def test_logits_that_are_not_finite_are_told(checkpoint_copy):
    for change in ("nan", "inf"):
        m = load_model(checkpoint_copy("hf-text") if change == "nan" else ROOT / "models" / "musicgen-nano")
        m.lm.transformer.layers[0].norm_ffn.bias[0] = float(change)
        with pytest.raises(ValueError, match="NaN or infinite"):
            m.generate(["rock"], GenerationParams(0.4))


@WHERE_COMPILED
def test_weights_that_only_a_host_can_read_are_left_to_it():
    m = load_model(NANO, dtype=torch.float32)
    assert why_ordinary(m.lm, CPU) is None
    assert "only a CPU" in why_ordinary(m.lm, torch.device("cuda"))
    m.lm.head.weight_function = [lambda weight: weight * 2]
    assert "a host changes head" in why_ordinary(m.lm, CPU)
    with pytest.raises(ValueError, match="use_compiled_steps is True, but a host changes head"):
        greedy(m, TEXTS[:1], 0.2, compiled=True)
    changed = greedy(m, TEXTS[:1], 0.5, compiled=None)
    m.lm.head.weight_function = []
    m.lm.head.weight = nn.Parameter(m.lm.head.weight * 2, requires_grad=False)
    assert torch.equal(greedy(m, TEXTS[:1], 0.5, compiled=True), changed)


def test_without_llvmlite_the_ordinary_step_runs_and_the_log_says_what_would_help(monkeypatch, caplog):
    m = load_model(NANO)
    ordinary = greedy(m, TEXTS[:1], 0.5, compiled=False)
    real_import = builtins.__import__

    def blocked(name, *rest):
        if name.partition(".")[0] == "llvmlite":
            raise ImportError("No module named 'llvmlite'")
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", blocked)
    monkeypatch.setattr(cpu_compiler, "_MEMORY", {})
    with caplog.at_level(logging.INFO, logger="musicgen"):
        assert torch.equal(greedy(m, TEXTS[:1], 0.5, compiled=None), ordinary)
        greedy(m, TEXTS[:1], 0.2, compiled=None)
    (line,) = (record.message for record in caplog.records if "compiled" in record.message)
    assert "pip install llvmlite" in line


def test_a_variable_turns_compiled_steps_off(monkeypatch):
    monkeypatch.setenv("MUSICGEN_COMPILED", "0")
    assert cpu_compiler.why_not_compiled() == "MUSICGEN_COMPILED is 0"


@WHERE_COMPILED
@pytest.mark.parametrize("lacking", ["f16c", "a processor of another kind", "a compiler that fails"])
def test_where_it_cannot_be_compiled_the_reason_is_given(lacking, monkeypatch, caplog):
    import llvmlite.binding as llvm

    monkeypatch.setattr(cpu_compiler, "_MEMORY", {})
    if lacking == "f16c":
        monkeypatch.setattr(cpu_compiler.platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: {"avx2": True, "fma": True})
    elif lacking == "a compiler that fails":
        monkeypatch.setattr(llvm, "parse_assembly", lambda text: 1 / 0)
    else:
        monkeypatch.setattr(cpu_compiler.platform, "machine", lambda: "riscv64")
    reason = cpu_compiler.why_not_compiled()
    assert {"f16c": "lacks f16c", "a compiler that fails": "ZeroDivisionError"}.get(lacking, "riscv64") in reason


@WHERE_COMPILED
def test_the_functions_that_the_step_computes_itself_are_right():
    """GELU and softmax over their whole range, through a model that is built to show them."""
    x = torch.linspace(-9, 9, 512)
    lm = random_model(dim=16, num_heads=1, ffn_dim=512, num_layers=1, cross_attention=False, text_projection=False)
    layer = lm.transformer.layers[0]
    layer.self_attn.out.weight.zero_()
    layer.norm_ffn.weight.zero_(), layer.norm_ffn.bias.zero_()
    layer.norm_ffn.bias[0] = 1.0
    layer.ffn_in.weight.zero_()
    layer.ffn_in.weight[:, 0] = x
    conditions = fuse(random_model(), [None], 1, CPU, led=[False])
    with torch.no_grad(), Team(1) as team:
        decoder = CachedDecoder(lm, conditions, 1, 2, CPU, team)
        decoder.next_logits(torch.zeros(1, 4, 1, dtype=torch.long), 1)
        assert isinstance(decoder._compiled, CompiledStep)
        (inner,) = (tensor for tensor in decoder._compiled._kept if tensor.shape == (1, 512))
        torch.testing.assert_close(inner[0], F.gelu(x), atol=1e-6, rtol=2e-6)
