"""The archive for the registry in the oldest ComfyUI that it promises (`requires-comfyui`): a short run of everything.

`python quickstart.py test --matrix` runs all host tests on this and on the other versions.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dev.comfy_server import ComfyServer, prepare_base
from dev.pack import write_archive
from dev.setup import HOST_SOURCES, PINNED, fetch_host
from tests.conftest import ROOT
from tests.host.conftest import Host, blueprints, complaints
from tests.pyproject import oldest_comfyui, value_of


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    base, archive = tmp_path_factory.mktemp("oldest"), tmp_path_factory.mktemp("archive") / "pack.zip"
    write_archive(archive)
    # ComfyUI-Manager unpacks it into a folder of the project's name.
    unpacked = base / "custom_nodes" / value_of("name")
    zipfile.ZipFile(archive).extractall(unpacked)
    prepare_base(base, unpacked, value_of("name"))
    with ComfyServer(base, fetch_host(oldest_comfyui())) as server:
        oldest = Host(server)
        oldest.record("melody.wav", oldest.tune([440.0, 523.25]))
        oldest.record("recording.wav", oldest.tune([220.0, 329.63], 0.25))
        yield oldest


def test_the_promised_version_is_one_that_can_be_tested():
    assert oldest_comfyui() in HOST_SOURCES and list(HOST_SOURCES)[-1] == PINNED


def test_the_unpacked_archive_loads_without_a_complaint(oldest):
    assert complaints(oldest.server.log()) == []


def test_every_node_has_the_same_inputs_and_outputs_as_in_the_newest_version(oldest, host):
    old, new = oldest.server.object_info(), host.server.object_info()
    ours = [name for name, node in new.items() if node["category"] == "audio/MusicGen"]
    assert ours
    for name in ours:
        assert {kind: list(group) for kind, group in old[name]["input"].items()} == {
            kind: list(group) for kind, group in new[name]["input"].items()
        }
        assert old[name]["output"] == new[name]["output"]


@pytest.mark.parametrize("name", ["text_to_music", "melody_to_music", "continue_music"])
def test_a_workflow_makes_sound(oldest, name):
    samples, rate = oldest.play(oldest.workflow(name))
    assert (rate, samples.shape) == (16000, (1, 16000))
    assert np.isfinite(samples).all() and samples.std() > 1e-4


def test_the_archive_brings_the_boxes_that_hold_a_graph(oldest, host):
    assert blueprints(oldest.server) == blueprints(host.server) != {}


def test_every_template_names_nodes_that_the_promised_version_has(oldest):
    known = set(oldest.server.object_info())
    used = {path.stem: _classes(path) for path in sorted((ROOT / "workflows" / "api").glob("*.json"))}
    assert {name: missing for name, classes in used.items() if (missing := classes - known)} == {}


def _classes(path: Path) -> set[str]:
    return {node["class_type"] for node in json.loads(path.read_text(encoding="utf-8")).values()}
