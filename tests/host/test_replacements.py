"""The one-step node, and workflows of packs that are no longer kept up: ours take the place of their nodes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from dev.comfy_server import ComfyError, describe_failure
from tests.conftest import ROOT
from tests.host.conftest import decode
from tests.replaced import AUDIO_PACK, SOUND_LAB, with_titles

INPUTS = {"model_name": "bundled/musicgen-nano", "text": "slow jazz", "duration": 1.0, "seed": 5}


def one_step(**inputs):
    node = {"class_type": "MusicGenTextToMusic", "inputs": {**INPUTS, **inputs}}
    saver = {"audio": ["1", 0], "filename_prefix": "audio/one_step", "format": "flac"}
    return {"1": node, "2": {"class_type": "SaveAudioAdvanced", "inputs": saver}}


@pytest.fixture
def small(host, tmp_path):
    """A model where the old packs look for musicgen-small; one that other tests fetched stands aside."""
    folder, aside = host.models / "musicgen-small", tmp_path / "aside"
    if folder.exists():
        shutil.move(folder, aside)
    shutil.copytree(ROOT / "models" / "musicgen-nano", folder)
    yield folder
    shutil.rmtree(folder)
    if aside.exists():
        shutil.move(aside, folder)


DEFAULTS = {"cfg_coef": 3.0, "temperature": 1.0, "top_k": 250, "top_p": 0.0}


def sound_of(host, prompt):
    return host.play(host.for_this_version(prompt))[0]


def test_one_step_equals_the_four_nodes(host):
    four = host.workflow("text_to_music", model=INPUTS["model_name"], text="slow jazz", seed=5, **DEFAULTS)
    assert np.array_equal(sound_of(host, one_step()), sound_of(host, four))


def test_one_step_loads_its_model_once_for_two_runs(host):
    events = []
    host.play(host.for_this_version(one_step(seed=71)))
    host.play(host.for_this_version(one_step(seed=72)), lambda name, data: events.append((name, data)))
    ran = [data["node"] for name, data in events if name == "executing" and data["node"]]
    # The third and fourth node of the expanded graph sample and decode; loader and text encoder do not run again.
    assert ran == ["1", "1.0.0.3", "1.0.0.4", "2"]


def test_one_step_alone_plays_its_sound_on_the_node(host):
    entry = host.server.run({"1": one_step(seed=73)["1"]}, timeout=300)
    assert describe_failure(entry) is None
    shown = [entry["meta"][key]["display_node"] for key, output in entry["outputs"].items() if output.get("audio")]
    assert shown == ["1"]


def test_one_step_takes_a_loaded_model_and_continues_a_recording(host):
    prompt = {
        **one_step(model_name="no such model", model=["3", 0], prompt=["4", 0], duration=2.0),
        "3": {"class_type": "MusicGenLoader", "inputs": {"model": INPUTS["model_name"], "dtype": "auto"}},
        "4": {"class_type": "LoadAudio", "inputs": {"audio": "recording.wav"}},
    }
    parts = host.workflow(
        "continue_music", model=INPUTS["model_name"], text="slow jazz", duration=2.0, seed=5, **DEFAULTS
    )
    assert np.array_equal(sound_of(host, prompt), sound_of(host, parts))


def test_one_step_refuses_a_name_that_no_model_has(host):
    with pytest.raises(ComfyError, match="'no such model', which does not exist; allowed are bundled/musicgen-nano"):
        host.server.queue(host.for_this_version(one_step(model_name="no such model")))


@pytest.mark.parametrize("name", ["musicgen-large", "large", "facebook/musicgen-large"])
def test_a_release_that_is_not_here_is_never_fetched_but_named(host, name):
    with pytest.raises(ComfyError, match=r"not here yet; choose 'download facebook/musicgen-large"):
        host.server.queue(host.for_this_version(one_step(model_name=name)))


def test_every_replacement_names_inputs_and_outputs_that_the_new_node_has(host):
    info = host.server.object_info()
    offered = host.server._get_json("/node_replacements")
    ours = {old: new for old, new in offered.items() if new[0]["new_node_id"].startswith("MusicGen")}
    generators = {"MusicgenGenerate", "MusicgenHFGenerate", "Musicgen_", "HuggingFaceMusicGen"}
    assert set(ours) == {"MusicgenLoader", "MusicgenHFLoader"} | generators
    for (replacement,) in [*ours.values(), offered["AudioPlay"]]:
        node = info[replacement["new_node_id"]]
        known = {name for group in ("required", "optional") for name in node["input"].get(group, {})}
        mapped = [pair["new_id"] for pair in replacement["input_mapping"]]
        assert set(mapped) <= known and len(mapped) == len(set(mapped))
        assert set(node["input"]["required"]) <= set(mapped)
        assert all(pair["new_idx"] < len(node["output"]) for pair in replacement["output_mapping"] or [])


@pytest.mark.parametrize("old", [AUDIO_PACK, SOUND_LAB], ids=["ComfyUI-audio", "comfyui-sound-lab"])
def test_an_old_graph_runs_with_our_nodes_in_the_place_of_its_own(host, small, old):
    entry = host.server.run(with_titles(old), timeout=300)
    assert describe_failure(entry) is None
    (item,) = entry["outputs"][list(old)[-1]]["audio"]
    samples, rate = decode(host.server.view(item))
    assert (rate, samples.shape) == (16000, (1, 16000))
    assert samples.std() > 1e-4
