"""One file holds a whole model: written bit for bit, read without another file, refused in a sentence."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from musicgen import GenerationParams, load_model, save_checkpoint
from tests.conftest import GOLDEN
from tests.tiny import write_encodec_style_model, write_mert

GREEDY = GenerationParams(0.5, use_sampling=False)


@pytest.fixture
def saved(tmp_path, model):
    """The tiny text model as a single file."""
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(model("hf-text"), path)
    return path


def rewrite(path, change=lambda metadata: None, tensors=lambda stored: None):
    """Change a file's metadata and tensors in place."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    stored = load_file(path)
    change(metadata)
    tensors(stored)
    save_file(stored, path, metadata)


def reconfigure(path, change):
    def apply(metadata):
        config = json.loads(metadata["musicgen.config"])
        change(config)
        metadata["musicgen.config"] = json.dumps(config)

    rewrite(path, apply)


@pytest.mark.parametrize(
    "name",
    ["hf-text", "hf-melody", "hf-stereo", "hf-text-legacy", "hf-text-sharded", "audiocraft-text", "audiocraft-melody"],
)
def test_a_saved_model_is_the_model_without_any_other_file(name, model, tmp_path, sweep):
    original = model(name)
    save_checkpoint(original, tmp_path / "alone.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["alone.safetensors"]
    copy = load_model(tmp_path / "alone.safetensors")
    assert copy.config == dataclasses.replace(original.config, name="alone")
    assert copy.codec.fingerprint == original.codec.fingerprint
    melody = sweep if original.config.chroma else None
    codes = original.generate(["a calm piano", None], GREEDY, melody=melody)
    assert torch.equal(codes, copy.generate(["a calm piano", None], GREEDY, melody=melody))
    assert torch.equal(original.decode(codes), copy.decode(codes))


def assert_equal_weights(copy, original, parts=("lm", "text_encoder", "codec")):
    for part in parts:
        ours, theirs = getattr(copy, part).state_dict(), getattr(original, part).state_dict()
        assert ours.keys() == theirs.keys()
        for key in ours:
            if not key.endswith(("inited", "cluster_size", "embed_avg")):
                assert ours[key].dtype == theirs[key].dtype and torch.equal(ours[key], theirs[key]), key


@pytest.fixture
def style_checkpoint(style_folder, tmp_path):
    """A style model's folder by what its style is heard through."""

    def make(features):
        return style_folder if features == "mert" else write_encodec_style_model(tmp_path / "hears-codes")

    return make


@pytest.mark.parametrize("features", ["mert", "encodec"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_style_model_is_saved_with_its_style_condition(features, dtype, style_checkpoint, tmp_path, sweep):
    original = load_model(style_checkpoint(features), dtype=dtype)
    (tmp_path / "saved").mkdir()
    save_checkpoint(original, tmp_path / "saved" / "alone.safetensors", dtype)
    write_mert(tmp_path / "searched" / "MERT-v1-95M")
    copy = load_model(tmp_path / "saved" / "alone.safetensors", dtype=dtype, search=[tmp_path / "searched"])
    assert copy.config == dataclasses.replace(original.config, name="alone")
    assert copy.config.style.features == features and copy.style.fingerprint == original.style.fingerprint
    assert_equal_weights(copy, original, ("lm", "text_encoder", "codec", "style"))
    tokens, again = (m.encode_style(sweep[0], 32000, seed=4) for m in (original, copy))
    assert torch.equal(tokens, again)
    greedy = dataclasses.replace(GREEDY, cfg_coef_beta=5.0)
    assert torch.equal(original.generate(["rock"], greedy, style=tokens), copy.generate(["rock"], greedy, style=again))


def test_mert_is_not_in_the_file_and_is_looked_for_beside_it(style_model, tmp_path, sweep):
    path = tmp_path / "alone.safetensors"
    save_checkpoint(style_model, path)
    stored = {name for name in load_file(path) if name.startswith("style.")}
    assert stored == {f"style.{name}" for name in style_model.style.state_dict() if not name.startswith("features.")}
    without = load_model(path)
    assert without.generate(["rock"], GREEDY).shape == (1, 4, 25)
    with pytest.raises(FileNotFoundError, match="m-a-p/MERT-v1-95M") as error:
        without.encode_style(sweep[0], 32000)
    assert str(tmp_path / "MERT-v1-95M") in str(error.value)
    write_mert(tmp_path / "MERT-v1-95M")
    tokens = load_model(path).encode_style(sweep[0], 32000, seed=2)
    assert torch.equal(tokens, style_model.encode_style(sweep[0], 32000, seed=2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.update(style=None), "the style is of another width"),
        (lambda config: config["style"].update(dim=32), "the style is of another width"),
        (lambda config: config["style"].update(features="clap"), "its style condition cannot be"),
        (lambda config: config["style"].update(features="encodec"), "its style condition cannot be"),
        (lambda config: config["style"].update(eval_q=7), "its style condition cannot be"),
        (lambda config: config["style"].update(max_excerpt=1.0), "its style condition cannot be"),
        (lambda config: config["style"].update(num_layers=10**6), "its layers are more than the file's tensors"),
        (lambda config: config["style"].update(num_codebooks=5), r"misshaped tensors, first style\.codebooks\.weight"),
        (lambda config: config["style"].pop("stride"), r"config\.style lacks the field 'stride'"),
    ],
)
def test_a_style_that_cannot_be_is_refused(change, words, style_model, tmp_path):
    save_checkpoint(style_model, tmp_path / "tiny.safetensors")
    reconfigure(tmp_path / "tiny.safetensors", change)
    with pytest.raises(ValueError, match=words):
        load_model(tmp_path / "tiny.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_round_trip_in_the_model_s_own_format_is_bit_exact(dtype, checkpoint_copy, tmp_path):
    original = load_model(checkpoint_copy("hf-text"), dtype=dtype)
    save_checkpoint(original, tmp_path / "half.safetensors", dtype)
    assert_equal_weights(load_model(tmp_path / "half.safetensors", dtype=dtype), original)


def test_the_format_is_that_of_the_language_model_alone(model, tmp_path):
    save_checkpoint(model("hf-text"), tmp_path / "half.safetensors", torch.float16)
    stored = load_file(tmp_path / "half.safetensors")
    kinds = {part: {v.dtype for k, v in stored.items() if k.startswith(part)} for part in ("lm", "text", "codec")}
    assert kinds == {"lm": {torch.float16}, "text": {torch.float32}, "codec": {torch.float32}}
    assert stored.keys() == {key for key in stored if key.startswith(("lm.", "text_encoder.", "codec."))}


def test_a_model_saves_itself_and_the_public_name_takes_it(model, tmp_path):
    model("hf-text").save(tmp_path / "own.safetensors", torch.float16)
    save_checkpoint(model("hf-text"), tmp_path / "public.safetensors", torch.float16)
    assert (tmp_path / "own.safetensors").read_bytes() == (tmp_path / "public.safetensors").read_bytes()


def test_saving_twice_gives_the_same_bytes_also_after_the_tokenizer_was_used(saved, model, tmp_path):
    model("hf-text").text_encoder.encode(["a much longer description", "rock"])
    save_checkpoint(model("hf-text"), tmp_path / "again.safetensors")
    assert saved.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_a_sentencepiece_tokenizer_is_saved_too(checkpoint_copy, tmp_path):
    folder = checkpoint_copy("hf-text")
    (folder / "tokenizer.json").unlink()
    shutil.copy(GOLDEN / "spiece.model", folder / "spiece.model")
    original = load_model(folder)
    save_checkpoint(original, tmp_path / "spiece.safetensors")
    copy = load_model(tmp_path / "spiece.safetensors")
    for text in ("a calm piano melody", "", "caf\u00e9"):
        ids = original.text_encoder.tokenizer([text])["input_ids"]
        assert torch.equal(copy.text_encoder.tokenizer([text])["input_ids"], ids)


def test_other_weights_of_the_same_names_are_written_in_place_of_the_model_s(model, tmp_path):
    original = model("hf-text")
    louder = {name: tensor * 2 for name, tensor in original.lm.state_dict().items()}
    save_checkpoint(original, tmp_path / "louder.safetensors", weights={"lm": louder})
    copy = load_model(tmp_path / "louder.safetensors")
    assert torch.equal(copy.lm.head.weight, original.lm.head.weight * 2)
    short = {"lm": {**louder, "out_norm.bias": torch.zeros(3)}}
    save_checkpoint(original, tmp_path / "short.safetensors", weights=short)
    with pytest.raises(ValueError, match=r"misshaped tensors, first lm\.out_norm\.bias \[3\] instead of \[48\]"):
        load_model(tmp_path / "short.safetensors")


def test_progress_counts_the_bytes_and_cancelling_leaves_nothing_behind(model, tmp_path):
    counts = []
    save_checkpoint(
        model("hf-text"), tmp_path / "whole.safetensors", on_bytes=lambda done, total: counts.append((done, total))
    )
    total = counts[0][1]
    assert counts[0] == (0, total) and counts == sorted(counts) and {pair[1] for pair in counts} == {total}
    assert (tmp_path / "whole.safetensors").stat().st_size > total > 1_000_000

    def cancel(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(model("hf-text"), tmp_path / "half.safetensors", on_bytes=cancel)
    with pytest.raises(KeyboardInterrupt):  # a file that is there stays what it is
        save_checkpoint(model("hf-text"), tmp_path / "whole.safetensors", torch.float16, on_bytes=cancel)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.safetensors"]
    load_model(tmp_path / "whole.safetensors")


def test_what_cannot_be_written_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere does not exist; make it or choose another one"):
        save_checkpoint(model("hf-text"), tmp_path / "nowhere" / "x.safetensors")
    with pytest.raises(ValueError, match=r"named 'x\.bin'; allowed are names that end in \.safetensors"):
        save_checkpoint(model("hf-text"), tmp_path / "x.bin")
    with pytest.raises(ValueError, match="allowed are float32, bfloat16 and float16"):
        save_checkpoint(model("hf-text"), tmp_path / "x.safetensors", torch.int8)
    assert not list(tmp_path.iterdir())


def test_the_weights_file_of_a_model_folder_is_no_single_file_model():
    with pytest.raises(ValueError, match=r"is no single-file MusicGen model.*put it beside that model's config\.json"):
        load_model(GOLDEN / "checkpoints" / "hf-text" / "model.safetensors")


def drop(*names):
    def change(config):
        for name in names[:-1]:
            config = config[name]
        del config[names[-1]]

    return change


def put(value, *names):
    def change(config):
        for name in names[:-1]:
            config = config[name]
        config[names[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("lm"), "config lacks the field 'lm'"),
        (drop("codec", "ratios"), r"config\.codec lacks the field 'ratios'"),
        (put(1, "lm", "rope"), r"config\.lm has the unknown field 'rope'; update this pack"),
        (put("wide", "lm", "dim"), r"config\.lm\.dim is 'wide', which is not of the type"),
        (put(True, "lm", "dim"), r"config\.lm\.dim is True"),
        (put(0, "lm", "num_heads"), r"config\.lm\.num_heads is 0; allowed is a whole number from 1 to 16777216"),
        (put(2**62, "lm", "card"), r"config\.lm\.card is 4611686018427387904; allowed is a whole number from 1 to"),
        (put(10**400, "window"), r"config\.window is 1000"),
        (
            put(10**7, "lm", "dim"),
            r"the language model has attention matrices of queries, keys, values 3 x dim 10000000",
        ),
        (
            put(2**62, "text_encoder", "vocab_size"),
            "vocab_size is 4611686018427387904; allowed is a whole number from 1 to",
        ),
        (put(5, "lm", "num_heads"), "48 must be even and divisible by its 5"),
        (put(10**6, "lm", "num_layers"), "its layers are more than the file's tensors"),
        (put(10**6, "codec", "lstm"), "its layers are more than the file's tensors"),
        (put(512, "text_encoder", "num_layers"), "its layers are more than the file's tensors"),
        (put(3, "lm", "num_codebooks"), "language model and codec have different codebooks"),
        (put(3, "audio_channels"), "its channels are neither 1 nor 2"),
        (put([0, 1], "delays"), "its delays do not fit its codebooks"),
        (put([], "codec", "ratios"), "a ratio of the codec is not from 1 to"),
        (put([8, 0], "codec", "ratios"), "a ratio of the codec is not from 1 to"),
        (put(float("nan"), "window"), r"config\.window is nan"),
        (put(-1.0, "window"), "its window is not above 0 and at most 3600 seconds"),
        (put(33, "text_encoder", "d_model"), "the text is of another width"),
        (put([], "text_encoder"), r"config\.text_encoder is \[\]"),
        (put({"a": {}}, "text_encoder"), r"config\.text_encoder is"),
        (put("gelu", "codec"), r"config\.codec is str, where a JSON object is needed"),
        (
            put("foo", "text_encoder", "feed_forward_proj"),
            r"text_encoder: feed_forward_proj is 'foo'; this pack implements",
        ),
        (put([0, 1, 2, 3000], "delays"), "its delays do not fit its codebooks"),
        (put(96, "lm", "dim"), "misshaped tensors"),
        (put(1, "lm", "num_layers"), r"unknown tensors, first lm\.transformer\.layers\.1"),
    ],
)
def test_a_configuration_that_makes_no_model_is_refused_by_field(change, words, saved):
    reconfigure(saved, change)
    with pytest.raises(ValueError, match=words) as refused:
        load_model(saved)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.pop("musicgen.format"), "is no single-file MusicGen model"),
        (
            lambda m: m.update({"musicgen.format": "2"}),
            "is in version '2' of the single-file layout; this pack reads 1",
        ),
        (lambda m: m.update({"musicgen.config": "{"}), "is no JSON"),
        (lambda m: m.update({"musicgen.config": "[]"}), "config is list"),
        (lambda m: m.pop("musicgen.tokenizer"), "holds 0 tokenizers instead of one"),
        (lambda m: m.update({"musicgen.spiece": ""}), "holds 2 tokenizers"),
        (lambda m: m.update({"musicgen.tokenizer": "{}"}), r"the tokenizer in .*tiny\.safetensors cannot be read"),
        (lambda m: (m.pop("musicgen.tokenizer"), m.update({"musicgen.spiece": "!"})), "cannot be read"),
    ],
)
def test_metadata_that_make_no_model_are_refused(change, words, saved):
    rewrite(saved, change)
    with pytest.raises(ValueError, match=words):
        load_model(saved)


def test_tensors_that_do_not_fit_are_named(saved):
    rewrite(saved, tensors=lambda stored: stored.update({"lm.extra": stored.pop("lm.head.weight")}))
    with pytest.raises(ValueError, match=r"1 missing tensors, first lm\.head\.weight; 1 unknown tensors, first lm\.ex"):
        load_model(saved)


@pytest.mark.parametrize("kept", [0, 4, 9, 5000, 1_000_000])
def test_a_file_cut_short_is_called_so(kept, saved):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"tiny\.safetensors is not a whole safetensors file.*fetch it again"):
        load_model(saved)


def test_a_path_that_is_nothing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "nobody.safetensors")
