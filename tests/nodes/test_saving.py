"""The saver: one file that the loader lists and that is the model, patches included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import write_mert

from .conftest import sound


@pytest.fixture
def output(comfy, tmp_path, monkeypatch):
    """An output folder of the test's own, whose `musicgen` the loader looks into."""
    folders = comfy.folder_paths
    place = tmp_path / "output"
    place.mkdir()
    monkeypatch.setattr(folders, "output_directory", str(place))
    paths, extensions = folders.folder_names_and_paths["musicgen"]
    table = {**folders.folder_names_and_paths, "musicgen": ([*paths, str(place / "musicgen")], extensions)}
    monkeypatch.setattr(folders, "folder_names_and_paths", table)
    return place


@pytest.fixture
def save(run, load, output):
    """Save one of the tiny checkpoints; keywords change the inputs."""

    def save_one(name="text", **changes):
        parts = vars(load(name))
        run("SaveCheckpoint", **{**parts, "filename_prefix": "musicgen/mine", "dtype": "as loaded", **changes})
        return sorted(str(path.relative_to(output).as_posix()) for path in output.rglob("*") if path.is_file())

    return save_one


@pytest.fixture
def take(run, encode, load):
    """Half a second of codes from a model."""

    def take_from(model, name="text", **more):
        widgets = {"duration": 0.5, "batch_size": 1, "cfg_coef": 3.0, "temperature": 1.0, "top_k": 250, "top_p": 0.0}
        inputs = {"model": model, "positive": encode("jazz", name), "seed": 3, "pattern": "auto", **widgets, **more}
        return run("SampleTokens", **inputs)["codes"]

    return take_from


@pytest.mark.parametrize("name", ["text", "melody", "stereo"])
def test_a_saved_model_is_listed_and_plays_the_same(run, load, save, take, host, name):
    assert save(name) == ["musicgen/mine_00001_.safetensors"]
    assert "mine_00001_.safetensors" in host.folders.models()
    model, _, codec = run("Loader", model="mine_00001_.safetensors", dtype="auto")
    assert torch.equal(take(model, name), take(load(name).model, name))
    assert codec.fingerprint == load(name).codec.fingerprint == model.codec


def test_a_saved_style_model_hears_and_follows_a_style_as_before(
    run, load, save, take, host, models_folder, monkeypatch
):
    assert save("style") == ["musicgen/mine_00001_.safetensors"]
    name, mert = "mine_00001_.safetensors", models_folder.parent / "audio_encoders" / "MERT-v1-95M"
    monkeypatch.setattr(host.folders, "search_folders", lambda: [mert.parent])
    write_mert(mert)
    model = run("Loader", model=name, dtype="auto")[0]
    own = load("style").model
    assert model.style.fingerprint == own.style.fingerprint
    old, new = (run("Style", model=m, audio=sound(6.0), excerpt_length=3.0, seed=1) for m in (own, model))
    assert torch.equal(old.items[0], new.items[0])
    assert torch.equal(take(model, "style", style=new), take(own, "style", style=old))
    assert not torch.equal(take(model, "style"), take(model, "style", style=new))


def test_the_loader_notices_when_mert_arrives_beside_a_saved_style_model(run, save, host, output):
    save("style")
    name = "mine_00001_.safetensors"
    before, names = host.folders.model_fingerprint(name), list(host.folders.models())
    save("text")  # another model is none of its business
    assert host.folders.model_fingerprint(name) == before
    write_mert(output / "musicgen" / "MERT-v1-95M")
    assert host.folders.model_fingerprint(name) != before
    assert list(host.folders.models()) == sorted(
        [*names, "mine_00002_.safetensors"], key=list(host.folders.models()).index
    )
    style = run("Style", model=run("Loader", model=name, dtype="auto")[0], audio=sound(6.0), excerpt_length=3.0, seed=1)
    assert style.items[0].shape == (15, 64)


def test_the_format_is_chosen(save, output):
    save(dtype="fp16", filename_prefix="musicgen/half")
    stored = load_file(output / "musicgen" / "half_00001_.safetensors")
    assert (
        stored["lm.head.weight"].dtype == torch.float16
        and stored["codec.encoder.model.0.conv.conv.bias"].dtype == torch.float32
    )


