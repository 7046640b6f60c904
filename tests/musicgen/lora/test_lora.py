"""LoRA: every dialect comes to the same weights, a model is left as it was, and what does not fit is named."""

from __future__ import annotations

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file

from musicgen import GenerationParams, load_model, read_lora
from musicgen.config import LMConfig, ModelConfig
from musicgen.lm.language_model import LMModel
from musicgen.lora.names import short_name, targets
from tests.conftest import GOLDEN, PROMPTS, golden_json, golden_model
from tests.lora_files import DIALECTS, RANK, draw_factors, kohya, merge, peft, save

TEXT = GOLDEN / "checkpoints" / "hf-text"


def greedy(m, prompt=PROMPTS[0]):
    return m.generate([prompt], GenerationParams(duration=0.4, use_sampling=False))


def same_weights(first, second):
    other = second.lm.state_dict()
    return all(torch.equal(weight, other[name]) for name, weight in first.lm.state_dict().items())


@pytest.fixture
def text():
    return golden_model("hf-text")


@pytest.fixture
def lora_file(tmp_path):
    return lambda tensors, name="mine.safetensors": save(tmp_path / "loras" / name, tensors)


@pytest.fixture
def peft_folder(tmp_path):
    """An adapter of the golden data, with some fields of its configuration changed."""

    def copy(kind="text", **fields):
        folder = shutil.copytree(GOLDEN / "loras" / kind, tmp_path / "adapter")
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")
        return folder

    return copy


@pytest.mark.parametrize("kind", ["text", "melody", "stereo"])
def test_an_adapter_of_peft_gives_the_codes_that_transformers_takes_with_it(kind):
    m = golden_model(f"hf-{kind}")
    lora = read_lora(GOLDEN / "loras" / kind, m.config)
    assert (lora.name, lora.unmatched, lora.warnings) == (kind, (), ())
    codes = greedy(m.with_lora(lora))
    assert torch.equal(codes, load_file(GOLDEN / "loras" / "tokens.safetensors")[kind].long())
    assert not torch.equal(codes, greedy(m))


# Of PEFT 0.21.2 with target_modules="all-linear": the greedy codes of the model that it merged.
ALL_LINEAR = [
    [61, 61, 61, 38, 38, 38, 61, 61, 8, 61, 8, 61, 8, 61, 61, 61, 61, 61, 52, 61],
    [42, 42, 42, 42, 42, 44, 42, 42, 42, 42, 42, 42, 52, 52, 42, 44, 52, 52, 52, 42],
    [36, 36, 36, 36, 9, 9, 36, 9, 36, 9, 36, 9, 25, 25, 9, 9, 36, 9, 36, 36],
    [28] * 20,
]


def test_an_adapter_of_every_linear_layer_changes_the_text_encoder_too(text):
    lora = read_lora(GOLDEN / "loras" / "all-linear", text.config)
    assert (lora.unmatched, lora.warnings, len(lora.text), len(lora.low_rank)) == ((), (), 12, 25)
    before = {name: weight.clone() for name, weight in text.text_encoder.t5.state_dict().items()}
    tuned = text.with_lora(lora)
    assert greedy(tuned, "calm piano")[0].tolist() == ALL_LINEAR
    assert all(torch.equal(weight, before[name]) for name, weight in text.text_encoder.t5.state_dict().items())
    left, own = tuned.text_encoder.t5.shared.weight, text.text_encoder.t5.shared.weight
    assert left.data_ptr() == own.data_ptr()
    assert greedy(text.with_lora(lora, 0.0), "calm piano").equal(greedy(text, "calm piano"))
    assert lora.without_text == (
        "LoRA all-linear: 12 of its 37 changes (32%) are for the text encoder and are left out here, so the music is "
        "not as it was trained.",
    )
    assert read_lora(GOLDEN / "loras" / "text", text.config).without_text == ()


def t5_names(prefix, separator="."):
    return lambda path: prefix + path.removeprefix("text_encoder.").replace(".", separator)


