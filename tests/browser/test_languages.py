"""The pack in English and Chinese, and the nodes of other packs that ours replace, as a user sees them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from tests.replaced import HUGGING_FACE

from .frontend import Frontend
from .make_workflows import ROOT, WORKFLOWS

LANGUAGE = "async (language) => { await app.extensionManager.setting.set('Comfy.Locale', language) }"
TITLES = "() => Object.fromEntries(app.graph.nodes.map(node => [node.type, node.title]))"
LABELS = """(type) => app.graph.nodes.find(node => node.type === type).inputs.map(
  input => input.label ?? input.localized_name ?? input.name)"""
MISSING = "() => app.graph.nodes.filter(node => !(node.type in LiteGraph.registered_node_types)).map(node => node.type)"
FIRST_LINK = "() => app.graph.nodes.find(node => node.type === 'PreviewAudio').getInputNode(0).type"


def read(name: str, language: str) -> dict:
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def chinese(frontend: Frontend) -> Iterator[Frontend]:
    """The page in Chinese, which needs a new start of the page."""
    _speak(frontend, "zh")
    yield frontend
    _speak(frontend, "en")


def _speak(frontend: Frontend, language: str) -> None:
    frontend.page.evaluate(LANGUAGE, language)
    frontend.reload("MusicGenLoader")
    frontend.complaints.clear()


def test_a_help_page_opens_in_english(frontend):
    frontend.open(_graph(), "english")
    text = frontend.help("MusicGenSampleTokens")
    assert "Samples a piece of music as tokens" in text and "Traps" in text


def test_help_titles_and_inputs_are_in_chinese_where_the_page_is(chinese):
    chinese.open(_graph(), "chinese")
    said = read("nodeDefs", "zh")
    titles = chinese.page.evaluate(TITLES)
    assert titles["MusicGenSampleTokens"] == said["MusicGenSampleTokens"]["display_name"]
    names = [entry["name"] for entry in said["MusicGenSampleTokens"]["inputs"].values()]
    assert set(chinese.page.evaluate(LABELS, "MusicGenSampleTokens")) >= set(names[:2])
    text = chinese.help("MusicGenSampleTokens")
    assert "\u91c7\u6837" in text and "Samples a piece" not in text
    assert chinese.complaints == []


def test_a_graph_of_another_pack_runs_after_its_nodes_are_replaced(frontend, server):
    shutil.copytree(ROOT / "models" / "musicgen-nano", server.base / "models" / "musicgen" / "musicgen-small")
    frontend.open(HUGGING_FACE, "old")
    assert frontend.page.evaluate(MISSING) == ["HuggingFaceMusicGen"]
    frontend.replace_missing_nodes()
    assert frontend.page.evaluate(MISSING) == []
    assert frontend.page.evaluate(FIRST_LINK) == "MusicGenTextToMusic"
    inputs = frontend.prompt()["1"]["inputs"]
    expected = {
        "model_name": "small",
        "text": "groovy bassline with drums",
        "duration": 1.5,
        "seed": 42,
        "cfg_coef": 4.0,
    }
    assert {key: inputs[key] for key in expected} == expected
    assert (inputs["temperature"], inputs["top_k"]) == (0.5, 50)
    frontend.run()


def _graph() -> dict:
    name = "text_to_music.json"
    path = WORKFLOWS / name if (WORKFLOWS / name).is_file() else sorted(WORKFLOWS.glob("*.json"))[0]
    return json.loads(path.read_text(encoding="utf-8"))
