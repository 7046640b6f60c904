"""Songs become a dataset, a dataset a LoRA that acts at once, and a saved LoRA one that the loader reads."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch

from musicgen.evaluation.folders import write_sound

KEEP = "keep the LoRA so far"
RATE = 16000


@pytest.fixture
def places(comfy, tmp_path, monkeypatch):
    """Input, output and user folders of the test's own; the input folder has three songs in `mine/best`."""
    folders = comfy.folder_paths
    for name in ("input", "output", "user"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folders, f"{name}_directory", str(tmp_path / name))
    songs = tmp_path / "input" / "mine" / "best"
    songs.mkdir(parents=True)
    for number in range(3):
        time = torch.arange((2 + number) * RATE) / RATE
        wave = 0.3 * torch.sin(2 * math.pi * 220 * 1.5**number * time) * (1 - (4 * time) % 1)
        write_sound(songs / f"{number}.wav", wave[None], RATE)
    paths, extensions = folders.folder_names_and_paths["loras"]
    own = {"loras": ([*paths, str(tmp_path / "output" / "loras")], extensions)}
    monkeypatch.setattr(folders, "folder_names_and_paths", {**folders.folder_names_and_paths, **own})
    return tmp_path


@pytest.fixture
def prepare(run, load, places):
    """The outputs of the dataset node for the songs; keywords change the inputs."""

    def prepare_songs(name="text", **changes):
        inputs = {"songs": "mine/best", "trigger": "kalo", "caption": "a tune", "seconds": 1.0, "held_out": 0.3}
        return run("Dataset", model=load(name).model, **{**inputs, **changes})

    return prepare_songs


@pytest.fixture
def teach(run, load, prepare):
    """Train the tiny model for some steps; keywords change the inputs."""

    def train_lora(dataset=None, name="text", **changes):
        inputs = {"steps": 6, "learning_rate": 0.01, "rank": 4, "seed": 1, "preview_every": 0, "batch": 2}
        more = {"targets": "all linear", "alpha": 0.0, "accumulate": 1, "warmup": 1, "drop_text": 0.1, "patience": 0}
        chosen = prepare(name)[0] if dataset is None else dataset
        values = {**inputs, **more, "dtype": "auto", **changes}
        return run("TrainLora", model=load(name).model, dataset=chosen, **values)

    return train_lora


def test_a_folder_of_songs_becomes_a_dataset_with_a_picture_and_its_first_piece(prepare, places):
    dataset, picture, first, report = prepare()
    assert len(dataset.songs) == 3 and {song.caption for song in dataset.songs} == {"kalo, a tune"}
    assert picture.shape[-1] == 3 and first["waveform"].shape == (1, 1, 32000)
    assert report.startswith("3 songs, 0.1 min, 1 captions\n")
    assert len(list((places / "user" / "musicgen" / "encodings").rglob("*.safetensors"))) == 3


def test_folders_come_from_the_input_folder_and_from_places_that_the_user_configured(
    comfy, pack, places, tmp_path, monkeypatch
):
    import importlib

    song_folders = importlib.import_module(f"{pack.__name__}.nodes.host.song_folders")
    assert "mine/best" in song_folders.song_folders()
    further = tmp_path / "elsewhere"
    (further / "live").mkdir(parents=True)
    write_sound(further / "live" / "one.wav", torch.ones(1, RATE) * 0.1, RATE)
    table = {**comfy.folder_paths.folder_names_and_paths, "musicgen_songs": ([str(further)], set())}
    monkeypatch.setattr(comfy.folder_paths, "folder_names_and_paths", table)
    assert song_folders.song_folders()["elsewhere/live"] == further / "live"
    assert song_folders.resolve_songs("mine\\best") == places / "input" / "mine" / "best"
    for name in ("../etc", "/etc", "nothing", None):
        with pytest.raises(ValueError, match="is no folder with sounds in a place that ComfyUI may read; allowed are"):
            song_folders.resolve_songs(name)


def take(run, model, positive):
    """Half a second of codes."""
    widgets = {"duration": 0.5, "batch_size": 1, "seed": 1, "cfg_coef": 3.0, "temperature": 1.0, "top_k": 250}
    return run("SampleTokens", model=model, positive=positive, top_p=0.0, pattern="auto", **widgets)["codes"]


