"""Every form of a request on a device beside the CPU: nothing mixes devices, the codes are the CPU's, few waits.

No GPU exists here; `tests/labelled_device.py` has what stands in for one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from musicgen import GenerationParams, MusicGen, load_model
from musicgen.conditioning.melody import extract_melody
from musicgen.generation import generate as generation
from musicgen.generation.generate import generate
from musicgen.generation.request import Request
from musicgen.lora.apply import merged_lm, read_lora
from tests.conftest import GOLDEN, PROMPTS, golden_model
from tests.labelled_device import LABEL, LabelledTensor, labelled_device
from tests.recording import StandIn

SECONDS = 0.4
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "text": ({}, {}),
    "batch": ({}, {"batch_size": 2}),
    "no guidance": ({"cfg_coef": 1.0}, {}),
    "greedy": ({"use_sampling": False}, {}),
    "top-p": ({"top_p": 0.8}, {}),
    "all tokens": ({"top_k": 0, "temperature": 0.8}, {}),
    "negative": ({}, {"negative": True}),
    "no text": ({}, {"texts": [None]}),
    "windows": ({"window": 0.3, "extend_stride": 0.2}, {}),
    "flatten": ({"pattern": "flatten"}, {}),
    "parallel": ({"pattern": "parallel"}, {}),
    "continuation": ({}, {"prompt": True}),
    "schedule": ({}, {"schedule": True}),
}


@cache
def labelled(name: str) -> MusicGen:
    """A golden model of its own, with all its weights on the labelled device."""
    with labelled_device():
        model = load_model(GOLDEN / "checkpoints" / name)
        for module in (model.lm, model.codec, model.text_encoder):
            module.to(LABEL)
    return model


def request_of(model: MusicGen, numbers: dict[str, Any], fields: dict[str, Any], *, melody: bool = False) -> Request:
    encode, batch = model.text_encoder.encode, fields.get("batch_size", 1)
    positive = [encode(fields.get("texts", list(PROMPTS[:batch])))]
    if fields.get("schedule"):
        positive = [replace(encode([PROMPTS[0]]), end=0.5), replace(encode([PROMPTS[1]]), start=0.5)]
    prompt = None
    if fields.get("prompt"):
        generator = torch.Generator().manual_seed(3)
        prompt = torch.randint(0, model.config.card, (1, model.num_codebooks, 8), generator=generator)
    tone = 0.3 * torch.sin(torch.arange(32000) * (2 * torch.pi * 440 / 32000))[None]
    return Request(
        positive=positive,
        params=GenerationParams(SECONDS, seed=7, **numbers),
        batch_size=batch,
        negative=[encode(["noise"])] if fields.get("negative") else (),
        melodies=[extract_melody(tone, 32000, model.config.chroma)] * batch if melody else (),
        prompt=prompt,
    )


CASES = [("hf-text", form) for form in FORMS]
CASES += [("hf-melody", form) for form in ("batch", "no text", "windows", "schedule")]
CASES += [("hf-stereo", form) for form in ("batch", "flatten")]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_the_codes_are_the_cpu_s_and_no_operation_mixes_devices(name, form):
    numbers, fields = FORMS[form]
    m, request = labelled(name), request_of(golden_model(name), numbers, fields, melody=name == "hf-melody")
    with labelled_device():
        codes = generate(m.lm, m.config, request, device=LABEL)
    assert not isinstance(codes, LabelledTensor)
    assert torch.equal(codes, generate(golden_model(name).lm, m.config, request))


@pytest.mark.parametrize("form", ["batch", "top-p", "negative", "windows", "continuation", "schedule"])
def test_static_steps_keep_to_the_device_too(form, monkeypatch):
    numbers, fields = FORMS[form]
    m, request = labelled("hf-text"), request_of(golden_model("hf-text"), numbers, fields)
    stand_in = StandIn()
    stand_in.refused = "no device records here"
    monkeypatch.setattr(generation, "why_no_graphs", lambda device: None)
    monkeypatch.setattr(generation, "CudaBackend", lambda device: stand_in)
    with labelled_device():
        codes = generate(m.lm, m.config, request, device=LABEL, use_cuda_graphs=False)
    assert stand_in.closed and stand_in.recorded == 0
    assert torch.equal(codes, generate(golden_model("hf-text").lm, m.config, request, use_cuda_graphs=None))


def waits_of(seconds: float, **fields: Any) -> int:
    m = labelled("hf-text")
    request = replace(request_of(golden_model("hf-text"), {}, fields), params=GenerationParams(seconds, seed=7))
    with labelled_device() as device:
        generate(m.lm, m.config, request, device=LABEL)
    return device.waits.total()


def test_a_piece_waits_for_the_device_as_often_whatever_its_steps_but_for_a_look_each_second():
    """The codes come back once; whether the logits are finite is read at the first and last step, and at each 50th."""
    short, long = waits_of(0.3), waits_of(2.2)
    assert short <= 10
    assert long - short == 2  # 18 and 113 steps
    # Whether all items have the same condition and mask is seen once.
    assert waits_of(0.3, batch_size=2) == short + 2


def test_the_codec_works_on_the_device_both_ways():
    m, reference = labelled("hf-text"), golden_model("hf-text")
    codes = torch.randint(0, 64, (1, 4, 60), generator=torch.Generator().manual_seed(1))
    with labelled_device() as device:
        sound = m.codec.decode(codes.to(LABEL))
        back = m.codec.encode(sound, m.codec.sample_rate)
        sound, back = sound.cpu(), back.cpu()
    expected = reference.codec.decode(codes)
    assert float((sound - expected).abs().max()) < 1e-5
    assert torch.equal(back, reference.codec.encode(expected, reference.codec.sample_rate))
    assert device.waits.total() <= 10


def test_texts_and_styles_are_encoded_on_the_device(style_folder, style_model):
    texts = [*PROMPTS, None]
    with labelled_device():
        there = labelled("hf-text").text_encoder.encode(texts)
        states, mask = there.states.cpu(), there.mask.cpu()
        conditioner = load_model(style_folder).style.to(LABEL)
        noise = torch.rand(1, 96000, generator=torch.Generator().manual_seed(2)) - 0.5
        style = conditioner.encode(noise, 32000).cpu()
    expected = golden_model("hf-text").text_encoder.encode(texts)
    assert torch.equal(mask, expected.mask)
    assert float((states - expected.states).abs().max()) < 1e-5
    assert torch.equal(style, style_model.style.encode(noise, 32000))


def test_a_lora_is_merged_into_weights_on_the_device():
    m, path = labelled("hf-text"), next((GOLDEN / "loras" / "text").glob("*"))
    lora = read_lora(path.parent, m.config)
    with labelled_device():
        merged = {name: weight.cpu() for name, weight in merged_lm(m.lm, lora).state_dict().items()}
    expected = merged_lm(golden_model("hf-text").lm, lora).state_dict()
    assert merged.keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in merged.items())
