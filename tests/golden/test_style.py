"""The style condition and its double guidance agree with the reference, from MERT's states on.

The reference had a fake MERT: the golden data hold its states, and what each stage made of them.
"""

from __future__ import annotations

import pytest
import torch

from musicgen import GenerationParams
from musicgen.conditioning.fuser import fuse
from musicgen.conditioning.style import StyleLead, cut_excerpt
from musicgen.decoding.engine import CachedDecoder, FullDecoder
from musicgen.generation.generate import generate
from musicgen.generation.request import Request

from .test_golden import teacher_forced_logits

PROMPT = "a calm piano melody with soft drums"


@pytest.fixture
def golden(tensors):
    return tensors("style")


@pytest.fixture
def mert_hidden(golden, device):
    """The states of the reference's MERT, on the device."""
    return golden["mert_hidden"].to(device)


@pytest.fixture
def tokens(style_model, mert_hidden):
    """The style of the golden recording, as the reference's MERT heard it."""
    style = style_model.style
    with torch.no_grad():
        states = style.normalise(style.contextualise(style.embed(mert_hidden)))
        return style.quantise(states, style.config.eval_q)[0, :: style.config.stride]


@torch.no_grad()
def test_every_stage_after_mert_is_the_reference_s(style_model, golden, mert_hidden, tokens):
    style = style_model.style
    embedded = style.embed(mert_hidden)
    torch.testing.assert_close(embedded.cpu(), golden["style.after_embed"], atol=1e-5, rtol=0)
    states = style.contextualise(embedded)
    torch.testing.assert_close(states.cpu(), golden["style.after_transformer"], atol=1e-5, rtol=0)
    states = style.normalise(states)
    torch.testing.assert_close(states.cpu(), golden["style.after_batch_norm"], atol=1e-5, rtol=0)
    torch.testing.assert_close(style.quantise(states, 3).cpu(), golden["style.after_rvq3"], atol=1e-5, rtol=0)
    projected = style_model.lm.project_style(tokens[None])
    torch.testing.assert_close(projected.cpu(), golden["cond.self_wav"], atol=1e-5, rtol=0)


def test_the_middle_of_a_recording_is_the_reference_s_excerpt(golden):
    wave = golden["wav"].reshape(-1)
    start = int(golden["style.start_sample"])
    assert torch.equal(cut_excerpt(wave, 32000, 3.0, None), wave[start : start + 96000])


@pytest.mark.parametrize("decoder_type", [CachedDecoder, FullDecoder])
def test_logits_with_text_and_style_with_style_alone_and_with_nothing_are_the_reference_s(
    style_model, golden, tokens, decoder_type, device
):
    condition, lm = style_model.text_encoder.encode([PROMPT]), style_model.lm
    conditions = fuse(lm, [condition, None, None], 1, device, led=[True, True, False], leads=[StyleLead(tokens)])
    logits = teacher_forced_logits(lm, conditions, golden["tf.sequence"].long(), decoder_type, device)
    torch.testing.assert_close(logits, golden["tf.logits.cond_style_null"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("name", "beta", "with_style"), [("beta_none", None, True), ("beta5", 5.0, True), ("text_only", None, False)]
)
def test_greedy_codes_are_the_reference_s(style_model, golden, tokens, name, beta, with_style, slow, device):
    condition = style_model.text_encoder.encode([PROMPT])
    params = GenerationParams(duration=0.4, use_sampling=False, cfg_coef_beta=beta)
    styles = [tokens] if with_style else []
    request = Request(positive=[condition], params=params, styles=styles)
    codes = generate(style_model.lm, style_model.config, request, slow=slow, device=device)
    assert torch.equal(codes, golden[f"greedy.{name}.tokens"].long())
