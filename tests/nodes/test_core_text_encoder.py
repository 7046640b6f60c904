"""ComfyUI's own T5 (CLIP Loader of type stable_audio) in the place of MusicGen Text Encode.

The same random weights, which fit float16 since core keeps them in that, go into core's encoder and
into this pack's, which is transformers' T5, both behind core's tokenizer.
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch

from .conftest import COMFYUI, PACK

SHAPE = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
T5_BASE = {
    "vocab_size": 32128,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
}
TEXTS = ("a calm piano melody with soft drums", "rock", "  two  spaces, 80's & caps!\nand a line ", "piano " * 200)


@pytest.fixture(scope="module")
def encoders(comfy, pack, host):
    """ours: what a MusicGen Loader gives. core: the conditioning of core's CLIPTextEncode for a text."""
    text = importlib.import_module(f"{PACK}.musicgen.conditioning.text")
    types = importlib.import_module(f"{PACK}.nodes.sockets")
    sd = importlib.import_module("comfy.sd")
    read = importlib.import_module(f"{PACK}.musicgen.conditioning.tokenizer").load_tokenizer
    tokenizer = read(COMFYUI / "comfy" / "text_encoders" / "t5_tokenizer")
    module = text.TextEncoder(T5_BASE | SHAPE, tokenizer).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(4)
    for name, weight in module.t5.named_parameters():
        size = 1.0 if "norm" in name or weight.shape[0] == 32128 else weight.shape[1] ** -0.5
        weight.copy_((torch.randn(weight.shape, generator=generator) * size).half())
    weights = {name: weight.clone() for name, weight in module.t5.named_parameters()}
    clip = sd.load_text_encoder_state_dicts(
        [weights], clip_type=sd.CLIPType.STABLE_AUDIO, model_options={"t5base_model_config": SHAPE}
    )
    return SimpleNamespace(
        ours=types.TextEncoderHandle(host.patchers.wrap_text_encoder(module), "ours"),
        core=lambda prompt: comfy.core.CLIPTextEncode().encode(clip, prompt)[0],
    )


@pytest.fixture
def read(inputs, load):
    """The states that count, as the sampler of the tiny text model reads them."""
    return lambda conditioning: inputs.read_conditioning(conditioning, load("text").model, 1)[0].row(0)


@pytest.mark.parametrize("text", TEXTS)
def test_core_s_t5_gives_the_states_of_ours(encoders, run, read, text):
    ours = read(run("TextEncode", text_encoder=encoders.ours, text=text))
    core = encoders.core(text)
    assert core[0][0].shape[1] >= 128 and "attention_mask" not in core[0][1]
    torch.testing.assert_close(read(core), ours, atol=2e-5, rtol=0)


def test_core_s_empty_prompt_is_no_description(encoders, run, read):
    assert (encoders.core("")[0][0] != 0).any()
    assert read(encoders.core("")) is None
    assert read(run("TextEncode", text_encoder=encoders.ours, text="")) is None


def test_a_piece_described_through_core_is_the_piece_described_through_ours(encoders, run, sample):
    ours, core = run("TextEncode", text_encoder=encoders.ours, text="jazz piano"), encoders.core("jazz piano")
    nothing = encoders.core("")
    assert torch.equal(sample(core)["codes"], sample(ours)["codes"])
    assert torch.equal(sample(core, negative=nothing)["codes"], sample(core)["codes"])


def test_a_weight_scales_states_in_core_and_is_a_prompt_of_its_own_in_ours(encoders, run, read):
    plain, weighted = (read(encoders.core(text)) for text in ("soft drums", "soft (drums:1.5)"))
    assert plain.shape == weighted.shape and not torch.allclose(plain, weighted)
    ours = run("TextEncode", text_encoder=encoders.ours, text="soft (drums:1.5)")
    assert torch.equal(read(ours[:1]), read(run("TextEncode", text_encoder=encoders.ours, text="soft drums")))
    assert [entry[1].get("musicgen_weight") for entry in ours[1:]] == [-0.5]
