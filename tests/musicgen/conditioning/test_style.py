"""The style condition: what it hears, what it refuses, and how it guides."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from musicgen import GenerationParams, load_model
from musicgen.audio import resample
from musicgen.checkpoints.loading import load_mert, open_checkpoint
from musicgen.checkpoints.parts.mert import find_mert
from musicgen.conditioning.condition import TextCondition
from musicgen.conditioning.style import StyleConditioner, StyleLead, cut_excerpt
from musicgen.generation.generate import generate
from musicgen.generation.guidance import Cells, guidance, plan_branches
from musicgen.generation.request import Request
from musicgen.generation.schedule import Schedules
from tests.conftest import GOLDEN
from tests.tiny import write_mert

RATE = 32000
LEAD = StyleLead(torch.zeros(15, 64))


def recording(seconds: float = 6.0, rate: int = RATE, pitch: float = 220.0) -> torch.Tensor:
    """A tone that rises and pulses, so that no two moments of it are alike."""
    time = torch.arange(int(seconds * rate)) / rate
    return (0.5 * torch.sin(2 * math.pi * (pitch * time + 20 * time**2)) * (1 + torch.sin(9 * time)))[None]


def request(frames=20, **changes):
    return GenerationParams(duration=frames / 50, **{"top_k": 20, **changes})


def text(m, words="a calm piano melody", **changes):
    condition = m.text_encoder.encode([words])
    return TextCondition(condition.states, condition.mask, **changes)


def sample(m, params, *positive, styles=(), **more):
    return generate(m.lm, m.config, Request(positive=list(positive), params=params, styles=styles, **more))


@pytest.fixture
def tokens(style_model):
    return style_model.encode_style(recording(), RATE, seed=1)


def test_three_seconds_become_fifteen_tokens_and_other_lengths_as_many_as_fit(style_model):
    lengths = {s: style_model.encode_style(recording(), RATE, excerpt_length=s).shape for s in (1.5, 3.0, 4.5)}
    assert lengths == {1.5: (8, 64), 3.0: (15, 64), 4.5: (23, 64)}
    assert style_model.encode_style(recording(), RATE).shape == (15, 64)


def test_hearing_a_style_leaves_the_global_random_numbers_alone(style_model):
    """As HuBERT in transformers 4.50, which draws one number for each layer."""
    layer = style_model.style.features.hubert.encoder.layers[0]
    handle = layer.register_forward_pre_hook(lambda module, arguments: torch.rand([]) and None)
    try:
        before = torch.get_rng_state()
        style_model.encode_style(recording(), RATE)
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        handle.remove()


def test_mert_is_transformers_hubert_to_the_number(style_model, tmp_path):
    """The tokens out of transformers' own model, loaded by itself from the same weights."""
    hubert = write_mert(tmp_path / "mert")
    style, wave = style_model.style, recording()
    with torch.no_grad():
        excerpt = resample(cut_excerpt(wave[0], RATE, 3.0, 7), RATE, 24000)
        states = hubert(excerpt[None]).last_hidden_state
        states = style.normalise(style.contextualise(style.embed(states)))
        expected = style.quantise(states, 3)[0, ::15]
    assert torch.equal(style_model.encode_style(wave, RATE, seed=7), expected)


def test_the_real_mert_s_shape_and_names_load_to_the_number(tmp_path):
    """All 211 tensors of MERT-v1-95M, random, in the file that its repository has."""
    hubert = write_mert(tmp_path / "mert", width=768, layers=12, half=True)
    files = find_mert(768, tmp_path)
    assert len(files.part.stored.records) == 211
    assert sum(math.prod(r.shape) for r in files.part.stored.records.values()) == 94371712
    mert = load_mert(files, "cpu")
    with torch.no_grad():
        wave = recording(0.5, 24000)
        torch.testing.assert_close(mert(wave), hubert(wave).last_hidden_state, atol=1e-4, rtol=0)