def test_a_trained_lora_acts_at_once_and_its_saved_folder_is_the_same(run, load, encode, teach, places):
    lora, model, loss, steps, report = teach()
    assert len(loss["loss"]) == 6 and 1 <= steps <= 6 and report.startswith("6 steps, loss ")
    assert model.loras == (("best", 1.0),) and load("text").model.loras == ()
    name = run("SaveLora", lora=lora, filename_prefix="loras/%songs%")
    assert name == "best_00001_"
    folder = places / "output" / "loras" / name
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    read = run("LoraLoader", model=load("text").model, lora=name, strength=1.0)
    positive = encode("kalo, a tune")
    own, other, plain = (take(run, each, positive) for each in (model, read, load("text").model))
    assert torch.equal(own, other) and not torch.equal(own, plain)
    assert run("SaveLora", lora=lora, filename_prefix="loras/%songs%") == "best_00002_"


def test_a_saved_folder_tells_its_caption_base_licence_and_recipe(run, teach, places):
    from safetensors import safe_open

    lora = teach()[0]
    folder = places / "output" / "loras" / run("SaveLora", lora=lora, filename_prefix="loras/mine")
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        facts, names = file.metadata(), list(file.keys())
    assert facts["caption"] == "kalo, a tune" and facts["base_model"] == "tiny/text"
    assert facts["base_licence"] == "unknown" and json.loads(facts["recipe"])["rank"] == 4
    assert not any(name.endswith(".alpha") for name in names)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 4.0)
    assert "rank 4 and alpha 4" in (folder / "README.md").read_text(encoding="utf-8")


def test_peft_reads_a_saved_folder_and_gives_our_logits(run, load, teach, places):
    peft = pytest.importorskip("peft")
    from transformers import MusicgenForConditionalGeneration

    from tests.conftest import GOLDEN, golden_model

    lora = teach()[0]
    folder = places / "output" / "loras" / run("SaveLora", lora=lora, filename_prefix="loras/mine")
    base = MusicgenForConditionalGeneration.from_pretrained(GOLDEN / "checkpoints" / "hf-text").eval()
    theirs = peft.PeftModel.from_pretrained(base, folder)
    m = golden_model("hf-text")
    from musicgen import read_lora

    ours = m.with_lora(read_lora(folder, m.config))
    merged = theirs.merge_and_unload()
    weight = merged.decoder.model.decoder.layers[0].self_attn.q_proj.weight
    assert torch.allclose(ours.lm.state_dict()["transformer.layers.0.self_attn.qkv.weight"][:48], weight, atol=1e-6)
    assert not torch.equal(m.lm.state_dict()["transformer.layers.0.self_attn.qkv.weight"][:48], weight)


def test_cores_own_nodes_take_the_lora_and_the_loss(comfy, run, load, teach, places):
    import asyncio
    import importlib

    core = importlib.import_module("comfy_extras.nodes_train")
    nodes = {node.GET_SCHEMA().node_id: node for node in asyncio.run(core.TrainingExtension().get_node_list())}
    outputs = [part.io_type for part in nodes["TrainLoraNode"].GET_SCHEMA().outputs]
    lora, _, loss, _, _ = teach()
    assert outputs[:2] == ["LORA_MODEL", "LOSS_MAP"]
    nodes["SaveLoRA"].execute(lora=lora, prefix="loras/core", steps=6)
    read = run("LoraLoader", model=load("text").model, lora="core_6_steps_00001_.safetensors", strength=1.0)
    assert read.loras == (("core_6_steps_00001_.safetensors", 1.0),)
    assert nodes["LossGraphNode"].execute(loss=loss, filename_prefix="loss").ui is not None


