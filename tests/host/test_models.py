"""Models in the real host: saved as one file, named as on Windows, downloaded from a hub on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dev.comfy_server import ComfyError, describe_failure

from .test_bad_input import assert_sentence

TINY = Path(__file__).resolve().parents[1] / "golden" / "checkpoints" / "hf-text"


@pytest.fixture(scope="module")
def tiny(host):
    """The tiny text model as a folder under models/musicgen; its name."""
    shutil.copytree(TINY, host.models / "tiny" / "text")
    return "tiny/text"


@pytest.fixture
def repository(hub):
    """Serve the tiny model as a release."""
    hub.mend()

    def add(repo):
        hub.add(repo, TINY, state_dict__bin=b"x", compression_state_dict__bin=b"x")

    yield add
    hub.repositories.clear()


def options(host):
    spec = host.server.object_info()["MusicGenLoader"]["input"]["required"]["model"]
    return spec[0] if isinstance(spec[0], list) else spec[1]["options"]


def label(host, repo):
    return next(name for name in options(host) if name.startswith(f"download {repo} "))


def save(host, model, prefix="musicgen/saved", dtype="as loaded"):
    """Load a model and save it; the lines that the node showed."""
    lines = []
    prompt = {
        "1": {"class_type": "MusicGenLoader", "inputs": {"model": model, "dtype": "auto"}},
        "2": {
            "class_type": "MusicGenSaveCheckpoint",
            "inputs": {
                "model": ["1", 0],
                "text_encoder": ["1", 1],
                "codec": ["1", 2],
                "filename_prefix": prefix,
                "dtype": dtype,
            },
        },
    }
    entry = host.server.run(prompt, lambda name, data: lines.append(data["text"]) if name == "text" else None)
    return describe_failure(entry), lines


def test_a_saved_model_is_listed_and_sounds_like_the_folder_it_was(host, tiny):
    failure, lines = save(host, tiny)
    assert failure is None
    assert lines[-1] == "saved saved_00001_.safetensors; MusicGen Loader: saved_00001_.safetensors"
    assert "saved_00001_.safetensors" in options(host)
    folder = host.play(host.workflow("text_to_music", model=tiny, seed=5))[0]
    single = host.play(host.workflow("text_to_music", model="saved_00001_.safetensors", seed=5))[0]
    assert np.array_equal(folder, single)


def test_names_saved_on_windows_are_found(host, tiny):
    assert save(host, tiny, prefix="musicgen\\of windows\\mine")[0] is None
    assert "of windows/mine_00001_.safetensors" in options(host)
    names = ["tiny\\text", "of windows\\mine_00001_.safetensors", "Tiny\\Text"]
    sounds = [host.play(host.workflow("text_to_music", model=name, seed=6))[0] for name in names]
    assert np.array_equal(sounds[0], sounds[1]) and np.array_equal(sounds[0], sounds[2])


def test_a_model_is_not_saved_outside_the_output_folder(host, tiny):
    failure = save(host, tiny, prefix="../models/musicgen/mine")[0]
    assert "filename_prefix is '../models/musicgen/mine'; allowed are places inside" in failure


def test_a_file_that_is_no_model_is_refused(host, tiny):
    shutil.copy(TINY / "model.safetensors", host.models / "weights.safetensors")
    error = host.fail(host.workflow("text_to_music", model="weights.safetensors"))
    assert_sentence(error, "weights.safetensors is no single-file MusicGen model", "config.json")


def test_a_release_is_downloaded_when_chosen_and_then_is_a_model_like_any_other(host, hub, repository, tiny):
    repository("facebook/musicgen-small")
    choice = label(host, "facebook/musicgen-small")
    assert choice == "download facebook/musicgen-small (2.4 GB, CC-BY-NC 4.0)"
    assert hub.requests == []  # listing asks nobody
    events = []
    sound = host.play(host.workflow("text_to_music", model=choice, seed=5), lambda *event: events.append(event))[0]
    assert np.array_equal(sound, host.play(host.workflow("text_to_music", model=tiny, seed=5))[0])
    steps = [(data["value"], data["max"]) for name, data in events if name == "progress" and data["node"] == "1"]
    assert steps and steps == sorted(steps) and steps[-1][0] == steps[-1][1] > 1_000_000
    assert any(name == "text" and "model.safetensors" in data["text"] for name, data in events)
    assert sorted(hub.fetched()) == sorted(path.name for path in TINY.iterdir())
    assert "musicgen-small" in options(host) and choice not in options(host)
    hub.mend()
    for name in ("musicgen-small", choice):
        assert np.array_equal(sound, host.play(host.workflow("text_to_music", model=name, seed=5))[0])
    assert hub.requests == []


def test_cancel_ends_a_stalled_download_which_later_goes_on(host, hub, repository):
    repository("facebook/musicgen-medium")
    hub.stall_after = 500_000
    choice = label(host, "facebook/musicgen-medium")

    def stop(name, data):
        if name == "progress" and data["value"] > 400_000:
            host.server.interrupt()

    entry = host.server.run(host.workflow("text_to_music", model=choice), stop, timeout=60)
    assert describe_failure(entry) == "MusicGenLoader: interrupted"
    assert choice in options(host) and "musicgen-medium" not in options(host)
    hub.go_on.set()
    hub.mend()
    assert host.play(host.workflow("text_to_music", model=choice))[0].shape == (1, 32000)
    assert len(hub.resumed()) == 1


@pytest.mark.parametrize(("status", "words"), [(401, "no permission"), (404, "not found")])
def test_what_the_hub_refuses_is_told_with_the_way_by_hand(host, hub, repository, status, words):
    hub.refuse = {"/api/": status}
    error = host.fail(host.workflow("text_to_music", model=label(host, "facebook/musicgen-large")))
    place = str(host.models / "musicgen-large")
    assert_sentence(error, f"{status}, {words}", "model.safetensors", f"{hub.address}/facebook/musicgen-large", place)


def test_an_unknown_download_is_refused_before_it_runs(host, hub):
    with pytest.raises(ComfyError, match=r"MusicGenLoader.*'download nobody/nothing'.*does not exist"):
        host.server.queue(host.workflow("text_to_music", model="download nobody/nothing"))
