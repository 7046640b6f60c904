"""Steps that are all alike give the codes of the engine's own loop, recorded and replayed or not.

No GPU exists here, so they are recorded by what `tests/recording.py` has in place of CUDA.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch

from musicgen import GenerationParams, load_model
from musicgen.conditioning.condition import TextCondition
from musicgen.conditioning.fuser import fuse
from musicgen.conditioning.melody import MelodyLead, extract_melody
from musicgen.decoding import engine, static_decoder
from musicgen.decoding.engine import CachedDecoder, SamplingParams, decode_sequence
from musicgen.decoding.sampling import exponential_noise
from musicgen.generation import generate as generation
from musicgen.generation.generate import generate
from musicgen.generation.request import Request
from tests.conftest import PROMPTS
from tests.recording import CPU, Breaking, Cancelled, StandIn


@pytest.fixture
def recorded(monkeypatch) -> Callable[..., tuple[torch.Tensor, StandIn]]:
    """Generate codes with recorded steps."""

    def run(*args, **options) -> tuple[torch.Tensor, StandIn]:
        stand_in = StandIn()
        with monkeypatch.context() as patch:
            patch.setattr(generation, "why_no_graphs", lambda device: None)
            patch.setattr(generation, "CudaBackend", lambda device: stand_in)
            codes = generate(*args, **options)
        assert stand_in.closed and (stand_in.refused is None or options.get("use_cuda_graphs") is False)
        return codes, stand_in

    return run


def sine(seconds: float, pitch: float = 440.0) -> torch.Tensor:
    return 0.3 * torch.sin(torch.arange(int(seconds * 32000)) * (2 * torch.pi * pitch / 32000))[None]


def fields_of(model, kind: str) -> tuple[list[TextCondition], dict]:
    """Positive conditions and further fields of a request of each kind."""
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
    conditions, options = fields_of(m, kind)
    if m.config.chroma is not None and kind in ("plain", "prompt"):
        melody = extract_melody(sine(1.0), 32000, m.config.chroma)
        options["melodies"] = [melody] * options.get("batch_size", 1)
    params = GenerationParams(1.0, seed=7)
    plain = generate(m.lm, m.config, Request(positive=conditions, params=params, **options))
    codes, stand_in = recorded(m.lm, m.config, Request(positive=conditions, params=params, **options))
    assert torch.equal(codes, plain)
    assert stand_in.replayed > 30


@pytest.mark.parametrize("pattern", ["delay", "parallel", "flatten", "partial_flatten", "coarse_first"])
@pytest.mark.parametrize("sampling", [{}, {"top_k": 0}, {"top_p": 0.8}, {"use_sampling": False}])
def test_every_pattern_and_way_of_drawing_is_the_same(pattern, sampling, model, recorded):
    m = model("hf-text")
    params = GenerationParams(0.5, pattern=pattern, seed=3, **sampling)
    condition = [m.text_encoder.encode([PROMPTS[0]])]
    codes, _ = recorded(m.lm, m.config, Request(positive=condition, params=params))
    assert torch.equal(codes, generate(m.lm, m.config, Request(positive=condition, params=params)))


def test_a_style_and_double_guidance_are_the_same(style_model, recorded):
    m = style_model
    style = m.encode_style(sine(6.0), 32000, seed=1)
    params = GenerationParams(0.5, seed=3, cfg_coef_beta=5.0)
    condition = [m.text_encoder.encode([PROMPTS[0]])]
    codes, _ = recorded(m.lm, m.config, Request(positive=condition, params=params, styles=[style]))
    assert torch.equal(codes, generate(m.lm, m.config, Request(positive=condition, params=params, styles=[style])))


def test_buckets_of_the_cache_and_windows_change_nothing(model, recorded, monkeypatch):
    monkeypatch.setattr(static_decoder, "BUCKET", 16)
    m = model("hf-melody")
    condition = [m.text_encoder.encode([PROMPTS[0]])]
    params = GenerationParams(3.0, seed=3, window=1.2, extend_stride=0.7)
    codes, stand_in = recorded(m.lm, m.config, Request(positive=condition, params=params))
    assert torch.equal(codes, generate(m.lm, m.config, Request(positive=condition, params=params)))
    assert stand_in.recorded > 8 and stand_in.warmed == stand_in.recorded


def test_early_steps_see_a_small_part_of_the_cache():
    assert [static_decoder.bucket_of(n) for n in (1, 256, 257, 1504)] == [256, 256, 512, 1536]


def test_every_step_is_reported_and_a_snapshot_shows_what_is_there(model, recorded):
    m, seen = model("hf-text"), []
    condition = [m.text_encoder.encode([PROMPTS[0]])]
    recorded(
        m.lm,
        m.config,
        Request(positive=condition, params=GenerationParams(1.0)),
        on_step=lambda p: seen.append((p.step, p.codes())),
    )
    assert [step for step, _ in seen] == list(range(1, 54))
    known = [int((codes >= 0).sum()) for _, codes in seen]
    assert known == sorted(known) and known[-1] == 4 * 50


@pytest.mark.parametrize("step", [1, 2, 40])
def test_a_cancel_leaves_no_graph_behind(step, model, monkeypatch):
    m, stand_in = model("hf-text"), StandIn()
    monkeypatch.setattr(generation, "why_no_graphs", lambda device: None)
    monkeypatch.setattr(generation, "CudaBackend", lambda device: stand_in)

    def cancel(progress):
        if progress.step == step:
            raise Cancelled

    with pytest.raises(Cancelled):
        generate(
            m.lm,
            m.config,
            Request(positive=[m.text_encoder.encode(["x"])], params=GenerationParams(1.0)),
            on_step=cancel,
        )
    assert stand_in.closed


def test_logits_that_are_not_finite_are_an_error_within_a_block(model, recorded, monkeypatch):
    m, steps = model("hf-text"), []
    monkeypatch.setattr(engine, "sample_codes", lambda logits, *_, **__: logits.mul_(torch.nan).argmax(-1) * 0)
    real = m.lm.logits
    monkeypatch.setattr(m.lm, "logits", lambda states: real(states) * torch.nan)
    with pytest.raises(ValueError, match="NaN or infinite"):
        recorded(
            m.lm,
            m.config,
            Request(positive=[m.text_encoder.encode(["x"])], params=GenerationParams(2.0)),
            on_step=lambda p: steps.append(p.step),
        )
    assert len(steps) == static_decoder.BLOCK


def test_graphs_that_are_asked_for_where_they_cannot_be_are_refused(model):
    m = model("hf-text")
    condition = [m.text_encoder.encode(["x"])]
    with pytest.raises(ValueError, match="use_cuda_graphs is True, but CUDA graphs are for CUDA devices"):
        generate(m.lm, m.config, Request(positive=condition, params=GenerationParams(1.0)), use_cuda_graphs=True)


@pytest.mark.parametrize(
    ("device", "reason", "wanted", "refused"),
    [
        ("cuda", None, None, None),
        ("cuda", None, True, None),
        ("cuda", None, False, "they are turned off"),
        ("cuda", "graphs of ROCm are not tried", None, "graphs of ROCm are not tried"),
        ("cuda", "graphs of ROCm are not tried", False, "they are turned off"),
        ("cpu", "no CUDA", None, "the engine's own loop"),
        ("mps", "no CUDA", False, "the engine's own loop"),
    ],
)
def test_a_cuda_device_takes_the_same_steps_whether_they_are_recorded_or_not(
    device, reason, wanted, refused, monkeypatch
):
    monkeypatch.setattr(generation, "why_no_graphs", lambda device: reason)
    monkeypatch.setattr(generation, "CudaBackend", StandIn)
    with generation._graphs(torch.device(device), wanted) as backend:
        assert (backend.refused if backend else "the engine's own loop") == refused


def test_a_run_whose_recording_fails_gives_the_same_codes_and_says_so_once(model, monkeypatch, caplog):
    m, backend = model("hf-melody"), Breaking(RuntimeError("out of memory"))
    condition = [m.text_encoder.encode([PROMPTS[0]])]
    params = GenerationParams(3.0, seed=3, window=1.2, extend_stride=0.7)
    plain = generate(m.lm, m.config, Request(positive=condition, params=params))
    monkeypatch.setattr(generation, "why_no_graphs", lambda device: None)
    monkeypatch.setattr(generation, "CudaBackend", lambda device: backend)
    monkeypatch.setattr(static_decoder, "BUCKET", 16)
    assert torch.equal(generate(m.lm, m.config, Request(positive=condition, params=params)), plain)
    assert backend.tried == caplog.text.count("goes on without CUDA graphs") == 1 and backend.closed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["hf-text", "hf-melody"])
def test_in_half_precision_recorded_steps_draw_what_the_same_steps_draw_one_by_one(
    name, dtype, checkpoint_copy, recorded
):
    m = load_model(checkpoint_copy(name), dtype=dtype)
    condition = [m.text_encoder.encode([*PROMPTS, "a"])]
    params = GenerationParams(1.0, seed=3)
    codes, stand_in = recorded(m.lm, m.config, Request(positive=condition, params=params, batch_size=3))
    direct, other = recorded(
        m.lm, m.config, Request(positive=condition, params=params, batch_size=3), use_cuda_graphs=False
    )
    assert torch.equal(codes, direct)
    # Texts of different length are decoded apart, one after the other.
    assert stand_in.recorded > 1 and other.recorded == other.warmed == 0


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 6e-2), (torch.float16, 8e-3)], ids=str
)
def test_logits_differ_from_the_engine_s_by_rounding_alone(dtype, tolerance, checkpoint_copy):
    """A bucket of the cache is summed up in another order than what is written of it. In half precision the tolerance
    is eight times the rounding of one number."""
    m = load_model(checkpoint_copy("hf-melody"), dtype=dtype)
    columns = torch.randint(0, m.config.card, (2, 4, 300), generator=torch.Generator().manual_seed(3))
    conditions = fuse(
        m.lm, [m.text_encoder.encode(list(PROMPTS))], 2, CPU, led=[False], leads=[MelodyLead(m.config.chroma)] * 2
    )
    sampling, seen = SamplingParams(1.0, 0, 0.0), ([], [])
    guides = [lambda logits, step, kept=kept: kept.append(logits[0].clone()) or logits[0] for kept in seen]
    with torch.no_grad():
        decode_sequence(
            CachedDecoder(m.lm, conditions, 2, 299, CPU), columns.clone(), 1, sampling, guide=guides[0], noise=None
        )
        backend = StandIn()
        backend.refused = "each step is to be seen"
        static_decoder.StaticDecoder(m.lm, conditions, columns, sampling, guides[1], backend).decode(1, None)
    engine, static = (torch.stack(kept) for kept in seen)
    assert len(engine) == 299 and float((engine - static).abs().max() / engine.std()) < tolerance


def test_a_run_s_buffers_are_gone_with_it_without_a_collection(model, recorded, monkeypatch):
    """They lie on the GPU, where nobody else knows of them."""
    m, held = model("hf-text"), []

    class Watched(generation.StaticDecoder):
        def __init__(self, *args):
            super().__init__(*args)
            held.extend([weakref.ref(self), weakref.ref(self._caches[0].keys)])

    monkeypatch.setattr(generation, "StaticDecoder", Watched)
    condition = [m.text_encoder.encode(["x"])]
    gc.disable()
    try:
        recorded(m.lm, m.config, Request(positive=condition, params=GenerationParams(0.5)))
        assert len(held) == 2 and not any(ref() for ref in held[:1]) and held[1]() is None
    finally:
        gc.enable()


def test_noise_is_drawn_step_by_step_and_no_more_of_it_than_there_are_steps(model, recorded):
    m, drawn = model("hf-text"), []
    generator = torch.Generator().manual_seed(5)

    def noise():
        drawn.append(exponential_noise([generator], m.num_codebooks, m.config.card))
        return drawn[-1]

    condition = [m.text_encoder.encode(["x"])]
    params = GenerationParams(1.0)
    codes, _ = recorded(m.lm, m.config, Request(positive=condition, params=params), noise=noise)
    assert len(drawn) == Request(positive=condition, params=params).steps(m.config) > static_decoder.BLOCK
    again = iter(drawn)
    assert torch.equal(
        codes, generate(m.lm, m.config, Request(positive=condition, params=params), noise=lambda: next(again))
    )