@pytest.mark.parametrize(
    "rename",
    [
        t5_names("text_encoder."),
        t5_names("module.text_encoder."),
        t5_names("lora_te_text_encoder_", "_"),
        t5_names("lora_te_", "_"),
        lambda path: "text_encoder." + path.removeprefix("text_encoder.encoder."),
        lambda path: "condition_provider.conditioners.description.t5." + path.removeprefix("text_encoder."),
    ],
)
def test_every_dialect_of_the_text_encoder_s_names_is_read(rename, text, lora_file):
    stored = load_file(GOLDEN / "loras" / "all-linear" / "adapter_model.safetensors")
    tensors = {}
    for name, tensor in stored.items():
        path, role = name.removeprefix("base_model.model.").split(".lora_")
        if path.startswith("text_encoder."):
            tensors[f"{rename(path)}.lora_{role}"] = 3.0 * tensor if role.startswith("B") else tensor
    lora = read_lora(lora_file(tensors), text.config)
    assert (lora.unmatched, len(lora.text), lora.low_rank) == ((), 12, ())
    whole = read_lora(GOLDEN / "loras" / "all-linear", text.config)
    found, wanted = (text.with_lora(one).text_encoder.t5.state_dict() for one in (lora, whole))
    assert all(torch.allclose(found[name], weight, atol=1e-6) for name, weight in wanted.items())