def test_the_same_seed_hears_the_same_moment_at_every_sample_rate():
    ramp = torch.arange(10 * 48000) / 48000
    for seed in range(5):
        starts = [cut_excerpt(ramp[:: 48000 // rate], rate, 3.0, seed)[0] for rate in (48000, 24000, 16000)]
        assert max(starts) - min(starts) < 1e-3
    assert len({float(cut_excerpt(ramp, 48000, 3.0, seed)[0]) for seed in range(5)}) == 5


def test_every_moment_can_be_heard_and_none_beyond_the_end():
    ramp = torch.arange(12)
    heard = {int(cut_excerpt(ramp, 1, 9.0, seed)[0]) for seed in range(60)}
    assert heard == {0, 1, 2, 3}
    assert cut_excerpt(ramp, 1, 12.0, 5).tolist() == ramp.tolist()


def test_fewer_codebooks_tell_a_vaguer_style(style_model):
    few, own, many = (style_model.encode_style(recording(), RATE, eval_q=q) for q in (1, None, 6))
    assert torch.equal(own, style_model.encode_style(recording(), RATE, eval_q=3))
    assert not torch.equal(few, own) and not torch.equal(own, many)
    assert len(few.unique(dim=0)) <= len(many.unique(dim=0))


def test_stereo_is_heard_as_its_mean_and_the_global_random_state_stays(style_model):
    left, right = recording(pitch=220.0), recording(pitch=330.0)
    before = torch.get_rng_state()
    stereo = style_model.encode_style(torch.cat([left, right]), RATE, seed=3)
    assert torch.equal(stereo, style_model.encode_style((left + right) / 2, RATE, seed=3))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"audio": recording(2.0)}, "2.00 seconds long, shorter than the excerpt of 3 seconds"),
        ({"excerpt_length": 1.0}, "excerpt_length is 1 seconds; allowed is 1.5 to 4.5"),
        ({"excerpt_length": 9.0}, "excerpt_length is 9 seconds; allowed is 1.5 to 4.5"),
        ({"eval_q": 7}, "eval_q is 7; allowed is 1 to 6"),
        ({"eval_q": 0}, "eval_q is 0; allowed is 1 to 6"),
        ({"audio": torch.full((1, 200000), math.nan)}, "NaN"),
        ({"audio": torch.zeros(1, 0)}, "empty"),
    ],
)
def test_what_cannot_be_heard_is_refused(style_model, change, words):
    arguments = {"audio": recording(), "sample_rate": RATE, **change}
    with pytest.raises(ValueError, match=words):
        style_model.encode_style(arguments.pop("audio"), arguments.pop("sample_rate"), **arguments)


def test_a_style_changes_the_piece_with_and_without_a_description(style_model, tokens):
    other = style_model.encode_style(recording(pitch=700.0), RATE, seed=1)
    for words in ("a calm piano melody", None):
        a, b, c, none = (style_model.generate([words], request(), style=s) for s in (tokens, other, tokens, None))
        assert torch.equal(a, c)
        assert not torch.equal(a, b) and not torch.equal(a, none)


def test_double_guidance_acts_only_on_a_description_with_a_style(style_model, tokens):
    single, double = ({"cfg_coef_beta": beta} for beta in (None, 5.0))
    m = style_model
    assert not torch.equal(*(m.generate(["jazz"], request(**beta), style=tokens) for beta in (single, double)))
    assert torch.equal(*(m.generate([None], request(**beta), style=tokens) for beta in (single, double)))
    assert torch.equal(*(m.generate(["jazz"], request(**beta)) for beta in (single, double)))
    one = m.generate(["jazz"], request(cfg_coef_beta=1.0), style=tokens)
    assert torch.equal(one, m.generate(["jazz"], request(), style=tokens))


def guided(branches, shares, params):
    numbers = Schedules().resolve(params, shares)
    return guidance(branches, Cells(shares, shares), numbers, torch.device("cpu"))


