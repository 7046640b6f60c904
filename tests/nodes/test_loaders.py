"""The loader: names, files, formats of numbers."""

from __future__ import annotations

import importlib
import json
import shutil

import pytest
import torch

from .conftest import CHECKPOINTS


@pytest.fixture
def broken_model(models_folder):
    """A copy of the tiny text checkpoint that a test may damage."""
    folder = models_folder / "broken"
    shutil.copytree(CHECKPOINTS / "hf-text", folder)
    yield folder
    shutil.rmtree(folder)


def test_the_combo_lists_the_bundled_models_first_and_sub_folders_with_forward_slashes(host, node_list):
    names = list(host.folders.models())
    assert names[:2] == ["bundled/musicgen-nano", "bundled/musicgen-nano-melody"]
    assert {"tiny/text", "tiny/melody", "tiny/stereo"} <= set(names)
    combo = node_list[0].GET_SCHEMA().inputs[0]
    assert combo.options[: len(names)] == names
    assert combo.default == names[0]


def test_the_combo_ends_with_a_download_of_each_release_with_its_size_and_licence(host, node_list):
    downloads = node_list[0].GET_SCHEMA().inputs[0].options[len(host.folders.models()) :]
    assert len(downloads) == 12
    assert downloads[0] == "download facebook/musicgen-small (2.4 GB, CC-BY-NC 4.0)"
    assert downloads[-1] == "download facebook/audiogen-medium with t5-large (6.9 GB, CC-BY-NC 4.0)"


def test_a_download_that_was_not_chosen_to_run_touches_nothing(host, node_list, models_folder):
    label = node_list[0].GET_SCHEMA().inputs[0].options[-1]
    assert node_list[0].validate_inputs(model=label) is True
    assert node_list[0].fingerprint_inputs(model=label, dtype="auto")
    assert host.folders.resolve_model(label) == ("audiogen-medium", models_folder / "audiogen-medium")
    assert sorted(path.name for path in models_folder.iterdir()) == ["tiny"]


def test_a_download_that_is_made_is_the_local_model_whatever_the_size_in_its_name(run, host, node_list, models_folder):
    label = next(name for name in host.folders.choices() if "musicgen-small" in name)
    shutil.copytree(CHECKPOINTS / "hf-text", models_folder / "musicgen-small")
    try:
        assert label not in host.folders.choices() and "musicgen-small" in host.folders.choices()
        for name in (label, "download facebook/musicgen-small (another size)", "musicgen-small"):
            assert run("Loader", model=name, dtype="auto")[0].name == "musicgen-small"
    finally:
        shutil.rmtree(models_folder / "musicgen-small")


@pytest.mark.parametrize("name", ["facebook/musicgen-small", "musicgen-small", "Facebook/MusicGen-Small"])
def test_a_release_named_as_the_readme_names_it_is_here_or_tells_its_download(node_list, host, models_folder, name):
    label = next(choice for choice in host.folders.choices() if choice.startswith("download facebook/musicgen-small "))
    answer = node_list[0].validate_inputs(model=name)
    assert f"{name!r}, which is not here yet; choose {label!r} to download it" in answer
    shutil.copytree(CHECKPOINTS / "hf-text", models_folder / "musicgen-small")
    try:
        assert node_list[0].validate_inputs(model=name) is True
        assert host.folders.resolve_model(name)[0] == "musicgen-small"
    finally:
        shutil.rmtree(models_folder / "musicgen-small")


def test_no_name_at_all_is_answered_in_a_sentence(run):
    with pytest.raises(ValueError, match="model is None; allowed is the name of a model"):
        run("Loader", model=None, dtype="auto")


