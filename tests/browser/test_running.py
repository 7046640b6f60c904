"""Run on the page ends in a sound or a film that plays, in both kinds of nodes and in App mode."""

from __future__ import annotations

import pytest

from .conftest import PACK, SCREENSHOTS
from .frontend import Frontend, read_json
from .geometry import overlaps
from .make_workflows import api_file, ui_file
from .templates import BY_SLUG


def workflow(slug: str) -> dict:
    return read_json(ui_file(BY_SLUG[slug]))


def pictures(frontend: Frontend) -> set[str]:
    return {node["type"] for node in frontend.nodes() if node["pictures"]}


def test_run_ends_in_a_sound_that_plays_and_brings_its_workflow_along(frontend):
    frontend.open(workflow("text_to_music"), "text_to_music")
    frontend.run()
    sound = frontend.listen()
    frontend.picture(SCREENSHOTS / "text_to_music.png")
    assert sound["shown"] == pytest.approx(10, abs=0.05)
    assert sound["seconds"] == pytest.approx(10, abs=0.05)
    assert sound["peak"] > 0.001 and sound["started"]
    assert pictures(frontend) == {"MusicGenSampleTokens"}
    assert overlaps(frontend.nodes()) == []
    frontend.drop_saved_sound()
    assert frontend.prompt() == read_json(api_file("text_to_music"))
    assert frontend.troubles() == ""
    assert frontend.complaints == []


def test_a_melody_sounds_and_shows_in_nodes_2(frontend):
    graph = workflow("melody_to_music")
    sampler = next(node for node in graph["nodes"] if node["type"] == "MusicGenSampleTokens")
    sampler["widgets_values"][2] = sampler["widgets_values_named"]["seed"] = 43  # values have two homes
    with frontend.nodes_2():
        frontend.open(graph, "melody_to_music")
        prompt = frontend.prompt()
        frontend.run()
        sound = frontend.listen()
        frontend.picture(SCREENSHOTS / "melody_to_music_nodes_2.png")
        assert overlaps(frontend.nodes()) == []
    expected = read_json(api_file("melody_to_music"))
    expected["3"]["inputs"]["seed"] = 43
    assert prompt == expected
    assert sound["seconds"] == pytest.approx(10, abs=0.05) and sound["started"]
    assert frontend.complaints == []


@pytest.mark.parametrize("named", [False, True], ids=["by order", "by name"])
def test_saved_values_are_found_by_their_order_as_well_as_by_their_names(frontend, named):
    graph = workflow("text_to_music")
    for node in graph["nodes"]:
        if not named:
            node.pop("widgets_values_named", None)
    frontend.open(graph, "values")
    assert frontend.prompt() == read_json(api_file("text_to_music"))


def test_a_film_plays_with_its_music(frontend):
    frontend.open(workflow("music_for_a_video"), "music_for_a_video")
    frontend.run()
    film = frontend.watch()
    frontend.picture(SCREENSHOTS / "music_for_a_video.png")
    assert film["seconds"] == pytest.approx(5, abs=0.1) and film["width"] == 320
    assert film["peak"] > 0.001 and film["started"]
    assert overlaps(frontend.nodes()) == []
    assert frontend.complaints == []


def test_a_workflow_that_asks_for_app_mode_opens_as_its_page_and_ours_as_a_graph(frontend):
    graph = workflow("text_to_music")
    page = frontend.page.get_by_test_id("linear-widgets")
    frontend.open(graph, "graph")
    assert not page.is_visible()
    frontend.open({**graph, "extra": {**graph["extra"], "linearMode": True}}, "page")
    page.wait_for()
    labels = page.get_by_test_id("builder-widget-label").all_inner_texts()
    assert [label.partition(" ")[0] for label in labels] == ["text", "duration", "seed", "model"]
    assert frontend.page.get_by_role("button", name="Run").last.is_visible()
    frontend.open(graph, "graph")
    page.wait_for(state="hidden")
    assert frontend.complaints == []


def test_app_mode_runs_and_plays(frontend):
    template = BY_SLUG["text_to_music"]
    frontend.open_template(template.file, PACK)
    with frontend.app_mode() as panel:
        panel.locator("textarea").first.fill("slow jazz with piano, 83 bpm")
        end = frontend.watch_end(240)
        frontend.page.get_by_role("button", name="Run").last.click()
        end()
        frontend.page.wait_for_timeout(1000)
        frontend.page.screenshot(path=SCREENSHOTS / "app_mode.png")
        assert frontend.listen()["seconds"] == pytest.approx(10, abs=0.05)
    assert frontend.prompt()["2"]["inputs"]["text"] == "slow jazz with piano, 83 bpm"
    assert frontend.complaints == []