def test_double_guidance_is_its_formula(style_model):
    """u + gamma (s + beta (c - s) - u), rows in the order c, s, u; with a negative n, that takes the place of u."""
    c, s, u, n = torch.randn(4, 1, 4, 64, generator=torch.Generator().manual_seed(0))
    double, shares = request(cfg_coef=3.0, cfg_coef_beta=5.0), torch.zeros(4, 1)
    branches = plan_branches([text(style_model)], (), double, [LEAD])
    made = guided(branches, shares, double)(torch.stack([c, s, u]), 0)
    torch.testing.assert_close(made, u + 3.0 * (s + 5.0 * (c - s) - u))
    branches = plan_branches([text(style_model)], [text(style_model, "noise")], double, [LEAD])
    made = guided(branches, shares, double)(torch.stack([c, s, n]), 0)
    torch.testing.assert_close(made, n + 3.0 * (s + 5.0 * (c - s) - n))
    alone = request(cfg_coef=1.0, cfg_coef_beta=5.0)
    branches = plan_branches([text(style_model)], (), alone, [LEAD])
    made = guided(branches, shares, alone)(torch.stack([c, s]), 0)
    torch.testing.assert_close(made, s + 5.0 * (c - s))


@pytest.mark.parametrize("beta", [None, 5.0])
def test_where_no_description_acts_the_style_acts_alone(style_model, beta):
    c, s, u = torch.randn(3, 1, 4, 64, generator=torch.Generator().manual_seed(0))
    half, params = text(style_model, end=0.5), request(cfg_coef=3.0, cfg_coef_beta=beta)
    branches = plan_branches([half], (), params, [LEAD])
    early_and_late = torch.tensor([[0.2, 0.8]]).expand(4, 2)
    apply = guided(branches, early_and_late, params)
    early, late = (apply(torch.stack([c, s, u]), step) for step in (0, 1))
    torch.testing.assert_close(early, u + 3.0 * (s + (beta or 1.0) * (c - s) - u))
    torch.testing.assert_close(late, u + 3.0 * (s - u))


def test_only_the_branches_that_count_are_decoded(style_model):
    whole, half, empty = text(style_model), text(style_model, end=0.5), text(style_model, "")
    away = text(style_model, "noise")

    def led(positive, *, negative=(), style=True, **changes):
        return plan_branches([positive], negative, request(**changes), [LEAD if style else StyleLead()]).led

    assert led(whole) == [True, False]
    assert led(whole, cfg_coef_beta=5.0) == [True, True, False]
    assert led(whole, cfg_coef_beta=5.0, cfg_coef=1.0) == [True, True]
    assert led(whole, cfg_coef_beta=5.0, negative=[away]) == [True, True, False]
    assert led(whole, cfg_coef_beta=5.0, style=False) == [True, False]
    assert led(empty, cfg_coef_beta=5.0) == [True, False]
    assert led(half) == [True, True, False]
    assert led(half, style=False) == [True, False]