class TestDefaultDrive:
    """Downloads go where extra_model_paths says that new models go."""

    @pytest.fixture
    def configure(self, comfy, host, tmp_path, monkeypatch):
        """Let ComfyUI read a configuration, in which {drive} is a folder, as it does before packs load."""
        drive = tmp_path / "drive"
        (drive / "musicgen").mkdir(parents=True)
        extra = importlib.import_module("utils.extra_config")

        def configure(text):
            file = tmp_path / "extra.yaml"
            file.write_text(text.format(drive=drive), encoding="utf-8")
            monkeypatch.setattr(comfy.folder_paths, "folder_names_and_paths", {})
            args = importlib.import_module("comfy.cli_args").args
            monkeypatch.setattr(args, "extra_model_paths_config", [[str(file)]])
            extra.load_extra_path_config(str(file))
            host.folders.register_model_folder()
            return drive

        return configure

    def place(self, host):
        return host.folders.resolve_model("download facebook/musicgen-small (2.4 GB, CC-BY-NC 4.0)")[1]

    def test_a_default_folder_gets_them(self, configure, host):
        drive = configure("a:\n  base_path: {drive}\n  is_default: true\n  musicgen: musicgen\n")
        assert self.place(host) == drive / "musicgen" / "musicgen-small"

    def test_another_folder_does_not(self, configure, host, models_folder):
        configure("a:\n  base_path: {drive}\n  musicgen: musicgen\n")
        assert self.place(host) == models_folder / "musicgen-small"

    def test_a_default_folder_of_other_models_does_not(self, configure, host, models_folder):
        configure("a:\n  base_path: {drive}\n  is_default: true\n  loras: musicgen\n")
        assert self.place(host) == models_folder / "musicgen-small"


def test_an_unknown_download_is_refused(node_list):
    assert "does not exist" in node_list[0].validate_inputs(model="download nobody/nothing (1 GB)")


def test_offline_a_download_tells_how_to_do_without_and_leaves_no_model(run, host, models_folder):
    constants = importlib.import_module("huggingface_hub.constants")
    assert constants.HF_HUB_OFFLINE
    with pytest.raises(FileNotFoundError) as refused:
        run("Loader", model=host.folders.choices()[-1], dtype="auto")
    for words in ("offline mode is on", f"facebook/audiogen-medium into {models_folder / 'audiogen-medium'}",
                  "state_dict.bin, compression_state_dict.bin", "google-t5/t5-large into "):  # fmt: skip
        assert words in str(refused.value)
    assert "audiogen-medium" not in host.folders.models()


def test_a_name_that_differs_in_case_alone_is_found_where_it_is_clear_which_is_meant(host, models_folder):
    assert host.folders.resolve_model("Tiny\\Text")[0] == "tiny/text"
    for name in ("Twin", "twin"):
        (models_folder / name).mkdir()
        (models_folder / name / "config.json").touch()
    try:
        assert host.folders.resolve_model("twin")[0] == "twin" and host.folders.resolve_model("Twin")[0] == "Twin"
        with pytest.raises(ValueError, match=r"'TWIN', which does not exist; allowed are Twin, twin\."):
            host.folders.resolve_model("TWIN")
    finally:
        shutil.rmtree(models_folder / "Twin")
        shutil.rmtree(models_folder / "twin")


def test_a_name_saved_on_windows_is_found(host, node_list):
    assert node_list[0].validate_inputs(model="tiny\\text") is True
    assert host.folders.resolve_model("tiny\\text")[0] == "tiny/text"


@pytest.mark.parametrize(
    "name", ["../secret", "tiny/../../x", "/etc", "\\\\server\\share", "C:\\models", "tiny\\..\\x"]
)
def test_a_path_outside_the_models_folder_is_refused(node_list, name):
    answer = node_list[0].validate_inputs(model=name)
    assert "outside the models folder" in answer and repr(name) in answer


def test_an_unknown_model_is_refused_with_the_known_ones(node_list):
    answer = node_list[0].validate_inputs(model="musicgen-huge")
    assert "does not exist" in answer and "bundled/musicgen-nano" in answer


