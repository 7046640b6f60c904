"""audiocraft's layout: the language model's file, its settings, and the codec and text encoder that lie apart."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from musicgen import GenerationParams, load_model, save_checkpoint
from musicgen.checkpoints.layouts import audiocraft
from musicgen.checkpoints.layouts.audiocraft_file import SolverFile, read_solver_file
from musicgen.generation.patterns import (
    coarse_first_pattern,
    delay_pattern,
    flatten_pattern,
    musiclm_pattern,
    trained_pattern,
    trained_pattern_name,
)
from musicgen.generation.request import Request
from tests.conftest import GOLDEN, PROMPTS, golden_json
from tests.musicgen.checkpoints.test_checkpoints import records, released_config

CHECKPOINTS = GOLDEN / "checkpoints"
LM, CODEC, T5 = "state_dict.bin", "compression_state_dict.bin", "t5-base"


def edit(folder, change, file=LM):
    """Change the tensors and the settings of a file."""
    package = torch.load(folder / file, weights_only=True)
    settings = yaml.safe_load(package["xp.cfg"])
    change(package["best_state"], settings)
    torch.save(package | {"xp.cfg": yaml.safe_dump(settings)}, folder / file)


def set_setting(settings, name, value):
    *path, last = name.split(".")
    for part in path:
        settings = settings[part]
    settings[last] = value


def greedy(model):
    return model.generate([PROMPTS[0]], GenerationParams(duration=0.2, use_sampling=False))


def same(one, other):
    """Whether two models are equal to the bit."""
    pairs = [(getattr(one, part).state_dict(), getattr(other, part).state_dict()) for part in PARTS]
    return all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in pairs)


PARTS = ("lm", "text_encoder", "codec")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("transformer_lm.positional_embedding", "rope", "positional_embedding is 'rope', which is not implemented"),
        ("transformer_lm.positional_embedding", "sin_rope", "positional_embedding is 'sin_rope'"),
        ("transformer_lm.xpos", True, "xpos is True"),
        ("transformer_lm.qk_layer_norm", True, "qk_layer_norm is True"),
        ("transformer_lm.qk_layer_norm_cross", True, "qk_layer_norm_cross is True"),
        ("transformer_lm.kv_repeat", 2, "kv_repeat is 2, which is not implemented; allowed is 1"),
        ("transformer_lm.past_context", 100, "past_context is 100"),
        ("transformer_lm.layer_scale", 1e-4, "layer_scale is 0.0001"),
        ("transformer_lm.norm_first", False, "norm_first is False"),
        ("transformer_lm.norm", "rms_norm", "norm is 'rms_norm'"),
        ("transformer_lm.activation", "relu", "activation is 'relu'"),
        ("transformer_lm.bias_ff", True, "bias_ff is True"),
        ("transformer_lm.bias_attn", True, "bias_attn is True"),
        ("transformer_lm.bias_proj", True, "bias_proj is True"),
        ("transformer_lm.causal", False, "causal is False"),
        ("transformer_lm.num_layers", 10**9, "num_layers is 1000000000"),
        ("transformer_lm.n_q", 5, "the model needs 5 x 64"),
        ("transformer_lm.n_q", 2, "of 2 codebooks.*has 4"),
        ("lm_model", "transformer_lm_magnet", "lm_model is 'transformer_lm_magnet'"),
        ("fuser.cross_attention_pos_emb", True, "cross_attention_pos_emb is True"),
        ("fuser.sum", ["description"], "sum is"),
        ("fuser.input_interpolate", ["description"], "input_interpolate is"),
        ("fuser.cross", ["description", "self_wav"], "cross is"),
        ("fuser.prepend", ["description"], "prepend is"),
        ("conditioners.description.model", "clap", "conditioned by 'clap'; this pack implements t5"),
        ("conditioners.description.t5.finetune", True, "finetune is True"),
        ("conditioners.description.t5.normalize_text", True, "normalize_text is True"),
        ("codebooks_pattern.modeling", "spiral", "modeling is 'spiral'; this pack implements delay, parallel, unroll"),
        ("codebooks_pattern.delay.flatten_first", -1, "flatten_first is -1; allowed is a whole number from 0 to 1000"),
        ("codebooks_pattern.delay.empty_initial", -1, "empty_initial is -1; allowed is a whole number from 0 to 1000"),
        ("codebooks_pattern.delay.delays", [0, 1, 2], "allowed are 4"),
        ("interleave_stereo_codebooks.per_timestep", True, "per_timestep is True"),
        ("interleave_stereo_codebooks.use", True, "channels is 1"),
        ("channels", 2, "channels is 2"),
        ("sample_rate", 16000, "at 32000 Hz; the model needs 4 x 64 at 16000 Hz"),
    ],
)
def test_settings_that_are_not_implemented_are_refused_by_name(name, value, words, checkpoint_copy):
    folder = checkpoint_copy("audiocraft-text")
    edit(folder, lambda _, settings: set_setting(settings, name, value))
    with pytest.raises(ValueError, match=words):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("compression_model", "dac", "compression_model is 'dac'"),
        ("encodec.renormalize", True, "renormalize is True"),
        ("encodec.quantizer", "no_quant", "quantizer is 'no_quant'"),
        ("seanet.norm", "time_group_norm", "norm is 'time_group_norm'"),
        ("seanet.activation", "ReLU", "activation is 'ReLU'"),
        ("seanet.decoder.final_activation", "Tanh", "final_activation is 'Tanh'"),
        ("seanet.pad_mode", "wrap", "pad_mode is 'wrap'"),
        ("seanet.ratios", [8, 5, 4, 0], "ratios is"),
        ("rvq.n_q", 2, "has 2 x 64 codes"),
        ("channels", 2, "channels is 2"),
    ],
)
def test_so_are_those_of_the_codec(name, value, words, checkpoint_copy):
    folder = checkpoint_copy("audiocraft-text")
    edit(folder, lambda _, settings: set_setting(settings, name, value), CODEC)
    with pytest.raises(ValueError, match=words):
        load_model(folder)


def test_a_melody_model_that_calls_itself_a_style_model_is_refused_in_one_sentence(checkpoint_copy):
    folder = checkpoint_copy("audiocraft-melody")
    edit(folder, lambda _, settings: set_setting(settings, "conditioners.self_wav.model", "style"))
    with pytest.raises(ValueError, match="lacks tensors of its style condition"):
        load_model(folder)


def test_references_between_settings_are_followed_and_nothing_else_is(tmp_path):
    text = """