def test_each_item_of_a_batch_with_styles_is_the_piece_that_it_is_alone(style_model, tokens):
    short = style_model.encode_style(recording(pitch=500.0), RATE, excerpt_length=1.5)
    words = ["a calm piano melody with soft drums", "rock"]
    together = style_model.generate(words, request(seed=5, cfg_coef_beta=4.0), style=[tokens, short])
    for item, style in enumerate((tokens, short)):
        alone = style_model.generate([words[item]], request(seed=5 + item, cfg_coef_beta=4.0), style=style)
        assert torch.equal(together[item], alone[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_batches_with_styles_are_the_same_pieces_in_half_precision(style_folder, tokens, dtype):
    m = load_model(style_folder, dtype=dtype)
    words = ["a calm piano melody with soft drums", "rock"]
    together = m.generate(words, request(seed=5, cfg_coef_beta=4.0), style=[tokens, tokens[:8]])
    for item, style in enumerate((tokens, tokens[:8])):
        assert torch.equal(
            together[item], m.generate([words[item]], request(seed=5 + item, cfg_coef_beta=4.0), style=style)[0]
        )


def test_a_style_stays_through_the_windows_of_a_long_piece(style_model, tokens):
    long = style_model.generate(["rock"], request(60, window=0.6, extend_stride=0.4), style=tokens)
    first = style_model.generate(["rock"], request(30), style=tokens)
    assert torch.equal(long[:, :, :30], first) and long.shape[2] == 60


def test_a_prompt_and_a_negative_go_together_with_a_style(style_model, tokens):
    prompt = style_model.generate(["rock"], request(10), style=tokens)
    codes = style_model.generate(["rock"], request(30), style=tokens, prompt=prompt)
    assert torch.equal(codes[:, :, :10], prompt)
    positive, away = text(style_model), text(style_model, "noise")
    double = request(cfg_coef_beta=3.0)
    assert not torch.equal(
        sample(style_model, double, positive, styles=[tokens], negative=[away]),
        sample(style_model, double, positive, styles=[tokens]),
    )


def test_memory_counts_the_style_s_tokens_and_the_third_branch(style_model):
    def bytes_of(tokens, **changes):
        styles = [torch.zeros(tokens, 64)] if tokens else ()
        return Request(positive=[text(style_model)], params=request(**changes), styles=styles).bytes(style_model.config)

    assert bytes_of(0) < bytes_of(15) < bytes_of(15, cfg_coef_beta=5.0)
    assert bytes_of(0) == bytes_of(0, cfg_coef_beta=5.0)


def test_models_without_a_style_and_styles_without_a_model_are_refused(model, style_model, tokens):
    for name in ("hf-text", "hf-melody"):
        with pytest.raises(ValueError, match="has no style condition and was given a style"):
            model(name).generate(["rock"], request(), style=tokens)
        with pytest.raises(ValueError, match="load a style model"):
            model(name).encode_style(recording(), RATE)
    with pytest.raises(ValueError, match=r"shape \[15, 48\]; model 'audiocraft-style' needs \[tokens, 64\]"):
        style_model.generate(["rock"], request(), style=tokens[:, :48])
    with pytest.raises(ValueError, match="2 styles were given for a batch of 1"):
        style_model.generate(["rock"], request(), style=[tokens, tokens])
    with pytest.raises(ValueError, match="takes text only and was given a melody"):
        style_model.generate(["rock"], request(), melody=recording())
    with pytest.raises(ValueError, match="cfg_coef_beta is nan; allowed is a finite number"):
        request(cfg_coef_beta=math.nan)


def test_without_mert_descriptions_still_work_and_a_style_says_which_files_are_missing(tmp_path):
    folder = shutil.copytree(GOLDEN / "checkpoints" / "audiocraft-style", tmp_path / "style")
    m = load_model(folder, text_encoder_from=GOLDEN / "checkpoints" / "t5-text")
    assert m.generate(["rock"], request()).shape == (1, 4, 20)
    with pytest.raises(FileNotFoundError, match="m-a-p/MERT-v1-95M") as error:
        m.encode_style(recording(), RATE)
    sentence = str(error.value)
    assert all(word in sentence for word in ("config.json", "pytorch_model.bin", str(folder / "MERT-v1-95M")))
    assert sentence.endswith(".") and "\n" not in sentence


@pytest.mark.parametrize(
    "change", [{"model_type": "hubert"}, {"hidden_size": 1024}, {"sample_rate": 16000}, {"model_type": 5}]
)
def test_another_model_s_folder_is_not_taken_for_mert(tmp_path, change):
    write_mert(tmp_path / "MERT-v1-95M", **change)
    assert find_mert(24, tmp_path) is None


@pytest.mark.parametrize(
    "change", [{"deepnorm": True}, {"feature_extractor_cqt": True}, {"attention_relax": 32.0}, {"hidden_act": "relu"}]
)
def test_a_mert_with_options_that_do_not_exist_here_is_refused_by_name(tmp_path, change):
    write_mert(tmp_path / "MERT-v1-95M", **change)
    with pytest.raises(ValueError, match=next(iter(change))):
        find_mert(24, tmp_path)


def test_a_mert_that_is_cut_short_or_lacks_a_tensor_is_refused(tmp_path):
    folder = tmp_path / "MERT-v1-95M"
    write_mert(folder)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del weights["encoder.layers.1.final_layer_norm.bias"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 missing tensors, first encoder.layers.1.final_layer_norm.bias"):
        load_mert(find_mert(24, tmp_path), "cpu")
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="pytorch_model.bin"):
        load_mert(find_mert(24, tmp_path), "cpu")


def test_an_encodec_style_hears_the_codes_of_the_codec(style_model):
    """A conditioner over EnCodec's codes: the sum of a table per codebook, one row per code."""
    config = replace(
        style_model.config.style, features="encodec", feature_dim=64, feature_codebooks=3, sample_rate=RATE
    )
    conditioner = StyleConditioner(config, style_model.codec).eval()
    for weight in conditioner.parameters():
        torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
    conditioner.mean.zero_()
    conditioner.variance.fill_(1.0)
    wave = recording()
    codes = style_model.codec.encode(cut_excerpt(wave[0], RATE, 3.0, 2)[None, None], RATE)
    tables = conditioner.embed.weight.view(3, 64, 64)
    expected = sum(tables[k][codes[0, k]] for k in range(3))
    excerpt = cut_excerpt(wave[0], RATE, 3.0, 2)
    with torch.no_grad():
        torch.testing.assert_close(conditioner.embed_features(excerpt, RATE)[0], expected, atol=1e-6, rtol=0)
    assert conditioner.encode(wave, RATE, seed=2).shape == (10, 64)


def write_settings(folder, old, new):
    """Change a line of a checkpoint's settings."""
    contents = torch.load(folder / "state_dict.bin", weights_only=True)
    assert contents["xp.cfg"].count(old) == 1
    contents["xp.cfg"] = contents["xp.cfg"].replace(old, new)
    torch.save(contents, folder / "state_dict.bin")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("model_name: mert", "model_name: clap", "model_name is 'clap'; this pack implements mert, encodec"),
        ("batch_norm: true", "batch_norm: false", "batch_norm is False, which is not implemented"),
        ("eval_q: 3", "eval_q: 9", "eval_q is 9 and length 3; allowed are at most 6"),
        ("length: 3.0", "length: 30.0", "length 30; allowed are at most 6, the stored codebooks, and 1.5 to 4.5"),
        ("transformer_scale: xsmall", "transformer_scale: huge", "transformer_scale is 'huge'"),
        ("- 1.5\n      - 4.5", "- 1.5", "varying_lengths is .*; allowed are two numbers"),
        ("model: style", "model: lut", "self_wav is conditioned by 'lut'; this pack implements chroma_stem and style"),
        ("ds_factor: 15", "ds_factor: 0", "ds_factor is 0"),
    ],
)
def test_settings_of_a_style_that_make_no_sense_or_do_not_exist_here_are_refused(tmp_path, old, new, words):
    folder = shutil.copytree(GOLDEN / "checkpoints" / "audiocraft-style", tmp_path / "style")
    write_settings(folder, old, new)
    with pytest.raises(ValueError, match=words):
        load_model(folder, text_encoder_from=GOLDEN / "checkpoints" / "t5-text")


