"""Every number agrees with the two reference implementations, on the device that `--device` names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from musicgen import GenerationParams
from musicgen.conditioning.fuser import fuse
from musicgen.conditioning.melody import MelodyLead, chroma_filter_bank, extract_melody
from musicgen.config import RELEASED_CHROMA
from musicgen.decoding.engine import CachedDecoder, FullDecoder
from musicgen.generation.generate import generate
from musicgen.generation.patterns import named_pattern
from musicgen.generation.request import Request

PROMPTS = ("a calm piano melody with soft drums", "rock")
KINDS = ("text", "melody", "stereo")
LOGITS = [(kind, item, False) for kind in KINDS for item in (0, 1)] + [("melody", 0, True), ("melody", 1, True)]


def greedy(frames=20, **changes):
    return GenerationParams(duration=frames / 50, use_sampling=False, **changes)


@torch.no_grad()
def teacher_forced_logits(lm, conditions, sequence, decoder_type, device):
    """Logits `[2, K, S, card]` on the CPU: row 0 conditional, row 1 null."""
    sequence = sequence.to(device)
    if decoder_type is CachedDecoder:
        decoder = CachedDecoder(lm, conditions, 1, sequence.shape[-1], device)
    else:
        decoder = FullDecoder(lm, conditions, device)
    steps = [decoder.next_logits(sequence, step)[:, 0] for step in range(1, sequence.shape[-1] + 1)]
    return torch.stack(steps, dim=2).cpu()


@pytest.mark.parametrize("decoder_type", [CachedDecoder, FullDecoder])
@pytest.mark.parametrize(("kind", "item", "with_melody"), LOGITS)
def test_logits_and_null_logits_are_the_reference_s(
    kind, item, with_melody, decoder_type, model, device, tensors, sweep
):
    golden, m = tensors(kind), model(f"hf-{kind}")
    condition = m.text_encoder.encode([PROMPTS[item]])
    melody = extract_melody(sweep[0], 32000) if with_melody else None
    conditions = fuse(
        m.lm,
        [condition, None],
        1,
        device,
        led=[True, False],
        leads=[] if m.config.chroma is None else [MelodyLead(m.config.chroma, melody)],
    )
    pattern = named_pattern(None, golden["tf.codes"].shape[-1], m.config.delays)
    sequence = pattern.build_sequence(golden["tf.codes"].long(), m.config.card)
    assert torch.equal(sequence, golden["tf.sequence"].long())
    assert torch.equal(pattern.mask, golden["tf.mask"].bool())
    logits = teacher_forced_logits(m.lm, conditions, sequence, decoder_type, device)
    suffix = f"p{item}" + (".melody" if with_melody else "")
    torch.testing.assert_close(logits[:1], golden[f"tf.logits.{suffix}"], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits[1:], golden[f"tf.null_logits.{suffix}"], atol=1e-4, rtol=0)
    if with_melody == (kind == "melody"):
        reverted, _ = pattern.revert_logits(logits[:1])
        torch.testing.assert_close(reverted, golden[f"tf.reverted_logits.p{item}"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_text_states_and_their_projection_are_the_reference_s(kind, model, tensors):
    golden, m = tensors(kind), model(f"hf-{kind}")
    for item, prompt in enumerate(PROMPTS):
        condition = m.text_encoder.encode([prompt])
        torch.testing.assert_close(condition.states.cpu(), golden[f"p{item}.t5_hidden"], atol=1e-5, rtol=0)
        projected = m.lm.project_description(condition.states, condition.mask).cpu()
        torch.testing.assert_close(projected, golden[f"p{item}.cond.description"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", ["hf", "audiocraft"])
@pytest.mark.parametrize("cfg_coef", [3.0, 1.0])
@pytest.mark.parametrize("item", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_codes_are_the_reference_s(kind, item, cfg_coef, layout, model, tensors):
    name = f"greedy.p{item}.tokens" + (".cfg1" if cfg_coef == 1.0 else "")
    codes = model(f"{layout}-{kind}").generate([PROMPTS[item]], greedy(cfg_coef=cfg_coef))
    assert torch.equal(codes, tensors(kind)[name].long())


@pytest.mark.parametrize("item", [0, 1])
def test_greedy_codes_with_a_melody_are_the_reference_s(item, model, tensors, sweep):
    codes = model("hf-melody").generate([PROMPTS[item]], greedy(), melody=sweep)
    assert torch.equal(codes, tensors("melody")[f"greedy.p{item}.melody.tokens"].long())


@pytest.mark.parametrize("kind", KINDS)
def test_unconditional_greedy_codes_are_the_reference_s(kind, model, tensors):
    for nothing in (None, ""):
        codes = model(f"hf-{kind}").generate([nothing], greedy())
        assert torch.equal(codes, tensors(kind)["greedy.uncond.tokens"].long())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_batch_of_unequal_texts_are_the_reference_s_single_runs(kind, model, tensors):
    codes = model(f"hf-{kind}").generate(list(PROMPTS), greedy())
    for item in (0, 1):
        assert torch.equal(codes[item], tensors(kind)[f"greedy.p{item}.tokens"][0].long())


@pytest.mark.parametrize("kind", KINDS)
def test_a_continued_recording_is_the_reference_s(kind, model, tensors):
    golden, m = tensors(kind), model(f"hf-{kind}")
    prompt = m.encode(golden["continuation.wav"], 32000)
    assert torch.equal(prompt, golden["continuation.prompt_codes"].long())
    codes = m.generate([PROMPTS[0]], greedy(), prompt=prompt)
    assert torch.equal(codes, golden["continuation.tokens"].long())


@pytest.mark.parametrize("continued", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_long_pieces_are_the_reference_s(kind, continued, model, tensors, sweep):
    """224 frames in windows of 100 moved by 60; the reference got there from 4.5 s, see windows.py."""
    golden, m = tensors(kind), model(f"hf-{kind}")
    codes = m.generate(
        [PROMPTS[0]],
        greedy(224, window=2.0, extend_stride=1.2),
        melody=sweep if kind == "melody" else None,
        prompt=golden["continuation.prompt_codes"].long() if continued else None,
    )
    name = "extended_continuation.tokens" if continued else "extended.tokens"
    assert torch.equal(codes, golden[name].long())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("top_k", {"top_k": 10, "temperature": 0.9}),
        ("top_p", {"top_p": 0.7}),
        ("plain", {"top_k": 0, "temperature": 1.3}),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_sampled_codes_are_the_reference_s_given_its_noise(kind, name, changes, model, device, tensors):
    """torch.multinomial draws one row of Exp(1) numbers per codebook; fed with the same, so do we."""
    m = model(f"hf-{kind}")
    generator = torch.Generator().manual_seed(77)

    def noise():
        return torch.empty(m.num_codebooks, m.config.card).exponential_(generator=generator)[None]

    condition = m.text_encoder.encode([PROMPTS[0]])
    request = Request(positive=[condition], params=GenerationParams(duration=0.4, **changes))
    codes = generate(m.lm, m.config, request, noise=noise, device=device)
    assert torch.equal(codes, tensors(kind)[f"sampled.{name}.tokens"].long())


@pytest.mark.parametrize("kind", KINDS)
def test_codec_codes_are_equal_and_its_audio_within_1e_5(kind, model, tensors):
    golden, m = tensors(kind), model(f"hf-{kind}")
    codes = m.encode(golden["codec.odd.wav"], 32000)
    assert torch.equal(codes, golden["codec.odd.codes"].long())
    torch.testing.assert_close(m.decode(codes), golden["codec.odd.audio"], atol=1e-5, rtol=0)
    audio = m.decode(golden["greedy.p0.tokens"].long())
    torch.testing.assert_close(audio, golden["greedy.p0.audio"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name", ["hf-text-legacy", "hf-text-sharded", "audiocraft-text", "audiocraft-melody", "audiocraft-stereo"]
)
def test_other_files_of_the_same_weights_give_identical_models(name, model):
    plain, other = model(f"hf-{name.split('-')[1]}"), model(name)
    assert replace(plain.config, name="") == replace(other.config, name="")
    for part in ("lm", "text_encoder", "codec"):
        ours, theirs = getattr(plain, part).state_dict(), getattr(other, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", ["sweep6s", "chord1.5s", "short0.3s", "silence2s"])
def test_chroma_is_the_reference_s(name, tensors):
    melody = extract_melody(tensors("signals")[name].reshape(1, -1), 32000)
    assert torch.equal(melody.chroma, tensors("melody")[f"chroma.{name}"][0])


def test_the_filter_bank_is_the_reference_s_to_the_bit(tensors):
    assert torch.equal(chroma_filter_bank(RELEASED_CHROMA), tensors("melody")["fbanks"])
