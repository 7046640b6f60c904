"""Each template opens whole and in silence from its card, fits the window, and has a page in App mode."""

from __future__ import annotations

import pytest

from .conftest import PACK
from .frontend import PLAYERS, Frontend, read_json
from .geometry import hidden_wires, overlaps
from .make_workflows import CORE_TYPES, WORKFLOWS, api_file, make_workflow, ui_file
from .templates import TEMPLATES, Template

ALL = pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.slug)


def settled(graph: dict) -> dict:
    """A graph without the marks in which frontends differ: names in the reader's language, and how many widgets a node
    of the core has that hold nothing."""
    for node in graph["nodes"]:
        node["inputs"] = [slot for slot in node.get("inputs", []) if slot["name"] not in PLAYERS]
        for slot in [*node.get("inputs", []), *node.get("outputs", [])]:
            slot.pop("localized_name", None)
            slot.pop("label", None)
        if node["type"] in CORE_TYPES:
            node["widgets_values"] = [value for value in node.get("widgets_values", []) if value]
            named = node.get("widgets_values_named", {})
            node["widgets_values_named"] = {name: value for name, value in named.items() if value}
        if not node.get("widgets_values_named"):
            node.pop("widgets_values_named", None)
    return graph


def check_lines(frontend: Frontend) -> None:
    nodes = frontend.nodes()
    assert overlaps(nodes) == []
    assert hidden_wires(nodes, frontend.wires()) == []


@ALL
def test_the_file_is_what_make_workflows_makes_of_the_api_file(frontend, template: Template):
    made = make_workflow(frontend, template)
    assert settled(made) == settled(read_json(ui_file(template))), "run `python -m tests.browser.make_workflows`"


@ALL
def test_a_template_opens_from_its_card_and_fits_the_window(frontend, template: Template):
    graph, api = read_json(ui_file(template)), read_json(api_file(template.slug))
    frontend.open_template(template.file, PACK)
    nodes = frontend.nodes()
    assert sorted(node["type"] for node in nodes) == sorted(node["type"] for node in graph["nodes"])
    assert [node["type"] for node in nodes if not node["known"] or node["marked"]] == []
    assert frontend.prompt() == api
    assert frontend.fit() >= 0.6
    check_lines(frontend)
    assert frontend.troubles() == ""
    with frontend.app_mode() as page:
        assert all(widget in api[str(key)]["inputs"] for key, widget in template.inputs)
        assert page.get_by_test_id("builder-widget-label").count() == len(template.inputs)
    assert frontend.complaints == []


def test_wires_and_nodes_stay_apart_in_nodes_2_too(frontend):
    with frontend.nodes_2():
        for template in TEMPLATES:
            frontend.open(read_json(ui_file(template)), template.slug)
            frontend.page.wait_for_timeout(300)
            check_lines(frontend)
            assert frontend.fit() >= 0.6, template.slug
    assert frontend.complaints == []


def test_the_cards_are_small_and_all_there():
    names = {template.file for template in TEMPLATES}
    assert {path.stem for path in WORKFLOWS.glob("*.json")} == names
    assert {path.stem for path in WORKFLOWS.glob("*.jpg")} == names
    assert {path.stem for path in (WORKFLOWS / "api").glob("*.json")} == {template.slug for template in TEMPLATES}
    for name in names:
        card = (WORKFLOWS / f"{name}.jpg").read_bytes()
        assert card[:2] == b"\xff\xd8" and len(card) <= 40_000, name
