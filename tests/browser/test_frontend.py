"""The pages beside the templates: saved workflows, help pages, errors and the pictures of the README."""

from __future__ import annotations

import struct

import pytest
from playwright.sync_api import Error

from .conftest import SCREENSHOTS
from .frontend import read_json
from .make_workflows import ROOT, ui_file
from .pictures import FILM, GRAPH
from .templates import BY_SLUG

SAVED = ROOT / "tests" / "saved"


def workflow(slug: str) -> dict:
    return read_json(ui_file(BY_SLUG[slug]))


@pytest.mark.parametrize("name", sorted(path.stem for path in SAVED.glob("*.json")))
def test_a_workflow_that_somebody_saved_still_opens_whole(frontend, name):
    graph = read_json(SAVED / f"{name}.json")
    frontend.open(graph, name)
    nodes = frontend.nodes()
    assert sorted(node["type"] for node in nodes) == sorted(node["type"] for node in graph["nodes"])
    assert [node["type"] for node in nodes if not node["known"] or node["marked"]] == []
    prompt = frontend.prompt()
    for key, node in read_json(SAVED / "api" / f"{name}.json").items():
        assert node["inputs"].items() <= prompt[key]["inputs"].items()
    assert frontend.troubles() == ""
    assert frontend.complaints == []


def test_every_node_opens_its_help_page_from_its_info_button(frontend):
    for name, kinds in {"melody_to_music": 5, "continue_music": 5}.items():
        frontend.open(workflow(name), name)
        types = [node["type"] for node in frontend.nodes() if node["type"].startswith("MusicGen")]
        assert len(types) == kinds
        for kind in types:
            title = (ROOT / "web" / "docs" / f"{kind}.md").read_text(encoding="utf-8").splitlines()[0]
            assert frontend.help(kind).startswith(title.removeprefix("# "))
    assert frontend.complaints == []


@pytest.mark.parametrize(
    ("kind", "key", "value", "shown"),
    [
        ("MusicGenLoader", "type", "MusicGenNobody", "musicgen-nodes"),  # the pack to install, by its registry name
        ("LoadAudio", "widgets_values", ["lost.wav"], "Load Audio - audio"),
    ],
)
def test_a_missing_node_or_file_would_have_been_noticed(frontend, kind, key, value, shown):
    graph = workflow("melody_to_music")
    node = next(node for node in graph["nodes"] if node["type"] == kind)
    node.pop("widgets_values_named")  # which would count more than the values' order
    node[key] = value
    frontend.open(graph, "incomplete")
    assert shown in frontend.troubles()


def test_a_node_s_error_shows_as_its_sentence(frontend):
    graph = workflow("melody_to_music")
    loader = next(node for node in graph["nodes"] if node["type"] == "MusicGenLoader")
    loader["widgets_values"][0] = loader["widgets_values_named"]["model"] = "bundled/musicgen-nano"
    frontend.open(graph, "wrong_model")
    with pytest.raises(Error, match=r"bundled/musicgen-nano.*melody"):
        frontend.run()
    troubles = frontend.troubles()
    frontend.page.screenshot(path=SCREENSHOTS / "wrong_model.png")
    assert "MusicGen Sample Tokens" in troubles and "ValueError: the model bundled/musicgen-nano" in troubles


def test_pictures_are_small_enough_to_ship():
    head = GRAPH.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and GRAPH.stat().st_size <= 300_000
    assert struct.unpack(">I", head[16:20])[0] >= 1200
    assert FILM.read_bytes()[8:12] == b"WEBP" and FILM.stat().st_size < 1_000_000