rate: 16000
a: {b: "${rate}", c: "${a.b}", list: ["${flag}", "x ${rate}"]}
flag: true
circle: "${circle}"
nowhere: "${a.z.y}"
table: "${a}"
environment: "${oc.env:HOME}"
"""
    torch.save({"best_state": {}, "xp.cfg": text}, tmp_path / LM)
    assert read_solver_file(tmp_path / LM).settings == {
        "rate": 16000,
        "a": {"b": 16000, "c": 16000, "list": [True, "x ${rate}"]},
        "flag": True,
        "circle": "${circle}",
        "nowhere": "${a.z.y}",
        "table": "${a}",
        "environment": "${oc.env:HOME}",
    }


def test_settings_that_multiply_through_anchors_are_refused(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    torch.save({"best_state": {}, "xp.cfg": "\n".join(lines)}, tmp_path / LM)
    with pytest.raises(ValueError, match="too many"):
        read_solver_file(tmp_path / LM)


@pytest.mark.parametrize("name", ["small", "melody", "stereo-small"])
def test_bare_weights_tell_the_numbers_of_released_models_by_their_shapes(name):
    expected = released_config(name, golden_json(f"real_keys/hf_keys_{name}.json"))
    stored = records(golden_json(f"real_keys/audiocraft_keys_{name}.json"))
    settings = audiocraft.settings_of_shapes(SolverFile(stored.where, {}, stored, None))
    solver = SolverFile(stored.where, settings, stored, None)
    assert audiocraft.lm_config(solver.fields, stored.shapes()) == expected.lm
    delays = settings["codebooks_pattern"]["delay"]["delays"]
    assert delays == ([0, 0, 1, 1, 2, 2, 3, 3] if "stereo" in name else [0, 1, 2, 3])


def test_bare_weights_in_a_file_of_any_name_load(checkpoint_copy):
    folder = checkpoint_copy("audiocraft-text")
    torch.save(torch.load(folder / LM, weights_only=True)["best_state"], folder / "tune.pt")
    (folder / LM).unlink()
    model = load_model(folder / "tune.pt")
    assert model.config.name == "tune" and model.config.lm.dim == 48
    assert greedy(model).shape == (1, 4, 10)


def test_a_trainer_s_own_checkpoint_loads(checkpoint_copy, model):
    folder = checkpoint_copy("audiocraft-text")
    package = torch.load(folder / LM, weights_only=True)
    package["best_state"] = {"model": package["best_state"]}
    torch.save({**package, "optimizer": {"state": {0: {"step": 1}}}, "history": []}, folder / "checkpoint.th")
    assert same(load_model(folder / "checkpoint.th"), model("audiocraft-text"))


def test_weights_in_half_precision_load_into_any_precision(checkpoint_copy, model):
    folder = checkpoint_copy("audiocraft-text")
    edit(folder, lambda tensors, _: tensors.update({key: value.half() for key, value in tensors.items()}))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        loaded = load_model(folder, dtype=dtype).lm.state_dict()
        for key, value in model("audiocraft-text").lm.state_dict().items():
            assert torch.equal(loaded[key], value.half().to(dtype))


def test_the_names_of_attention_that_is_not_memory_efficient_are_known(checkpoint_copy, model):
    def rename(tensors, _):
        for key in [key for key in tensors if "attn." in key or "attention." in key]:
            head, tail = key.split(".in_proj" if ".in_proj" in key else ".out_proj")
            tensors[f"{head}.mha.{'in_proj' if '.in_proj' in key else 'out_proj'}{tail}"] = tensors.pop(key)

    folder = checkpoint_copy("audiocraft-text")
    edit(folder, rename)
    assert same(load_model(folder), model("audiocraft-text"))


def test_a_model_may_use_fewer_codebooks_than_its_codec_has(checkpoint_copy):
    def halve(tensors, settings):
        for k in (2, 3):
            del tensors[f"emb.{k}.weight"], tensors[f"linears.{k}.weight"]
        settings["transformer_lm"]["n_q"] = settings["compression_model_n_q"] = 2
        settings["codebooks_pattern"]["modeling"] = "parallel"

    folder = checkpoint_copy("audiocraft-text")
    edit(folder, halve)
    model = load_model(folder)
    assert model.config.delays == (0, 0) and model.config.codec.num_codebooks == 2
    assert model.decode(greedy(model)).shape == (1, 1, 6400)


def test_an_audiogen_model_loads_like_any_other(checkpoint_copy):
    """16 kHz, ratios 8, 5, 4, 2, ten seconds, T5-large: here with the widths of the tiny model."""

    def slow(tensors, settings):
        settings["sample_rate"] = 16000
        settings["dataset"]["segment_duration"] = 10
        settings["conditioners"]["description"]["t5"]["name"] = "t5-large"

    def slow_codec(tensors, settings):
        settings["sample_rate"] = 16000
        settings["seanet"]["ratios"] = [8, 5, 4, 2]
        for key in ("encoder.model.3.conv.conv.weight_v", "decoder.model.12.convtr.convtr.weight_v"):
            tensors[key] = tensors[key][..., :4].clone()

    folder = checkpoint_copy("audiocraft-text")
    edit(folder, slow)
    edit(folder, slow_codec, CODEC)
    model = load_model(folder)
    assert (model.sample_rate, model.frame_rate, model.config.window) == (16000, 50, 10.0)
    codes = greedy(model)
    assert model.decode(codes).shape == (1, 1, 10 * 320)
    assert torch.equal(codes, greedy(load_model(CHECKPOINTS / "audiocraft-text")))


def encodec_folder(folder, weights="model.safetensors"):
    """EnCodec alone, as transformers writes it, out of a golden model."""
    tensors = load_file(CHECKPOINTS / "hf-text" / "model.safetensors")
    config = json.loads((CHECKPOINTS / "hf-text" / "config.json").read_text(encoding="utf-8"))["audio_encoder"]
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    prefix = "audio_encoder."
    mine = {k.removeprefix(prefix): v.contiguous() for k, v in tensors.items() if k.startswith(prefix)}
    save_file(mine, folder / weights) if weights.endswith("safetensors") else torch.save(mine, folder / weights)
    return folder


def point(folder):
    torch.save({"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.3.0"}, folder / CODEC)


def drop(folder):
    (folder / CODEC).unlink()


@pytest.mark.parametrize("without", [point, drop])
@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_the_codec_is_taken_from_a_folder_beside_or_given(without, weights, checkpoint_copy, model, tmp_path):
    folder = checkpoint_copy("audiocraft-text")
    without(folder)
    with pytest.raises(FileNotFoundError, match=r"has no codec of its own: it needs .* 4 x 64 codes at 32000 Hz"):
        load_model(folder)
    far = tmp_path / "far"
    far.mkdir()
    codec = encodec_folder(far / "encodec_32khz", weights)
    for found in (
        load_model(folder, codec_from=codec),
        load_model(folder, search=[far]),
        load_model(folder, codec_from=CHECKPOINTS / "hf-text"),
        load_model(folder, codec_from=CHECKPOINTS / "audiocraft-text" / CODEC),
    ):
        assert same(found, model("audiocraft-text"))
    shutil.copytree(CHECKPOINTS / "audiocraft-text", tmp_path / "another")
    assert same(load_model(folder), model("audiocraft-text"))


def test_the_codec_that_is_named_comes_before_others_that_fit(checkpoint_copy, model, tmp_path):
    folder = checkpoint_copy("audiocraft-text")
    point(folder)
    shutil.copytree(CHECKPOINTS / "audiocraft-melody", tmp_path / "a-model-with-another-codec")
    assert not same(load_model(folder), model("audiocraft-text"))
    encodec_folder(tmp_path / "encodec_32khz")
    assert same(load_model(folder), model("audiocraft-text"))


def test_a_codec_that_does_not_fit_or_only_points_elsewhere_is_refused(checkpoint_copy, tmp_path):
    folder = checkpoint_copy("audiocraft-text")
    other = encodec_folder(tmp_path / "other")
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps(config | {"sampling_rate": 24000}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"codes at 24000 Hz; the model needs 4 x 64 at 32000 Hz"):
        load_model(folder, codec_from=other)
    point(folder)
    with pytest.raises(ValueError, match="only points to facebook/encodec_32khz; give the folder of that codec"):
        load_model(folder, codec_from=folder)


@pytest.fixture
def alone(checkpoint_copy, tmp_path):
    """A model without its text encoder, and that text encoder elsewhere."""
    folder = checkpoint_copy("audiocraft-text")
    away = tmp_path / "away"
    away.mkdir()
    return folder, (folder / T5).rename(away / T5)


def test_the_text_encoder_is_found_where_it_may_be(alone, model, tmp_path):
    folder, t5 = alone
    with pytest.raises(FileNotFoundError, match=r"needs the text encoder t5-base of width 32.*put its config\.json"):
        load_model(folder)
    expected = model("audiocraft-text")
    assert same(load_model(folder, text_encoder_from=t5), expected)
    assert same(load_model(folder, search=[tmp_path / "nowhere", t5.parent]), expected)
    assert same(load_model(folder, search=[t5]), expected)
    for file in t5.iterdir():
        shutil.copy(file, folder)
    assert same(load_model(folder), expected)


def test_the_text_encoder_is_found_in_the_local_cache(alone, model, tmp_path, monkeypatch):
    folder, t5 = alone
    repository = tmp_path / "hub" / "models--google-t5--t5-base"
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123", encoding="utf-8")
    (repository / "blobs").mkdir()
    for number, file in enumerate(t5.iterdir()):
        shutil.copy(file, repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert same(load_model(folder), model("audiocraft-text"))


def prefixed(tensors):
    """As T5ForConditionalGeneration has them: with a decoder and a head."""
    layer = "block.0.layer.0.SelfAttention.q.weight"
    more = {f"decoder.{layer}": tensors[f"encoder.{layer}"].clone(), "lm_head.weight": tensors["shared.weight"].clone()}
    return tensors | more | {"encoder.embed_tokens.weight": tensors["shared.weight"].clone()}


def bare(tensors):
    """As T5's encoder alone has them."""
    names = {key: key.removeprefix("encoder.") for key in tensors} | {"shared.weight": "embed_tokens.weight"}
    return {names[key]: value for key, value in tensors.items()}


