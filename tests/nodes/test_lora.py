"""The LoRA loader: the host changes the weights and puts them back, and samplers with and without a LoRA agree."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.lora_files import RANK, draw_factors, kohya, merge, peft, save

from .conftest import CHECKPOINTS, PACK, ROOT

PEFT_LORAS = ROOT / "tests" / "golden" / "loras"


@pytest.fixture(scope="session")
def loras_folder(comfy, models_folder):
    """A `models/loras` with a file and a PEFT folder, and an image model's LoRA in a format that is not listed."""
    folder = models_folder.parent / "loras"
    save(folder / "mine" / "text.safetensors", kohya(draw_factors(CHECKPOINTS / "hf-text")))
    save(folder / "second.safetensors", kohya(draw_factors(CHECKPOINTS / "hf-text", seed=9)))
    for kind in ("text", "melody", "stereo"):
        shutil.copytree(PEFT_LORAS / kind, folder / f"peft-{kind}")
    (folder / "image.ckpt").write_bytes(b"")
    paths, extensions = comfy.folder_paths.folder_names_and_paths["loras"]
    comfy.folder_paths.folder_names_and_paths["loras"] = ([str(folder), *paths], extensions)
    return folder


@pytest.fixture
def lora_node(node_list, loras_folder):
    return next(node for node in node_list if node.GET_SCHEMA().node_id == "MusicGenLoraLoader")


@pytest.fixture
def with_lora(run, loras_folder):
    def apply(model, lora="mine/text.safetensors", strength=1.0):
        return run("LoraLoader", model=model, lora=lora, strength=strength)

    return apply


@pytest.fixture
def sample_with(run, encode):
    """Greedy codes of half a second from a model on an edge."""
    widgets = {"seed": 1, "cfg_coef": 3.0, "top_k": 250, "top_p": 0.0, "pattern": "auto", "batch_size": 1}

    def sample(model, name="text"):
        return run(
            "SampleTokens", model=model, positive=encode("jazz", name), duration=0.5, temperature=0.0, **widgets
        )["codes"]

    return sample


@pytest.fixture
def merged_model(run, models_folder):
    """The tiny text model as it is loaded after a LoRA was written into its stored weights."""
    folder = models_folder / "merged"

    def load(scale, **draw):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(CHECKPOINTS / "hf-text", folder)
        merge(folder, draw_factors(folder, **draw), scale)
        return run("Loader", model="merged", dtype="auto")[0]

    yield load
    shutil.rmtree(folder)


def loaded_weights(host, handle):
    """What a model's weights are once the host has brought it to its device, as a sampler does."""
    with host.patchers.on_device(handle.patcher):
        return {name: weight.clone() for name, weight in handle.patcher.model.state_dict().items()}


def equal(first, second):
    return all(
        torch.equal(first[name], weight) and first[name].dtype == weight.dtype for name, weight in second.items()
    )


def test_the_combo_lists_files_and_peft_folders_as_one_entry_each(host, lora_node):
    assert lora_node.GET_SCHEMA().node_id == "MusicGenLoraLoader"
    names = set(lora_node.GET_SCHEMA().inputs[1].options)
    assert {"mine/text.safetensors", "second.safetensors", "peft-text", "peft-melody"} <= names
    assert not [name for name in names if "adapter" in name or "image" in name]


def test_without_loras_the_combo_tells_where_to_put_one_and_refuses_itself(host, lora_node, monkeypatch):
    monkeypatch.setattr(host.folders, "loras", dict)
    (option,) = lora_node.define_schema().inputs[1].options
    assert option == "no LoRA in models/loras"
    assert "allowed are none. Put a .safetensors file" in lora_node.validate_inputs(lora=option)


def test_of_many_loras_the_error_names_ten(host, lora_node, monkeypatch):
    monkeypatch.setattr(host.folders, "loras", lambda: {f"{number}.safetensors": None for number in range(500)})
    assert "8.safetensors, 9.safetensors and 490 more. Put" in lora_node.validate_inputs(lora="x")


def test_names_saved_on_windows_are_found_and_unknown_ones_refused_with_the_known(host, lora_node):
    assert lora_node.validate_inputs(lora="mine\\text.safetensors") is True
    assert lora_node.validate_inputs(lora=None) is True
    for name in ("nobody", "../peft-text", "/etc/passwd", "mine/../second.safetensors"):
        answer = lora_node.validate_inputs(lora=name)
        assert repr(name) in answer and "does not exist; allowed are" in answer and "second.safetensors" in answer