def test_a_linked_model_name_is_left_to_execution(node_list):
    assert node_list[0].validate_inputs(model=None) is True


def test_a_changed_file_is_loaded_again(node_list, broken_model):
    before = node_list[0].fingerprint_inputs(model="broken", dtype="auto")
    assert node_list[0].fingerprint_inputs(model="broken", dtype="auto") == before
    assert str(broken_model.parent) not in before
    (broken_model / "config.json").write_text("{}", encoding="utf-8")
    assert node_list[0].fingerprint_inputs(model="broken", dtype="auto") != before


@pytest.mark.parametrize(
    ("choice", "dtype"), [("auto", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_the_dtype_is_that_of_the_language_model_alone(run, choice, dtype):
    model, text_encoder, codec = run("Loader", model="tiny/text", dtype=choice)
    assert {p.dtype for p in model.patcher.model.parameters()} == {dtype}
    for handle in (text_encoder, codec):
        assert {p.dtype for p in handle.patcher.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("choice", ["auto", "int8"])
def test_on_a_cpu_auto_and_int8_keep_matrices_that_allow_it_in_float16(run, host, choice):
    module = run("Loader", model=host.folders.DEFAULT_MODEL, dtype=choice)[0].patcher.model
    assert module.dtype == torch.float32
    assert module.head.weight.dtype == torch.float16
    assert module.out_norm.weight.dtype == torch.float32


def test_int8_where_there_is_a_gpu_says_that_it_is_for_the_cpu(host, monkeypatch, caplog):
    # No GPU exists here: only the host's answer of where it computes is another.
    monkeypatch.setattr(host.patchers.mm, "get_torch_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(host.patchers.mm, "should_use_bf16", lambda device: True)
    assert host.patchers.lm_dtype("int8") == host.patchers.lm_dtype("auto") == torch.bfloat16
    assert "int8 is for the CPU and this runs on cuda" in caplog.text


def test_every_bundled_model_loads(run, host):
    for name in (name for name in host.folders.models() if name.startswith("bundled/")):
        model, _, codec = run("Loader", model=name, dtype="auto")
        assert model.name == name
        assert model.codec == codec.fingerprint


def _damage_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def _corrupt_weights(folder):
    (folder / "model.safetensors").write_bytes(b"\xff" * 5000)


def _drop_weights(folder):
    (folder / "model.safetensors").unlink()


def _drop_field(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["decoder"]["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _break_config(folder):
    (folder / "config.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_damage_weights, "model.safetensors"),
        (_corrupt_weights, "model.safetensors"),
        (_drop_weights, "safetensors"),
        (_drop_field, "hidden_size"),
        (_break_config, "config.json"),
    ],
)
def test_a_damaged_checkpoint_gives_one_sentence_that_names_the_place(run, broken_model, damage, named):
    damage(broken_model)
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        run("Loader", model="broken", dtype="auto")
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_release_that_turns_out_to_be_no_model_offers_its_download(run, models_folder):
    folder = models_folder / "musicgen-small"
    shutil.copytree(CHECKPOINTS / "hf-text", folder)
    try:
        (folder / "model.safetensors").write_bytes(b"<html>Please log in.</html>")
        with pytest.raises(ValueError, match="To download facebook/musicgen-small again, move .*musicgen-small away"):
            run("Loader", model="musicgen-small", dtype="auto")
    finally:
        shutil.rmtree(folder)


def test_a_model_loads_where_the_hosts_layers_start_without_weights(run, comfy, monkeypatch):
    """With dynamic VRAM, the default on NVIDIA, the host's layers hold None until they are filled."""
    monkeypatch.setattr(comfy.memory, "aimdo_enabled", True)
    model, _, _ = run("Loader", model="tiny/text", dtype="auto")
    assert not any(p.is_meta for p in model.patcher.model.parameters())
    assert len(list(model.patcher.model.parameters())) > 0