@pytest.mark.parametrize("rename", [prefixed, bare, dict])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "t5-base.safetensors"])
def test_the_text_encoder_s_weights_may_be_named_and_stored_in_any_usual_way(rename, file, alone, model):
    folder, t5 = alone
    tensors = rename(load_file(t5 / "model.safetensors"))
    (t5 / "model.safetensors").unlink()
    if file == "t5-base.safetensors":  # a file alone: its numbers are told by the shapes
        (t5 / "config.json").unlink()
        save_file(tensors, t5.parent / file)
        states = load_model(folder, search=[t5.parent]).text_encoder.encode(["rock"]).states
        # The tiny encoder has other distances than every real T5.
        assert torch.allclose(states, model("audiocraft-text").text_encoder.encode(["rock"]).states, atol=1e-5)
        return
    save_file(tensors, t5 / file) if file.endswith("safetensors") else torch.save(tensors, t5 / file)
    assert same(load_model(folder, search=[t5.parent]), model("audiocraft-text"))


def test_a_text_encoder_of_another_kind_is_refused(alone):
    folder, t5 = alone
    config = json.loads((t5 / "config.json").read_text(encoding="utf-8"))
    for change, words in (
        (
            {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "is_gated_act": True},
            "width 32 with gated-gelu; the model was trained with t5-base",
        ),
        ({"d_model": 48}, "is a T5 of width 48.*of width 32"),
        ({"model_type": "bert"}, "model_type is 'bert'"),
    ):
        (t5 / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
        with pytest.raises(ValueError, match=words):
            load_model(folder, text_encoder_from=t5)
        with pytest.raises(FileNotFoundError, match="needs the text encoder t5-base"):
            load_model(folder, search=[t5.parent])


def test_a_folder_with_both_layouts_is_read_as_hugging_face_s(checkpoint_copy, model):
    folder = checkpoint_copy("hf-text")
    for file in (LM, CODEC):
        shutil.copy(CHECKPOINTS / "audiocraft-melody" / file, folder)
    assert same(load_model(folder), model("hf-text"))
    for file in (LM, CODEC):
        shutil.copy(CHECKPOINTS / "audiocraft-text" / file, folder)
    (folder / "model.safetensors").unlink()
    assert load_model(folder, text_encoder_from=CHECKPOINTS / "audiocraft-text" / T5).config.name == "hf-text"


PATTERNS = {
    "flatten": {"modeling": "unroll", "unroll": {"flattening": [0, 1, 2, 3], "delays": [0, 0, 0, 0]}},
    "partial_flatten": {"modeling": "unroll", "unroll": {"flattening": [0, 1, 1, 1], "delays": [0, 0, 0, 0]}},
    "coarse_first": {"modeling": "coarse_first", "coarse_first": {"delays": [0, 0, 0]}},
    "musiclm": {"modeling": "music_lm", "music_lm": {"group_by": 2}},
    "parallel": {"modeling": "parallel"},
    "partial_delay": {"modeling": "delay", "delay": {"delays": [0, 1, 1, 1]}},
}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_model_trained_on_another_pattern_samples_by_it(name, checkpoint_copy, model, tmp_path):
    folder, plain = checkpoint_copy("audiocraft-text"), model("audiocraft-text")
    edit(folder, lambda _, settings: settings["codebooks_pattern"].update(PATTERNS[name]))
    found = load_model(folder)
    config = found.config
    assert trained_pattern_name(config.delays, 1, config.pattern) == name
    # In two windows, with a prompt from the first to the second.
    params = GenerationParams(duration=0.4, use_sampling=False, window=0.3, extend_stride=0.2)
    wanted = plain.generate(["calm"], replace(params, pattern=name))
    assert torch.equal(found.generate(["calm"], params), wanted)
    save_checkpoint(found, tmp_path / "one.safetensors")
    assert torch.equal(load_model(tmp_path / "one.safetensors").generate(["calm"], params), wanted)
    condition = plain.text_encoder.encode(["calm"])
    own, by_name = (
        Request(params=params, positive=[condition]),
        Request(params=replace(params, pattern=name), positive=[condition]),
    )
    assert own.steps(config) == by_name.steps(plain.config) and own.bytes(config) == by_name.bytes(plain.config)


@pytest.mark.parametrize(
    ("changes", "layout"),
    [
        ({"delay": {"flatten_first": 2}}, delay_pattern(5, [0, 1, 2, 3], flatten_first=2)),
        ({"delay": {"empty_initial": 3}}, delay_pattern(5, [0, 1, 2, 3], empty_initial=3)),
        (
            {"modeling": "unroll", "unroll": {"flattening": [0, 1, 1, 1], "delays": [0, 3, 3, 3]}},
            flatten_pattern(5, [0, 1, 1, 1], [0, 3, 3, 3]),
        ),
        (
            {"modeling": "coarse_first", "coarse_first": {"delays": [0, 1, 2]}},
            coarse_first_pattern(5, 4, delays=[0, 1, 2]),
        ),
        ({"modeling": "music_lm", "music_lm": {"group_by": 4}}, musiclm_pattern(5, 4, 4)),
    ],
)
def test_the_numbers_of_a_pattern_are_those_of_the_settings(changes, layout, checkpoint_copy, tmp_path):
    folder = checkpoint_copy("audiocraft-text")
    edit(folder, lambda _, settings: settings["codebooks_pattern"].update(changes))
    found = load_model(folder)
    save_checkpoint(found, tmp_path / "one.safetensors")
    for config in (found.config, load_model(tmp_path / "one.safetensors").config):
        assert trained_pattern(5, config.delays, config.pattern) == layout
    assert greedy(found).shape == (1, 4, 10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modeling": "music_lm", "music_lm": {"group_by": 3}}, "group_by is 3; allowed are divisors of 4"),
        (
            {"modeling": "coarse_first", "coarse_first": {"delays": [0, 1]}},
            r"delays is \[0, 1\]; allowed are 3 that do",
        ),
        ({"modeling": "unroll", "unroll": {"flattening": [0, 1, 1]}}, r"flattening is \[0, 1, 1\] with delays"),
        ({"modeling": "unroll", "unroll": {"flattening": [0, 1, 1, 9]}}, "allowed is a list of 1 to 512 whole numbers"),
        (
            {"modeling": "unroll", "unroll": {"flattening": [0, 1, 1, 1], "delays": [0, 1, 2, 2]}},
            "allowed are 4 columns, each with one delay",
        ),
    ],
)
def test_numbers_that_make_no_pattern_are_refused(changes, words, checkpoint_copy):
    folder = checkpoint_copy("audiocraft-text")
    edit(folder, lambda _, settings: settings["codebooks_pattern"].update(changes))
    with pytest.raises(ValueError, match=words):
        load_model(folder)