def test_a_changed_file_is_read_again(lora_node, loras_folder):
    for name, file in (("second.safetensors", "second.safetensors"), ("peft-text", "peft-text/adapter_config.json")):
        before = lora_node.fingerprint_inputs(lora=name, strength=1.0)
        assert lora_node.fingerprint_inputs(lora=name, strength=1.0) == before
        assert str(loras_folder) not in before
        os.utime(loras_folder / file, ns=(1, 1))
        assert lora_node.fingerprint_inputs(lora=name, strength=1.0) != before


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["text", "melody", "stereo"])
def test_patching_unpatching_and_patching_again_restore_the_weights_bit_for_bit(run, host, with_lora, name, dtype):
    model, _, _ = run("Loader", model=f"tiny/{name}", dtype=dtype)
    before = {key: weight.clone() for key, weight in model.patcher.model.state_dict().items()}
    tuned = with_lora(model, f"peft-{name}")
    other = with_lora(tuned, f"peft-{name}", -0.37)
    assert equal(loaded_weights(host, model), before)
    first, second = loaded_weights(host, tuned), loaded_weights(host, other)
    assert not equal(first, before) and not equal(second, before) and not equal(first, second)
    assert equal(loaded_weights(host, model), before)
    assert equal(loaded_weights(host, tuned), first)
    assert equal(loaded_weights(host, other), second)
    tuned.patcher.detach()
    assert equal(loaded_weights(host, model), before)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["text", "melody", "stereo"])
def test_the_host_patches_the_weights_that_the_library_merges(pack, run, host, with_lora, name, dtype):
    library = importlib.import_module(f"{PACK}.musicgen.lora.apply")
    model, _, _ = run("Loader", model=f"tiny/{name}", dtype=dtype)
    lora = library.read_lora(PEFT_LORAS / name, model.config)
    patched = loaded_weights(host, with_lora(model, f"peft-{name}", 0.8))
    plain = library.LMModel(model.config.lm, dtype=model.patcher.model.dtype)
    plain.load_state_dict(loaded_weights(host, model))
    assert equal(patched, library.merged_lm(plain, lora, 0.8).state_dict())


def test_samplers_with_and_without_a_lora_in_one_graph_are_right_in_both_orders(
    run, with_lora, sample_with, merged_model
):
    wanted = {"merged": sample_with(merged_model(2.0))}
    for order in (("plain", "tuned", "plain"), ("tuned", "plain", "tuned")):
        plain = run("Loader", model="tiny/text", dtype="auto")[0]
        graph = {"plain": plain, "tuned": with_lora(plain)}
        codes = {}
        for name in order:
            found = sample_with(graph[name])
            assert torch.equal(codes.setdefault(name, found), found)
        assert torch.equal(codes["tuned"], wanted["merged"])
        assert torch.equal(codes["plain"], sample_with(run("Loader", model="tiny/text", dtype="auto")[0]))
        assert not torch.equal(codes["plain"], codes["tuned"])