def as_bin(folder):
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def as_lightning(folder):
    tensors = {f"model.{name}": weight for name, weight in load_file(folder / "adapter_model.safetensors").items()}
    torch.save({"state_dict": tensors, "epoch": 1}, folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def nested(folder):
    (folder / "default").mkdir()
    for file in [*folder.glob("adapter_*")]:
        file.rename(folder / "default" / file.name)


def nested_bin(folder):
    as_bin(folder)
    nested(folder)


def with_mark(folder):
    path = folder / "adapter_config.json"
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-16")


def linked(folder):
    (folder.parent / "blob").write_bytes((folder / "adapter_model.safetensors").read_bytes())
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").symlink_to(folder.parent / "blob")


@pytest.mark.parametrize("change", [as_bin, as_lightning, nested, nested_bin, with_mark, linked])
def test_an_adapter_s_folder_is_read_as_people_have_it(change, text, peft_folder):
    folder = peft_folder()
    wanted = read_lora(folder, text.config)
    change(folder)
    found = read_lora(folder, text.config)
    assert scales(found) == scales(wanted) and found.warnings == wanted.warnings
    assert same_weights(text.with_lora(found), text.with_lora(wanted))


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
def test_a_file_that_pytorch_saved_is_read_without_running_it(suffix, text, tmp_path):
    tensors = kohya(draw_factors(TEXT))
    torch.save(tensors, tmp_path / f"mine{suffix}")
    found = read_lora(tmp_path / f"mine{suffix}", text.config)
    wanted = read_lora(save(tmp_path / "mine.safetensors", tensors), text.config)
    assert same_weights(text.with_lora(found), text.with_lora(wanted))


def test_of_several_adapters_in_a_folder_one_must_be_named(text, peft_folder):
    folder = peft_folder()
    nested(folder)
    shutil.copytree(folder / "default", folder / "other")
    with pytest.raises(ValueError, match=r"adapter holds 2 LoRAs, in default, other; give one of these folders"):
        read_lora(folder, text.config)


@pytest.mark.parametrize("kind", ["text", "melody", "stereo"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_model_whose_stored_weights_were_merged(dialect, kind, checkpoint_copy, lora_file):
    folder = checkpoint_copy(f"hf-{kind}")
    attention = "out" if dialect.startswith("audiocraft") else "."
    factors = draw_factors(folder, rf".*({attention}.*_proj|enc_to_dec_proj|fc\d|heads\.\d)")
    m = golden_model(f"hf-{kind}")
    lora = read_lora(lora_file(DIALECTS[dialect](factors)), m.config)
    merge(folder, factors, 1.0)
    merged, tuned = load_model(folder), m.with_lora(lora)
    assert lora.unmatched == () and len(lora.low_rank) == len(factors) > 8
    assert same_weights(tuned, merged) and not same_weights(tuned, m)


@pytest.mark.parametrize("kind", ["text", "melody", "stereo"])
def test_a_model_with_a_lora_takes_the_codes_of_the_model_whose_stored_weights_were_merged(
    kind, checkpoint_copy, lora_file
):
    folder = checkpoint_copy(f"hf-{kind}")
    factors, m = draw_factors(folder), golden_model(f"hf-{kind}")
    codes = greedy(m.with_lora(read_lora(lora_file(kohya(factors)), m.config), 0.7))
    merge(folder, factors, 2.0 * 0.7)
    assert torch.equal(codes, greedy(load_model(folder)))
    assert not torch.equal(codes, greedy(m))


def test_a_fused_projection_changes_its_queries_keys_and_values(text, checkpoint_copy, lora_file):
    """audiocraft has one in_proj_weight where transformers has q, k and v; in cross-attention we split it ourselves."""
    generator = torch.Generator().manual_seed(2)
    tensors, parts = {}, {}
    for ours, theirs in (("self_attn", "self_attn"), ("encoder_attn", "cross_attention")):
        up, down = torch.randn(144, 2, generator=generator), torch.randn(2, 48, generator=generator)
        tensors |= peft({f"transformer.layers.1.{theirs}.in_proj_weight": (up, down)})
        for letter, rows in zip("qkv", up.split(48), strict=True):
            parts[f"decoder.model.decoder.layers.1.{ours}.{letter}_proj"] = (rows, down)
    folder = checkpoint_copy("hf-text")
    merge(folder, parts, 1.0)
    merged = load_model(folder)
    assert same_weights(text.with_lora(read_lora(lora_file(tensors), text.config)), merged)
    # The same module as PEFT names it where it is torch's own attention.
    inside = {name.replace(".in_proj_weight", ".mha"): value for name, value in tensors.items()}
    assert same_weights(text.with_lora(read_lora(lora_file(inside), text.config)), merged)


def test_strength_scales_the_change_and_zero_is_the_model_itself(text, checkpoint_copy, lora_file):
    folder = checkpoint_copy("hf-text")
    factors = draw_factors(folder)
    lora = read_lora(lora_file(kohya(factors)), text.config)
    merge(folder, factors, 2.0 * -0.5)
    assert same_weights(text.with_lora(lora, -0.5), load_model(folder))
    assert same_weights(text.with_lora(lora, 0.0), text)
    with pytest.raises(ValueError, match="strength is nan"):
        text.with_lora(lora, float("nan"))


def test_a_model_with_a_lora_leaves_the_first_as_it_was_and_shares_the_rest(text, lora_file):
    before = {name: weight.clone() for name, weight in text.lm.state_dict().items()}
    lora = read_lora(lora_file(peft(draw_factors(TEXT, r".*heads\.1"))), text.config)
    tuned = text.with_lora(lora, 3.0)
    assert all(torch.equal(weight, before[name]) for name, weight in text.lm.state_dict().items())
    state = tuned.lm.state_dict()
    assert [name for name, weight in text.lm.state_dict().items() if weight.data_ptr() != state[name].data_ptr()] == [
        "head.weight"
    ]
    changed = (state["head.weight"] != before["head.weight"]).any(dim=1)
    assert changed[64:128].all() and not changed[:64].any() and not changed[128:].any()


def test_several_loras_add_up(text, checkpoint_copy, lora_file):
    folder = checkpoint_copy("hf-text")
    loras = []
    for seed in (1, 2):
        factors = draw_factors(folder, seed=seed)
        loras.append(read_lora(lora_file(kohya(factors), f"{seed}.safetensors"), text.config))
    for seed in (1, 2):
        merge(folder, draw_factors(folder, seed=seed), 2.0 * 0.5)
    assert same_weights(text.with_lora(loras[0], 0.5).with_lora(loras[1], 0.5), load_model(folder))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_rounded_once_after_the_change(dtype, lora_file):
    m, factors = load_model(TEXT, dtype=dtype), draw_factors(TEXT, r".*layers\.0\.fc1")
    tuned = m.with_lora(read_lora(lora_file(peft(factors)), m.config))
    ((up, down),) = factors.values()
    name = "transformer.layers.0.ffn_in.weight"
    wanted = (m.lm.state_dict()[name].float() + up @ down).to(dtype)
    assert torch.equal(tuned.lm.state_dict()[name], wanted)
    assert {weight.dtype for weight in tuned.lm.state_dict().values()} == {dtype}


def test_a_module_that_was_trained_whole_is_put_in_the_place_of_ours_by_the_strength(text, peft_folder):
    folder = peft_folder()
    stored = load_file(folder / "adapter_model.safetensors")["base_model.model.decoder.lm_heads.3.weight"]
    lora = read_lora(folder, text.config)
    own = text.lm.state_dict()["head.weight"][192:]
    for strength, wanted in ((1.0, stored), (0.25, 0.75 * own + 0.25 * stored)):
        head = text.with_lora(lora, strength).lm.state_dict()["head.weight"]
        torch.testing.assert_close(head[192:], wanted, atol=1e-6, rtol=0)


def test_norms_and_biases_that_were_trained_are_taken_too(text, lora_file):
    layer = "base_model.model.decoder.model.decoder.layers.1"
    whole = {f"{layer}.final_layer_norm.bias": "transformer.layers.1.norm_ffn.bias"}
    whole |= {f"{layer}.encoder_attn_layer_norm.weight": "transformer.layers.1.norm_cross.weight"}
    whole |= {"base_model.model.enc_to_dec_proj.modules_to_save.default.bias": "description_proj.bias"}
    tensors = peft(draw_factors(TEXT)) | {name: torch.full((48,), 3.0) for name in whole}
    lora = read_lora(lora_file(tensors), text.config)
    assert lora.unmatched == ()
    state = text.with_lora(lora).lm.state_dict()
    assert all(torch.equal(state[name], torch.full((48,), 3.0)) for name in whole.values())


def scales(lora):
    return {change.rows.parameter: change.scale for change in lora.low_rank}


def test_the_scale_is_alpha_by_rank_from_the_file_or_from_peft_s_configuration(text, lora_file, peft_folder):
    factors = draw_factors(TEXT)
    assert set(scales(read_lora(lora_file(kohya(factors, 1.5)), text.config)).values()) == {1.5 / RANK}
    found = scales(read_lora(peft_folder(alpha_pattern={"fc1": 5, "^decoder.lm_heads.0": 2}), text.config))
    assert found["transformer.layers.0.ffn_in.weight"] == 5 / 3
    assert found["transformer.layers.0.ffn_out.weight"] == 12 / 4
    assert found["head.weight"] == 12 / 4  # of the last head with factors; the first has a pattern
    rooted = read_lora(GOLDEN / "loras" / "melody", golden_model("hf-melody").config)
    assert scales(rooted)["transformer.layers.0.ffn_out.weight"] == pytest.approx(6 / 3**0.5)


def test_a_file_without_an_alpha_is_taken_at_scale_one_and_says_so(text, lora_file):
    lora = read_lora(lora_file(peft(draw_factors(TEXT))), text.config)
    assert set(scales(lora).values()) == {1.0}
    assert lora.warnings == (
        "LoRA mine.safetensors tells no alpha; it is taken for the rank, so that strength alone scales it.",
    )


def test_tensors_that_fit_nothing_are_named_and_left_out(text, lora_file):
    t5 = "text_encoder.encoder.block.{}.layer.0.SelfAttention.q"
    strangers = {t5.format(index): (torch.ones(32, 1), torch.ones(1, 32)) for index in (8, 9)}
    tensors = kohya(draw_factors(TEXT)) | peft(strangers) | {"oddity": torch.ones(2)}
    lora = read_lora(lora_file(tensors), text.config)
    assert len(lora.unmatched) == 5 and set(peft(strangers)) | {"oddity"} == set(lora.unmatched)
    texts, others = lora.warnings
    assert "4 tensors are for a text encoder, but fit nothing in this model's; they are left out" in texts
    assert next(iter(peft(strangers))) in texts
    assert "1 tensors fit nothing in this model; they are left out, first oddity." in others


def test_names_of_any_length_and_content_stay_a_short_line(text, lora_file):
    names = {"a" * 100_000 + ".lora_A": torch.ones(1), "x\n\ty.lora_B": torch.ones(1), "\u266b.alpha": torch.ones(1)}
    (line,) = read_lora(lora_file(kohya(draw_factors(TEXT)) | names), text.config).warnings
    assert len(line) < 400 and line.isascii() and line.isprintable()
    with pytest.raises(ValueError, match="no low-rank factors") as refused:
        read_lora(lora_file(names), text.config)
    assert len(str(refused.value)) < 400 and str(refused.value).isprintable()


def test_a_text_model_s_lora_on_a_melody_model_names_the_cross_attention_it_lacks(lora_file):
    lora = read_lora(lora_file(kohya(draw_factors(TEXT))), golden_model("hf-melody").config)
    assert len(lora.unmatched) == 2 * 4 * 3 and all("encoder_attn" in name for name in lora.unmatched)


HEAD, DOWN, UP = "decoder.lm_heads.0", "decoder.lm_heads.0.lora_down.weight", "decoder.lm_heads.0.lora_up.weight"
PAIR = {DOWN: torch.ones(2, 48), UP: torch.ones(64, 2)}
TURNED = {f"{HEAD}.lora_embedding_A": torch.ones(2, 64), f"{HEAD}.lora_embedding_B": torch.ones(48, 2)}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "holds no low-rank factors for this model: it has 0 tensors, first none"),
        (
            {f"unet.block.{i}.to_q.lora_down.weight": torch.ones(1, 4) for i in range(7)},
            "has 7 tensors, first unet.block.0.to_q.lora_down.weight, .*unet.block.4.to_q.lora_down.weight. Choose",
        ),
        ({f"{HEAD}.weight": torch.ones(64, 48)}, "no low-rank factors for this model: it has 1 tensors"),
        ({DOWN: torch.ones(2, 48)}, f"{DOWN} without its other factor"),
        ({UP: torch.ones(64, 2)}, f"{UP} without its other factor"),
        (PAIR | {UP: torch.ones(64, 3)}, rf"{DOWN} and {UP} are \[2, 48\] and \[64, 3\] where \[rank, inputs\]"),
        (PAIR | {DOWN: torch.ones(0, 48), UP: torch.ones(64, 0)}, r"are \[0, 48\] and \[64, 0\]"),
        (PAIR | {DOWN: torch.ones(96)}, r"are \[96\] and \[64, 2\]"),
        (
            PAIR | {UP: torch.ones(65, 2)},
            rf"{DOWN} changes a weight of \[65, 48\], where this model has \[64, 48\]\. Use",
        ),
        (
            PAIR | {DOWN: torch.ones(2, 72)},
            r"\[64, 72\], where this model has \[64, 48\]; the LoRA was made for a model that is 72 wide, and this one "
            "is 48 wide",
        ),
        (PAIR | {DOWN: torch.full((2, 48), torch.nan)}, f"{DOWN} holds NaN"),
        (PAIR | {UP: torch.full((64, 2), torch.inf)}, f"{UP} holds NaN, infinity"),
        (PAIR | {UP: torch.ones(64, 2, dtype=torch.int8)}, f"{UP} holds .*no fractions"),
        (PAIR | {f"{HEAD}.alpha": torch.tensor(torch.nan)}, "alpha is nan; allowed is one finite number"),
        (PAIR | {f"{HEAD}.alpha": torch.ones(2)}, r"alpha is \[1.0, 1.0\]; allowed"),
        (PAIR | {f"{HEAD}.weight": torch.ones(3, 3)}, r"lm_heads.0.weight changes a weight of \[3, 3\]"),
        (PAIR | {f"{HEAD}.bias": torch.ones(64), "x.lora_magnitude_vector": torch.ones(2)}, r"kind DoRA \(x\.lora_mag"),
        (PAIR | {f"{HEAD}.dora_scale": torch.ones(2)}, "kind DoRA"),
        ({f"{HEAD}.lokr_w1": torch.ones(2, 2)}, "kind LoKr"),
        ({f"{HEAD}.hada_w1_a": torch.ones(2, 2)}, "kind LoHa"),
        ({f"{HEAD}.ia3_l": torch.ones(2, 2)}, "kind IA3"),
        ({f"{HEAD}.oft_R.weight": torch.ones(2, 2)}, "kind OFT"),
        ({f"{HEAD}.a1.weight": torch.ones(2, 2)}, "kind GLoRA"),
        (PAIR | {f"{HEAD}.lora_B.bias": torch.ones(64)}, "kind LoRA with biases of its own"),
        (PAIR | {f"{HEAD}.lora_mid.weight": torch.ones(2, 2)}, "kind LoRA with Tucker cores"),
        (PAIR | {f"{HEAD}.lora_A.weight": torch.ones(2, 48)}, "holds both .*; a file may hold one LoRA only"),
        (
            PAIR | {"linears.0.lora_A": torch.ones(2, 48), "linears.0.lora_B": torch.ones(64, 2)},
            "are for one weight; a file may hold one LoRA only",
        ),
    ],
)
def test_a_lora_that_cannot_be_used_is_refused_by_the_tensor_s_name(tensors, words, text, lora_file):
    with pytest.raises(ValueError, match=words) as refused:
        read_lora(lora_file(tensors), text.config)
    assert "\n" not in str(refused.value) and "mine.safetensors" in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"peft_type": "LOHA"}, "of the kind LOHA; only plain LoRA"),
        ({"use_dora": True}, "of the kind DoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
        ({"lora_alpha": "many"}, "lora_alpha is 'many'; allowed is a number between"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"alpha_pattern": ["fc1"]}, "alpha_pattern is"),
        ({"alpha_pattern": {"fc1": True}}, "alpha of fc1 is True"),
        ({"alpha_pattern": {"(": 1}}, r"alpha_pattern has '\('"),
        ({"alpha_pattern": {"(a*)*b": 1}}, "allowed are names of modules and simple patterns"),
    ],
)
def test_a_configuration_of_another_kind_is_refused_by_field(fields, words, text, peft_folder):
    with pytest.raises(ValueError, match=words) as refused:
        read_lora(peft_folder(**fields), text.config)
    assert "adapter_config.json" in str(refused.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000])
