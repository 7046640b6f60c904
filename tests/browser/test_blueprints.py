"""Boxes that hold a whole graph: each is listed, opens, connects, runs, and is saved with a workflow."""

from __future__ import annotations

import pytest

from .blueprints import BLUEPRINTS, SUBGRAPHS, Blueprint, fold
from .conftest import SCREENSHOTS
from .frontend import Frontend, read_json
from .geometry import hidden_wires, overlaps
from .make_workflows import api_file, ui_file
from .templates import BY_SLUG

ALL = pytest.mark.parametrize("blueprint", BLUEPRINTS, ids=lambda blueprint: blueprint.slug)
CONNECT = """([title, sources, sink, values]) => {
  const box = app.graph.nodes.find(node => node.title === title)
  const add = (type, x, y) => {
    const node = LiteGraph.createNode(type)
    node.pos = [box.pos[0] + x, box.pos[1] + y]
    app.graph.add(node)
    return node
  }
  sources.forEach(([type, name, file], index) => {
    const node = add(type, -400, 0)
    node.widgets.find(widget => widget.name === name).value = file
    node.connect(0, box, index)
  })
  box.connect(0, add(sink, 420, 0), 0)
  app.canvas.deselectAll()
  for (const [name, value] of Object.entries(values)) box.widgets.find(widget => widget.name === name).value = value
}"""
SERIALIZED = "() => JSON.parse(JSON.stringify(app.graph.serialize()))"
SOURCES = {
    "text_to_music": [],
    "melody_to_music": [("LoadAudio", "audio", "melody.wav")],
    "music_for_a_video": [("LoadVideo", "file", "film.mp4")],
}


@ALL
def test_the_file_is_what_the_maker_makes_of_the_template(blueprint: Blueprint):
    made = fold(read_json(ui_file(BY_SLUG[blueprint.slug])), blueprint)
    assert made == read_json(blueprint.file), "run `python -m tests.browser.make_workflows`"
    assert {path.name for path in SUBGRAPHS.iterdir()} == {each.file.name for each in BLUEPRINTS}


@ALL
def test_a_box_is_found_by_its_name_runs_and_is_saved_with_the_workflow(frontend: Frontend, blueprint: Blueprint):
    empty = {"version": 0.4, "nodes": [], "links": [], "last_node_id": 0, "last_link_id": 0}
    frontend.open(empty, "box")
    frontend.add_from_search(blueprint.title)
    sockets = frontend.sockets(blueprint.title)
    assert sockets["inputs"] == list(dict.fromkeys(label for *_, label in blueprint.inputs))
    assert sockets["outputs"] == [label for *_, label in blueprint.outputs]
    film = sockets["outputs"][0] == "video"
    sink = "SaveVideo" if film else "SaveAudioAdvanced"
    values = {"text": "slow jazz with piano, 83 bpm", "seed": 77}
    frontend.page.evaluate(CONNECT, [blueprint.title, SOURCES[blueprint.slug], sink, values])
    inside = {key.partition(":")[2]: node for key, node in frontend.prompt().items() if ":" in key}
    api = read_json(api_file(blueprint.slug))
    assert set(inside) == {str(id) for id in blueprint.inside}
    changed = {("text", values["text"]), ("seed", values["seed"])}
    for key, node in inside.items():
        plain = {name: value for name, value in node["inputs"].items() if not isinstance(value, list)}
        expected = {name: value for name, value in api[key]["inputs"].items() if not isinstance(value, list)}
        assert set(plain.items()) - set(expected.items()) <= changed
        assert node["class_type"] == api[key]["class_type"] and set(node["inputs"]) == set(api[key]["inputs"])
    frontend.fit()  # a player outside the window is not drawn
    frontend.run(60)
    heard = frontend.watch() if film else frontend.listen()
    assert heard["seconds"] == pytest.approx(5 if film else 10, abs=0.1) and heard["peak"] > 0.001
    frontend.page.screenshot(path=SCREENSHOTS / f"box_{blueprint.slug}.png")
    prompt, saved = frontend.prompt(), frontend.page.evaluate(SERIALIZED)
    frontend.open(empty, "other")
    frontend.open(saved, "again")
    assert frontend.prompt() == prompt
    frontend.enter(blueprint.title)
    nodes = frontend.nodes()
    assert overlaps(nodes) == [] and hidden_wires(nodes, frontend.wires()) == []
    frontend.fit()
    frontend.page.screenshot(path=SCREENSHOTS / f"inside_{blueprint.slug}.png")
    assert frontend.complaints == []
