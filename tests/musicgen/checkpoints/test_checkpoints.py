"""Loading: strict about names and shapes, clear about damage, frugal with memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from musicgen import GenerationParams, load_model
from musicgen.checkpoints.checkpoint import Part
from musicgen.checkpoints.files.tensors import StoredTensors, TensorRecord, check_tensors
from musicgen.checkpoints.layouts import audiocraft, huggingface
from musicgen.checkpoints.layouts.audiocraft_file import read_solver_file
from musicgen.checkpoints.parts.codec import codec_part
from musicgen.codec.encodec import EnCodec
from musicgen.conditioning.text import TextEncoder
from musicgen.config import CodecConfig, LMConfig, ModelConfig
from musicgen.lm.language_model import LMModel
from tests.conftest import GOLDEN, golden_json


def edit_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)


def edit_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


HEAD = "decoder.lm_heads.0.weight"


def remove_heads(tensors):
    for codebook in range(4):
        del tensors[f"decoder.lm_heads.{codebook}.weight"]


def add_strangers(tensors):
    for number in range(7):
        tensors[f"decoder.extra.{number}"] = torch.zeros(2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove_heads, "4 missing tensors, first decoder.lm_heads.0.weight, decoder.lm_heads.1.weight"),
        (
            add_strangers,
            "7 unknown tensors, first decoder.extra.0, decoder.extra.1, decoder.extra.2, decoder.extra.3, "
            "decoder.extra.4\\. ",
        ),
        (
            lambda t: t.update({HEAD: torch.zeros(64, 47)}),
            f"1 misshaped tensors, first {HEAD} \\[64, 47\\] instead of \\[64, 48\\]",
        ),
        (lambda t: t.update({HEAD: torch.zeros(65, 48)}), f"{HEAD} \\[65, 48\\] instead of \\[64, 48\\]"),
        (
            lambda t: t.update({"enc_to_dec_proj.bias": torch.zeros(())}),
            "enc_to_dec_proj.bias \\[\\] instead of \\[48\\]",
        ),
        (
            lambda t: t.update(
                {"audio_encoder.decoder.layers.0.conv.parametrizations.weight.original0": torch.ones(1, 1, 1)}
            ),
            "original0 \\[1, 1, 1\\] instead of \\[64, 1, 1\\]",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, words, checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    edit_tensors(folder, change)
    with pytest.raises(ValueError, match=words):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("decoder"), "lacks the field 'decoder'"),
        (lambda c: c["decoder"].pop("hidden_size"), "config.json: decoder lacks the field 'hidden_size'"),
        (lambda c: c["audio_encoder"].pop("upsampling_ratios"), "lacks the field 'upsampling_ratios'"),
        (lambda c: c["text_encoder"].pop("d_model"), "lacks the field 'd_model'"),
        (lambda c: c.update(model_type="bark"), "model_type is 'bark'; this pack implements musicgen, musicgen_melody"),
        (lambda c: c["decoder"].update(num_attention_heads=5), "48 must be even and divisible by its 5"),
        (lambda c: c["decoder"].update(hidden_size="wide"), "hidden_size is 'wide'"),
        (lambda c: c["decoder"].update(num_codebooks=5), "5 x 64 codes for 1 channel"),
        (lambda c: c["decoder"].update(activation_function="relu"), "activation_function is 'relu'"),
        (lambda c: c["audio_encoder"].update(codebook_size=60), "does not fit a codec of 4 x 60"),
        (lambda c: c["audio_encoder"].update(pad_mode="wrap"), "pad_mode is 'wrap'"),
        (lambda c: c["audio_encoder"].update(normalize=True), "normalize is True, which is not implemented"),
        (lambda c: c["decoder"].update(hidden_size=96), "misshaped tensors.*instead of"),
        (lambda c: c["decoder"].update(num_hidden_layers=1), "unknown tensors, first decoder.model.decoder.layers.1"),
        (lambda c: c.update(decoder=[]), "decoder is list"),
        (lambda c: c["audio_encoder"].update(target_bandwidths=2.2), "target_bandwidths is 2.2"),
        (lambda c: c["audio_encoder"].update(target_bandwidths=["x"]), "target_bandwidths is"),
        (lambda c: c["audio_encoder"].update(codebook_size=1), "codebook_size is 1"),
        (lambda c: c["audio_encoder"].update(trim_right_ratio=0.5), "trim_right_ratio is 0.5; allowed is 1"),
        (
            lambda c: c["text_encoder"].update(vocab_size=2**62),
            "vocab_size is 4611686018427387904; allowed is a whole number from 1 to 16777216",
        ),
        (
            lambda c: c["text_encoder"].update(d_ff=2**24, vocab_size=2**24, d_model=2**24),
            "the text encoder has an embedding of vocab_size 16777216 x d_model 16777216 numbers; allowed are",
        ),
        (
            lambda c: c["decoder"].update(hidden_size=2**24, num_attention_heads=2**20),
            "the language model has attention matrices of queries, keys, values 3 x dim 16777216",
        ),
        (lambda c: c["decoder"].update(ffn_dim=2**23), r"misshaped tensors|feed-forward matrices of dim 48 x ffn_dim"),
        (
            lambda c: c["audio_encoder"].update(upsampling_ratios=[2] * 60),
            "codec has .* of n_filters 4 x 2.60|does not fit",
        ),
        (
            lambda c: c["audio_encoder"].update(num_filters=2**24),
            "the codec has an LSTM of gates 4 x n_filters 16777216",
        ),
        (
            lambda c: c["audio_encoder"].update(dilation_growth_rate=2**24, num_residual_layers=9),
            "dilation_base is 1677",
        ),
        (
            lambda c: c["audio_encoder"].update(upsampling_ratios=[2**30, 4]),
            r"upsampling_ratios is \[1073741824, 4\]; allowed is a list of 1 to 512 whole numbers from 1 to 1048576",
        ),
        (
            lambda c: c["text_encoder"].update(layer_norm_epsilon=1e300),
            r"layer_norm_epsilon is 1e\+300; allowed is a number above 0 and at most 1e\+09",
        ),
        (lambda c: c["decoder"].update(num_hidden_layers=10**9), "1000000000; allowed is a whole number from 1 to 512"),
        (lambda c: c["audio_encoder"].pop("use_causal_conv"), "lacks the field 'use_causal_conv'"),
        (
            lambda c: c["audio_encoder"].update(normalize="no"),
            "normalize is 'no', which is not implemented; allowed is False",
        ),
        (lambda c: c["text_encoder"].update(feed_forward_proj="foo"), "feed_forward_proj is 'foo'"),
        (lambda c: c["text_encoder"].update(vocab_size=None), "lacks the field 'vocab_size'"),
        (lambda c: c["text_encoder"].pop("layer_norm_epsilon"), "lacks the field 'layer_norm_epsilon'"),
        (lambda c: c["text_encoder"].pop("relative_attention_max_distance"), "relative_attention_max_distance"),
    ],
)
def test_a_config_that_makes_no_model_is_refused_by_field(change, words, checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    edit_config(folder, change)
    with pytest.raises(ValueError, match=words):
        load_model(folder)


SHARED, TIED = "text_encoder.shared.weight", "text_encoder.encoder.embed_tokens.weight"


@pytest.mark.parametrize(
    "change",
    [lambda t: t.update({TIED: t.pop(SHARED)}), lambda t: t.update({TIED: t[SHARED].clone()})],
    ids=["under its second name", "under both"],
)
def test_the_text_embedding_is_found_under_either_name(change, checkpoint_copy, model):
    folder = checkpoint_copy("hf-text")
    edit_tensors(folder, change)
    encoder, plain = load_model(folder).text_encoder, model("hf-text").text_encoder
    assert torch.equal(encoder.encode(["rock"]).states, plain.encode(["rock"]).states)
    assert encoder.t5.encoder.embed_tokens.weight is encoder.t5.shared.weight


def test_a_second_text_embedding_of_another_shape_is_refused(checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    edit_tensors(folder, lambda t: t.update({TIED: torch.zeros(3, 32)}))
    with pytest.raises(ValueError, match=r"embed_tokens\.weight \[3, 32\] instead of"):
        load_model(folder)


def test_a_text_projection_that_is_stored_is_used_even_where_the_widths_agree(checkpoint_copy, tmp_path):
    folder = checkpoint_copy("hf-text")
    wide = torch.randn(48, 48)

    def widen(tensors):
        for key, value in tensors.items():
            if key.startswith("text_encoder."):
                for dim, size in enumerate(value.shape):
                    if size == 32 and "relative_attention_bias" not in key:
                        value = value.repeat_interleave(2, dim).narrow(dim, 0, 48)
                tensors[key] = value
        tensors["enc_to_dec_proj.weight"] = wide

    edit_tensors(folder, widen)
    edit_config(folder, lambda c: c["text_encoder"].update(d_model=48, d_kv=12))
    m = load_model(folder)
    assert m.config.lm.text_projection and torch.equal(m.lm.description_proj.weight, wide)


def test_a_config_as_old_versions_of_transformers_wrote_it_loads(checkpoint_copy, model):
    folder = checkpoint_copy("hf-text")

    def clutter(config):
        config["decoder"].pop("audio_channels")
        config["torch_dtype"] = "float32"
        config["text_encoder"] |= {
            "_name_or_path": "t5-base",
            "architectures": ["T5ForConditionalGeneration"],
            "is_encoder_decoder": True,
            "n_positions": 512,
            "output_past": True,
            "task_specific_params": {"summarization": {"max_length": 200, "num_beams": 4}},
            "tie_encoder_decoder": False,
            "top_k": 50,
            "torchscript": False,
            "use_bfloat16": False,
        }

    edit_config(folder, clutter)
    ours, plain = load_model(folder), model("hf-text")
    states = ours.text_encoder.encode(["rock"]).states
    assert torch.equal(states, plain.text_encoder.encode(["rock"]).states)


@pytest.mark.parametrize("kept", [0, 4, 9, 5000, 1_000_000])
def test_a_safetensors_file_cut_short_is_called_so(kept, checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file.*fetch it again"):
        load_model(folder)


def test_a_header_of_noise_is_not_a_model(checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    (folder / "model.safetensors").write_bytes(b"\xff" * 4096)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_model(folder)


def test_missing_files_are_named(checkpoint_copy, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        load_model(tmp_path / "empty")
    folder = checkpoint_copy("hf-text")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer\.json nor spiece\.model"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors, nor model\.safetensors\.index\.json"):
        load_model(folder)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("{", ValueError, "index.json is not readable JSON"),
        ('{"weight_map": 3}', ValueError, "is not an index of weights"),
        ('{"weight_map": {"a": "../hf-text/model.safetensors"}}', FileNotFoundError, "is not in"),
        ('{"weight_map": {"a": "model-9.safetensors"}}', FileNotFoundError, "fetch the missing file"),
    ],
)
def test_an_index_that_leads_astray_is_refused(content, error, words, checkpoint_copy):
    folder = checkpoint_copy("hf-text-sharded")
    (folder / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    with pytest.raises(error, match=words):
        load_model(folder)


@pytest.mark.parametrize("damage", [b"\x00\xff\xfe", b"[1, 2", b"[]"])
def test_a_config_that_is_no_json_object_is_refused(damage, checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    (folder / "config.json").write_bytes(damage)
    with pytest.raises(ValueError, match=r"config\.json is"):
        load_model(folder)


def test_a_tokenizer_that_cannot_be_read_is_refused(checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer files in .* cannot be read"):
        load_model(folder)


def test_pad_mode_comes_from_the_checkpoint(checkpoint_copy, model, tensors):
    folder = checkpoint_copy("hf-text")
    edit_config(folder, lambda c: c["audio_encoder"].update(pad_mode="constant"))
    codes = tensors("text")["greedy.p0.tokens"].long()
    assert not torch.allclose(load_model(folder).decode(codes), model("hf-text").decode(codes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_of_the_language_model_alone(dtype, model, checkpoint_copy):
    m = load_model(checkpoint_copy("hf-text"), dtype=dtype)
    assert {p.dtype for p in m.lm.parameters()} == {dtype}
    text_dtype = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
    assert {p.dtype for p in m.text_encoder.parameters()} == {text_dtype}
    assert {p.dtype for p in m.codec.parameters()} == {torch.float32}
    for ours, exact in zip(m.lm.parameters(), model("hf-text").lm.parameters(), strict=True):
        assert torch.equal(ours, exact.to(dtype))


def test_a_dtype_that_no_lm_runs_in_is_refused(checkpoint_copy):
    with pytest.raises(ValueError, match="allowed are float32, bfloat16, float16, int8"):
        load_model(checkpoint_copy("hf-text"), dtype=torch.float64)


def released_config(name: str, shapes: dict[str, list[int]]) -> ModelConfig:
    dim = shapes["decoder.model.decoder.layer_norm.weight"][0]
    layers = 1 + max(int(k.split(".")[4]) for k in shapes if k.startswith("decoder.model.decoder.layers."))
    codebooks = sum(k.startswith("decoder.lm_heads.") for k in shapes)
    melody = "melody" in name
    chroma_dim = 12 if melody else None
    lm = LMConfig(dim, layers, dim // 64, 4 * dim, not melody, codebooks, 2048, 768, True, chroma_dim, None)
    return ModelConfig(name, lm, CODEC, {}, None, None, codebooks // 4, tuple(range(codebooks)), 30.0, 18.0)


CODEC = CodecConfig(
    32000, 1, 128, 64, 1, (8, 5, 4, 4), 7, 7, 3, 2, 2, 2, False, "reflect", True, 1.0, num_codebooks=4, card=2048
)


def records(shapes) -> StoredTensors:
    """Tensors of a file that need not exist: their names and shapes are all that is looked at."""
    stored = {key: TensorRecord(None, 0, torch.float16, tuple(shape)) for key, shape in shapes.items()}
    return StoredTensors(Path("none"), stored)


def consume(stored: StoredTensors, parts: dict[str, tuple[Part, dict[str, torch.Tensor]]]) -> set[str]:
    """Hold the tensors against what each part makes of them; the names of those that nothing is made of."""
    wanted, ignored = [], set()
    for part, ours in parts.values():
        recipes = part.recipes(ours)
        assert ours.keys() - recipes.keys() <= {key for key in ours if "codebook" in key or "embed_tokens" in key}
        wanted += [(recipe, ours[key].shape) for key, recipe in recipes.items()]
        ignored |= part.ignored
    check_tensors(stored.where, stored.shapes(), wanted, ignored)
    made = {source for recipe, _ in wanted for source in recipe.sources}
    assert stored.records.keys() == made | ignored and not made & ignored
    one = next(iter(made))
    with pytest.raises(ValueError, match="1 misshaped tensors"):
        check_tensors(stored.where, {**stored.shapes(), one: (3, 5, 7, 9)}, wanted, ignored)
    return ignored


@pytest.mark.parametrize("name", ["small", "melody", "stereo-small"])
def test_the_tensors_of_released_models_are_consumed_to_the_last_at_their_real_shapes(name):
    shapes = golden_json(f"real_keys/hf_keys_{name}.json")
    stored = records(shapes)
    checkpoint = huggingface.checkpoint_of(Path(name), released_config(name, shapes), stored)
    with torch.device("meta"):
        lm = LMModel(checkpoint.config.lm).state_dict()
        codec = EnCodec(CODEC, 1).model.state_dict()
        t5 = TextEncoder(T5_BASE, None).t5.state_dict()
    ignored = consume(
        stored, {"lm": (checkpoint.lm, lm), "text": (checkpoint.text, t5), "codec": (checkpoint.codec, codec)}
    )
    assert len([key for key in ignored if "codebook" in key]) == 12


T5_BASE = {
    "vocab_size": 32128,
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 3072,
    "num_layers": 12,
    "num_heads": 12,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "relu",
}


@pytest.mark.parametrize("name", ["small", "melody", "stereo-small"])
def test_so_are_those_of_the_same_models_in_audiocraft_s_layout(name):
    shapes = golden_json(f"real_keys/audiocraft_keys_{name}.json")
    expected = released_config(name, golden_json(f"real_keys/hf_keys_{name}.json"))
    stored = records(shapes)
    with torch.device("meta"):
        lm = LMModel(expected.lm).state_dict()
    ignored = consume(stored, {"lm": (audiocraft.lm_part(expected, stored), lm)})
    assert ignored <= {"condition_provider.conditioners.self_wav.chroma.spec.window"}


def audiocraft_codec_name(name: str) -> str:
    name = name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
    name = name.replace(".layers.", ".model.") if name.startswith(("encoder", "decoder")) else name
    up = any(name.startswith(f"decoder.model.{index}.conv.") for index in (3, 6, 9, 12))
    name = name.replace(".conv.", ".convtr.convtr." if up else ".conv.conv.")
    return name.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )


@pytest.mark.parametrize("renamed", [True, False], ids=["transformers", "audiocraft"])
def test_so_are_those_of_the_released_codec_in_both_layouts(renamed):
    shapes = golden_json("real_keys/codec_keys_real.json")
    if not renamed:
        shapes = {audiocraft_codec_name(name): shape for name, shape in shapes.items()}
        tiny = read_solver_file(GOLDEN / "checkpoints" / "audiocraft-text" / "compression_state_dict.bin")
        assert shapes.keys() == tiny.stored.records.keys()
    stored = records(shapes)
    with torch.device("meta"):
        codec = EnCodec(CODEC, 1).model.state_dict()
    assert len(consume(stored, {"codec": (codec_part(stored, "", renamed=renamed), codec)})) == 12


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["hf-text-sharded", "hf-melody", "audiocraft-text/t5-base"])
def test_settings_with_a_byte_order_mark_are_read(name, encoding, checkpoint_copy, tmp_path):
    """As editors on Windows and PowerShell save them."""
    folder = checkpoint_copy(name.partition("/")[0])
    (folder / "generation_config.json").write_text('{"max_length": 700}', encoding="utf-8")
    (folder / "preprocessor_config.json").write_text('{"n_fft": 8192}', encoding="utf-8")
    wanted = load_model(folder)
    for file in [*folder.glob("*.json"), *folder.glob("t5-base/*.json")]:
        file.write_bytes(file.read_text(encoding="utf-8").encode(encoding))
    found = load_model(folder)
    assert found.config == wanted.config
    params = GenerationParams(duration=0.2, use_sampling=False)
    assert torch.equal(found.generate(["calm"], params), wanted.generate(["calm"], params))


def test_the_processor_of_transformers_5_tells_the_chroma(checkpoint_copy, model):
    folder = checkpoint_copy("hf-melody")
    features = {"n_fft": 4096, "hop_length": 1024, "sampling_rate": 16000, "feature_size": 12}
    (folder / "preprocessor_config.json").unlink(missing_ok=True)
    table = {"feature_extractor": features, "processor_class": "MusicgenMelodyProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(table), encoding="utf-8")
    chroma = load_model(folder).config.chroma
    assert (chroma.n_fft, chroma.hop_length, chroma.sample_rate) == (4096, 1024, 16000)
    (folder / "preprocessor_config.json").write_text(json.dumps(features | {"n_fft": 2048}), encoding="utf-8")
    assert load_model(folder).config.chroma.n_fft == 2048