def test_files_are_numbered_and_none_is_overwritten(save, output):
    save()
    first = (output / "musicgen" / "mine_00001_.safetensors").read_bytes()
    assert save("melody") == ["musicgen/mine_00001_.safetensors", "musicgen/mine_00002_.safetensors"]
    assert (output / "musicgen" / "mine_00001_.safetensors").read_bytes() == first


@pytest.mark.parametrize(
    ("prefix", "place"),
    [
        ("musicgen/deep/er/mine", "musicgen/deep/er/mine_00001_.safetensors"),
        ("musicgen\\deep\\mine", "musicgen/deep/mine_00001_.safetensors"),
        ("mine", "mine_00001_.safetensors"),
    ],
)
def test_a_prefix_may_name_sub_folders(save, prefix, place):
    assert save(filename_prefix=prefix) == [place]


@pytest.mark.parametrize("prefix", ["../mine", "/etc/mine", "a/../../mine", "..\\mine", "", "a/", "a/.hidden", ".."])
def test_a_prefix_that_leads_outside_or_to_no_name_is_refused(save, output, prefix):
    with pytest.raises(ValueError, match="filename_prefix is"):
        save(filename_prefix=prefix)
    assert not list(output.parent.rglob("*.safetensors"))


def patched(handle, key, strength=1.0):
    """A handle whose weight `key` is patched as a LoRA node patches it."""
    patcher = handle.patcher.clone()
    weight = patcher.model_state_dict()[key]
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(5))
    assert patcher.add_patches({key: ("diff", (change,))}, strength) == [key]
    return replace(handle, patcher=patcher)


def test_patches_are_worked_into_the_file_and_into_nothing_else(run, load, save, take, output):
    plain = load("text").model
    before, strong = take(plain), patched(plain, "head.weight", 0.5)
    save(model=strong)  # before it was ever used
    with_patches = take(strong)
    save(model=strong)  # while its patches are in place
    save(model=plain)
    files = [load_file(output / "musicgen" / f"mine_0000{n}_.safetensors") for n in (1, 2, 3)]
    assert torch.equal(files[0]["lm.head.weight"], files[1]["lm.head.weight"])
    assert not torch.equal(files[0]["lm.head.weight"], files[2]["lm.head.weight"])
    assert not torch.equal(before, with_patches)
    taken = [take(run("Loader", model=f"mine_0000{n}_.safetensors", dtype="auto")[0]) for n in (1, 2, 3)]
    assert torch.equal(taken[0], with_patches) and torch.equal(taken[1], with_patches)
    assert torch.equal(taken[2], before) and torch.equal(take(plain), before)


def test_patches_of_the_text_encoder_are_worked_in_too(load, save, output):
    plain = load("text").text_encoder
    key = "t5.encoder.final_layer_norm.weight"
    save()
    save(text_encoder=patched(plain, key))
    one, two = (load_file(output / "musicgen" / f"mine_0000{n}_.safetensors") for n in (1, 2))
    changed = {name for name in one if not torch.equal(one[name], two[name])}
    assert changed == {"text_encoder.encoder.final_layer_norm.weight"}


def test_parts_that_make_no_whole_model_are_refused(load, save):
    with pytest.raises(ValueError, match=r"the codec of tiny/melody is not that of the model tiny/text"):
        save(codec=replace(load("melody").codec, fingerprint="another"))
    narrow = load("text").model
    config = replace(narrow.config, lm=replace(narrow.config.lm, text_dim=99))
    with pytest.raises(ValueError, match=r"is 32 wide, but the model tiny/text takes 99"):
        save(model=replace(narrow, config=config))
    with pytest.raises(ValueError, match="is not from MusicGen Loader, so it cannot be saved"):
        save(text_encoder=replace(load("text").text_encoder, patcher=load("text").codec.patcher))


def test_cancel_leaves_no_file(comfy, save, output):
    comfy.management.interrupt_current_processing(True)
    with pytest.raises(comfy.management.InterruptProcessingException):
        save()
    assert not [path for path in Path(output).rglob("*") if path.is_file()]