def test_cancel_keeps_what_there_is_or_goes_on_bit_for_bit_later(comfy, teach, prepare, places, monkeypatch):
    dataset = prepare()[0]
    whole = teach(dataset, seed=5)

    def cancel_in_step(step):
        def watch(_, value, *args):
            if value == step:
                comfy.management.interrupt_current_processing()

        monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", watch)

    cancel_in_step(3)
    kept = teach(dataset, seed=6, on_cancel=KEEP)
    assert len(kept[2]["loss"]) == 3 and "Cancel ended the training after step 3." in kept[4]
    assert not comfy.management.processing_interrupted()
    shutil.rmtree(places / "user" / "musicgen" / "trainings")
    with pytest.raises(comfy.management.InterruptProcessingException):
        teach(dataset, seed=5)
    steps = []
    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", lambda _, value, *args: steps.append(value))
    again = teach(dataset, seed=5)
    assert steps == [4, 5, 6] and again[2] == whole[2]
    assert all(torch.equal(again[0][name], whole[0][name]) for name in whole[0])


def test_the_sounds_of_a_training_are_without_and_with_the_lora(pack, load, prepare):
    import importlib

    inner = f"{pack.__name__}.musicgen.finetuning"
    adapters, listening = (importlib.import_module(f"{inner}.{name}") for name in ("adapters", "listening"))
    model = load("text").model
    lm = adapters.trainable_copy(model.patcher.model, model.patcher.model.state_dict(), torch.float32, "cpu")
    generator = torch.Generator().manual_seed(0)
    adapted = adapters.AdaptedLM(lm, model.config, rank=2, alpha=2.0, targets="attention", generator=generator)
    config = replace(model.config, window=1.0)
    listen = listening.Listener(adapted, config, load("text").codec.patcher.model, torch.randn(3, 32), "cpu")
    (without, same), rate = listen()
    assert rate == 32000 and without.shape == (1, 32000) and torch.equal(without, same)
    with torch.no_grad():
        for parameter in adapted.parameters().values():
            parameter.add_(0.3)
    (again, changed), _ = listen()
    assert torch.equal(without, again) and not torch.equal(without, changed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 0.0}, "learning rate is 0.0; allowed is a number above 0 and up to 0.1"),
        ({"learning_rate": 1e3}, "learning rate is 1000.0; allowed is a number above 0 and up to 0.1"),
        ({"rank": 64}, "rank is 64; allowed is 1 to 48, the width of tiny/text"),
    ],
)
def test_a_number_that_cannot_be_trained_with_is_refused(teach, places, changes, words):
    with pytest.raises(ValueError) as refused:
        teach(**changes)
    assert words in str(refused.value)
    assert not (places / "user" / "musicgen" / "trainings").exists()


def test_songs_of_another_codec_or_kind_of_model_are_refused(load, prepare, teach, run):
    dataset = prepare()[0]
    with pytest.raises(ValueError, match="were encoded by another codec than that of tiny/stereo"):
        teach(dataset, name="stereo")
    with pytest.raises(ValueError, match=r"tiny/style is a style model, which is not trained here"):
        run("Dataset", model=load("style").model, songs="mine/best", trigger="x", caption="")


def test_too_little_memory_is_a_sentence_with_the_setting_that_would_fit(pack, teach, prepare, places, monkeypatch):
    import importlib

    trainings = importlib.import_module(f"{pack.__name__}.nodes.host.trainings")
    memory = importlib.import_module(f"{pack.__name__}.musicgen.finetuning.memory")
    dataset = prepare()[0]
    monkeypatch.setattr(trainings, "free_bytes", lambda wanted: wanted - 1)
    with pytest.raises(MemoryError, match=r"this training takes .* are free; choose gradient checkpointing on"):
        teach(dataset, recompute="off")
    assert teach(dataset)[3] >= 1  # auto turns it on
    monkeypatch.setattr(memory, "_SPARE", 0)
    monkeypatch.setattr(trainings, "free_bytes", lambda wanted: 1000)
    with pytest.raises(MemoryError, match="no setting fits: the least is .* or choose a smaller model"):
        teach(dataset)
    assert not list((places / "user").rglob("*.part"))


def test_a_lora_of_another_kind_is_not_saved_here(run, places):
    with pytest.raises(ValueError, match="the LoRA is not from MusicGen Train LoRA"):
        run("SaveLora", lora={"a.lora_up.weight": torch.zeros(2, 2)}, filename_prefix="loras/x")
    assert not (places / "output" / "loras").exists()