def test_a_configuration_that_is_no_json_object_is_refused(content, text, peft_folder):
    folder = peft_folder()
    (folder / "adapter_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="adapter_config.json"):
        read_lora(folder, text.config)


def test_a_place_without_a_lora_is_refused_with_what_is_allowed(text, tmp_path, peft_folder):
    with pytest.raises(FileNotFoundError, match=r"nothing.safetensors does not exist; give a .safetensors file or a"):
        read_lora(tmp_path / "nothing.safetensors", text.config)
    with pytest.raises(ValueError, match="lora.gguf is no LoRA that can be read"):
        read_lora(save(tmp_path / "lora.gguf", PAIR), text.config)
    folder = peft_folder()
    (folder / "adapter_model.safetensors").rename(folder / "adapter.safetensors")
    with pytest.raises(FileNotFoundError, match="lacks adapter_model.safetensors or adapter_model.bin"):
        read_lora(folder, text.config)


def test_the_file_of_a_peft_folder_finds_its_configuration_and_another_file_beside_it_does_not(text, peft_folder):
    folder = peft_folder()
    assert scales(read_lora(folder / "adapter_model.safetensors", text.config))["description_proj.weight"] == 3.0
    (folder / "adapter_model.safetensors").rename(folder / "other.safetensors")
    assert scales(read_lora(folder / "other.safetensors", text.config))["description_proj.weight"] == 1.0


def test_a_damaged_file_is_refused_or_read_and_nothing_else_happens(text, lora_file):
    """200 files: cut short, with bytes changed in the header, with bytes changed anywhere."""
    file = lora_file(kohya(draw_factors(TEXT)))
    whole = file.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    draw, refused = random.Random(5), 0
    for number in range(200):
        data = bytearray(whole)
        if number % 4 == 0:
            data = data[: draw.randrange(len(data))]
        for _ in range(number % 4 and draw.choice((1, 4, 30))):
            data[draw.randrange(8 + header if number % 4 < 3 else len(data))] = draw.randrange(256)
        file.write_bytes(data)
        try:
            read_lora(file, text.config)
        except ValueError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("name", ["small", "melody", "stereo-small"])
def test_every_weight_of_the_released_models_can_be_changed_and_no_row_twice(name):
    """The modules that PEFT can name, at the released sizes, without memory."""
    stored = golden_json(f"real_keys/hf_keys_{name}.json")
    config = _released_config(stored)
    shapes = {key: tuple(t.shape) for key, t in LMModel(config.lm, device="meta").state_dict().items()}
    table = targets(config, shapes)
    covered = dict.fromkeys(shapes, 0)
    for key, shape in stored.items():
        path, _, kind = key.rpartition(".")
        if not key.startswith(("text_encoder.", "audio_encoder.")) and "embed_positions" not in key:
            (rows,) = table[short_name(path), kind]
            assert (rows.count, *shapes[rows.parameter][1:]) == tuple(shape)
            covered[rows.parameter] += rows.count
    assert covered == {key: shape[0] for key, shape in shapes.items()}


def _released_config(stored) -> ModelConfig:
    decoder = "decoder.model.decoder"
    dim, text_dim = stored["enc_to_dec_proj.weight"]
    layers = sum(key.endswith("fc1.weight") for key in stored)
    K = sum(".lm_heads." in key for key in stored)
    lm = LMConfig(
        dim=dim,
        num_layers=layers,
        num_heads=dim // 64,
        ffn_dim=stored[f"{decoder}.layers.0.fc1.weight"][0],
        num_codebooks=K,
        card=2048,
        cross_attention=f"{decoder}.layers.0.encoder_attn.q_proj.weight" in stored,
        text_dim=text_dim,
        text_projection=True,
        chroma_dim=12 if "audio_enc_to_dec_proj.weight" in stored else None,
        style_dim=None,
    )
    codec = golden_model("hf-text").config.codec
    return ModelConfig("released", lm, codec, {}, None, None, 1, tuple(range(K)), 30.0, 18.0)
