"""What a user sees: the workflows open whole, run from the page, and end in a sound that plays."""

from __future__ import annotations

import itertools
import struct

import pytest
from playwright.sync_api import Error

from .frontend import Frontend, read_json
from .make_workflows import NAMES, PICTURE, ROOT, WORKFLOWS, make_workflow

SAVED = ROOT / "tests" / "saved"
SCREENSHOTS = ROOT / ".host" / "screenshots"
PACK = "musicgen"  # the name of the pack's folder in custom_nodes


def workflow(name: str) -> dict:
    return read_json(WORKFLOWS / f"{name}.json")


def api(name: str) -> dict:
    return read_json(WORKFLOWS / "api" / f"{name}.json")


def overlaps(frontend: Frontend) -> list[tuple[str, str]]:
    """Pairs of nodes of which one covers a part of the other."""

    def apart(a: list[float], b: list[float]) -> bool:
        return any(a[i] + a[i + 2] <= b[i] or b[i] + b[i + 2] <= a[i] for i in (0, 1))

    pairs = itertools.combinations(frontend.nodes(), 2)
    return [(a["type"], b["type"]) for a, b in pairs if not apart(a["box"], b["box"])]


def pictures(frontend: Frontend) -> dict[str, list]:
    return {node["type"]: node["pictures"] for node in frontend.nodes() if node["pictures"]}


@pytest.mark.parametrize("name", NAMES)
def test_workflow_file_is_what_make_workflows_makes_of_the_api_file(frontend, name):
    made = make_workflow(frontend, name)
    assert made == workflow(name), "run `python -m tests.browser.make_workflows`"


@pytest.mark.parametrize("name", NAMES)
def test_workflow_opens_whole_and_in_silence_from_its_card_in_the_template_browser(frontend, name):
    frontend.open_template(name, PACK)
    nodes = frontend.nodes()
    assert sorted(node["type"] for node in nodes) == sorted(node["type"] for node in workflow(name)["nodes"])
    assert [node["type"] for node in nodes if not node["known"] or node["marked"]] == []
    assert frontend.prompt() == api(name)
    assert overlaps(frontend) == []
    assert frontend.troubles() == ""
    assert frontend.complaints == []


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


@pytest.mark.parametrize("name", NAMES)
def test_run_ends_in_a_sound_that_plays_and_brings_its_workflow_along(frontend, name):
    frontend.open(workflow(name), name)
    frontend.run()
    sound = frontend.listen()
    frontend.picture(SCREENSHOTS / f"{name}.png")
    assert sound["shown"] == pytest.approx(10, abs=0.05)
    assert sound["seconds"] == pytest.approx(10, abs=0.05)
    assert sound["peak"] > 0.001 and sound["started"]
    assert set(pictures(frontend)) == {"MusicGenSampleTokens", *(["PreviewImage"] if "melody" in name else [])}
    assert overlaps(frontend) == []
    frontend.drop_saved_sound()
    assert frontend.prompt() == api(name)
    assert frontend.troubles() == ""
    assert frontend.complaints == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "catalogue"])  # it has no seed of its own
def test_workflow_works_in_nodes_2_too(frontend, name):
    graph = workflow(name)
    sampler = next(node for node in graph["nodes"] if node["type"] == "MusicGenSampleTokens")
    sampler["widgets_values"][2] = 43  # what ran before would not run again
    with frontend.nodes_2():
        frontend.open(graph, name)
        prompt = frontend.prompt()
        frontend.run()
        sound = frontend.listen()
        frontend.picture(SCREENSHOTS / f"{name}_nodes_2.png")
        assert overlaps(frontend) == []
    assert prompt["3"]["inputs"].pop("seed") == 43
    expected = api(name)
    del expected["3"]["inputs"]["seed"]
    assert prompt == expected
    assert sound["seconds"] == pytest.approx(10, abs=0.05) and sound["started"]
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
    next(node for node in graph["nodes"] if node["type"] == kind)[key] = value
    frontend.open(graph, "incomplete")
    assert shown in frontend.troubles()


def test_a_node_s_error_shows_as_its_sentence(frontend):
    graph = workflow("melody_to_music")
    loader = next(node for node in graph["nodes"] if node["type"] == "MusicGenLoader")
    loader["widgets_values"][0] = "bundled/musicgen-nano"
    frontend.open(graph, "wrong_model")
    with pytest.raises(Error, match=r"bundled/musicgen-nano.*melody"):
        frontend.run()
    troubles = frontend.troubles()
    frontend.page.screenshot(path=SCREENSHOTS / "wrong_model.png")
    assert "MusicGen Sample Tokens" in troubles and "ValueError: the model bundled/musicgen-nano" in troubles


def test_pictures_are_small_enough_to_ship():
    cards = [WORKFLOWS / f"{name}.jpg" for name in NAMES]
    assert all(card.read_bytes()[:2] == b"\xff\xd8" and card.stat().st_size <= 40_000 for card in cards)
    head = PICTURE.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and PICTURE.stat().st_size <= 300_000
    assert struct.unpack(">I", head[16:20])[0] >= 1200