@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_weights_that_are_read_in_another_order_follow_the_lora_and_come_back(
    run, models_folder, with_lora, sample_with, dtype
):
    folder = models_folder / "halved"
    shutil.copytree(CHECKPOINTS / "hf-text", folder, dirs_exist_ok=True)
    halved = {name: weight.half().float() for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(halved, folder / "model.safetensors", {"format": "pt"})
    plain = run("Loader", model="halved", dtype=dtype)[0]
    first = {"plain": sample_with(plain), "tuned": sample_with(with_lora(plain))}
    assert not torch.equal(first["plain"], first["tuned"])
    fresh = run("Loader", model="halved", dtype=dtype)[0]
    tuned = with_lora(fresh)
    for model, wanted in ((tuned, "tuned"), (fresh, "plain"), (tuned, "tuned"), (plain, "plain")):
        assert torch.equal(sample_with(model), first[wanted])
    shutil.rmtree(folder)


def test_the_codec_may_run_between_two_samplers(run, load, with_lora, sample_with, sample, encode):
    tuned = with_lora(load("text").model)
    first = sample_with(tuned)
    run("EnCodecDecode", codec=load("text").codec, tokens=sample(encode("folk")))
    assert torch.equal(sample_with(tuned), first)


def test_several_loras_in_a_row_add_up(load, host, with_lora, sample_with, merged_model):
    both = with_lora(with_lora(load("text").model, strength=0.25), "second.safetensors", -0.5)
    assert not torch.equal(sample_with(both), sample_with(load("text").model))
    folder_model = merged_model(0.5)
    alone = with_lora(load("text").model, strength=0.25)
    assert torch.equal(sample_with(alone), sample_with(folder_model))
    assert torch.equal(sample_with(with_lora(folder_model, "second.safetensors", -0.5)), sample_with(both))


def test_a_strength_of_zero_is_the_model_that_came_in(load, with_lora):
    model = load("text").model
    assert with_lora(model, strength=0.0) is model


def test_the_models_handle_is_copied_and_its_patcher_left_alone(load, with_lora):
    model = load("text").model
    patches, identity = dict(model.patcher.patches), model.patcher.patches_uuid
    tuned = with_lora(model)
    assert tuned is not model and tuned.patcher is not model.patcher
    assert tuned.patcher.model is model.patcher.model
    assert model.patcher.patches == patches == {} and model.patcher.patches_uuid == identity
    assert (tuned.name, tuned.codec, tuned.config) == (model.name, model.codec, model.config)


def test_weights_that_the_host_keeps_away_from_the_device_are_changed_on_the_fly(pack, run, host, with_lora):
    """What a GPU too small for the model does, done on the CPU: no weight is loaded, each is patched as it is used."""
    model, _, _ = run("Loader", model="tiny/text", dtype="fp32")
    before = {name: weight.clone() for name, weight in model.patcher.model.state_dict().items()}
    tuned = with_lora(model, "peft-text")
    wanted = run_lm(host, tuned)
    patcher, module = tuned.patcher, tuned.patcher.model
    patcher.detach()
    patcher.load(patcher.load_device, lowvram_model_memory=1)
    assert module.lowvram_patch_counter > 0
    assert equal(module.state_dict(), before)
    torch.testing.assert_close(run_module(module), wanted, atol=1e-4, rtol=0)
    patcher.detach()
    assert not torch.allclose(run_lm(host, model), wanted, atol=1e-2)


def run_lm(host, handle):
    with host.patchers.on_device(handle.patcher):
        return run_module(handle.patcher.model)


@torch.inference_mode()
def run_module(module):
    """Logits of six columns under a condition of three rows."""
    generator = torch.Generator().manual_seed(1)
    sequence = torch.randint(0, module.config.card, (1, module.config.num_codebooks, 6), generator=generator)
    states = torch.randn(1, 3, module.config.text_dim, generator=generator)
    mask = torch.ones(1, 3, dtype=torch.bool)
    cross = module.transformer.cross_caches(module.project_description(states, mask), mask)
    return module(module.embed(sequence), torch.arange(6), 6, cross=cross)


def test_what_does_not_fit_is_said_on_the_node_and_in_the_log(
    comfy, load, loras_folder, with_lora, monkeypatch, caplog
):
    lines = []
    server = SimpleNamespace(send_progress_text=lambda text, node_id: lines.append((text, node_id)))
    monkeypatch.setattr(comfy.server.PromptServer, "instance", server, raising=False)
    with_lora(load("text").model, "peft-text")
    assert lines == [("peft-text: strength 1, changes 25 matrices", "7")]
    lines.clear()
    t5 = {"text_encoder.encoder.block.0.layer.0.SelfAttention.q": (torch.ones(32, RANK), torch.ones(RANK, 32))}
    save(loras_folder / "more.safetensors", peft(draw_factors(CHECKPOINTS / "hf-text") | t5))
    with caplog.at_level(logging.WARNING, "musicgen"):
        with_lora(load("text").model, "more.safetensors")
    ((text, node_id),) = lines
    assert node_id == "7" and text.partition("\n")[2].replace("\n", " ") in caplog.messages
    assert "1 of its 26 changes (4%) are for the text encoder" in text and "tells no alpha" in text


def test_a_lora_of_another_model_is_refused_in_one_sentence(load, loras_folder, with_lora):
    wide = {"decoder.lm_heads.0": (torch.ones(64, 2), torch.ones(2, 1536))}
    save(loras_folder / "wide.safetensors", peft(wide))
    with pytest.raises(ValueError, match="made for a model that is 1536 wide, and this one is 48 wide") as refused:
        with_lora(load("text").model, "wide.safetensors")
    assert "wide.safetensors" in str(refused.value) and "\n" not in str(refused.value)


def test_rows_of_one_node_are_nodes_in_a_row_and_each_is_told(comfy, load, run, with_lora, sample_with, monkeypatch):
    lines = []
    server = SimpleNamespace(send_progress_text=lambda text, node_id: lines.append(text))
    monkeypatch.setattr(comfy.server.PromptServer, "instance", server, raising=False)
    model = load("text").model
    chained = with_lora(with_lora(model), "second.safetensors", -0.5)
    rows = {"lora_2": "none", "lora_3": "second.safetensors", "strength_3": -0.5, "lora_4": "mine/text.safetensors"}
    lines.clear()
    first = {"lora": "mine/text.safetensors", "strength": 1.0, "strength_4": 0.0}
    both = run("LoraLoader", model=model, **first, **rows)
    assert torch.equal(sample_with(both), sample_with(chained))
    assert both.loras == chained.loras == (("mine/text.safetensors", 1.0), ("second.safetensors", -0.5))
    told = lines[0].splitlines()
    assert [line.partition(",")[0] for line in told] == [
        "mine/text.safetensors: strength 1",
        "second.safetensors: strength -0.5",
        "mine/text.safetensors: strength 0",
    ]


def test_only_files_that_may_fit_are_listed_in_order(host, lora_node, loras_folder):
    foreign = {
        "image.safetensors": "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
        "words.safetensors": "base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight",
        "flux.safetensors": "transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight",
    }
    for file, name in foreign.items():
        up = name.replace("lora_down", "lora_up").replace("lora_A", "lora_B")
        save_file({name: torch.ones(2, 64), up: torch.ones(16, 2)}, loras_folder / file)
    (loras_folder / "damaged.safetensors").write_bytes(b"x")
    options = lora_node.GET_SCHEMA().inputs[1].options
    assert options == sorted(options) and not set(foreign) & set(options)
    assert {"damaged.safetensors", "mine/text.safetensors", "second.safetensors", "peft-text"} <= set(options)
    assert set(foreign) <= set(host.folders.loras())  # a workflow that names one gets the sentence of the node
    for file in (*foreign, "damaged.safetensors"):
        (loras_folder / file).unlink()