def test_a_style_whose_tensors_are_missing_or_misshaped_is_refused(tmp_path):
    folder = shutil.copytree(GOLDEN / "checkpoints" / "audiocraft-style", tmp_path / "style")
    contents = torch.load(folder / "state_dict.bin", weights_only=True)
    prefix = "condition_provider.conditioners.self_wav."
    for name, change, words in (
        ("batch_norm.running_var", None, "1 missing tensors, first .*batch_norm.running_var"),
        ("rvq.vq.layers.2._codebook.embed", torch.zeros(16, 64), r"1 misshaped tensors, first .*\[16, 64\]"),
        ("embed.weight", None, "lacks tensors of its style condition"),
    ):
        weights = {key: value for key, value in contents["best_state"].items() if key != prefix + name}
        if change is not None:
            weights[prefix + name] = change
        torch.save({**contents, "best_state": weights}, folder / "state_dict.bin")
        with pytest.raises(ValueError, match=words):
            load_model(folder, text_encoder_from=GOLDEN / "checkpoints" / "t5-text")


def test_bare_weights_of_a_style_model_are_known_by_their_tensors(tmp_path):
    folder = shutil.copytree(GOLDEN / "checkpoints" / "audiocraft-style", tmp_path / "style")
    weights = torch.load(folder / "state_dict.bin", weights_only=True)["best_state"]
    torch.save(weights, folder / "state_dict.bin")
    config = open_checkpoint(folder, text_encoder_from=GOLDEN / "checkpoints" / "t5-text").config
    assert config.style is not None and config.chroma is None and config.lm.style_dim == 64
    assert (config.style.features, config.style.num_codebooks, config.style.excerpt_length) == ("mert", 6, 3.0)
