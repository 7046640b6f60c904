"""What the host knows of the pack once it runs."""

from __future__ import annotations

import json

import numpy as np

from tests.conftest import ROOT
from tests.host.conftest import blueprints, complaints

# The English file of the languages has every node; tests/nodes/test_locales.py compares it with the schemas.
NODES = tuple(json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8")))


def test_every_node_is_registered_in_the_pack_s_category(host):
    info = host.server.object_info()
    ours = {name for name, node in info.items() if node["category"] == "audio/MusicGen"}
    assert ours == set(NODES)


def test_every_node_input_and_output_explains_itself(host):
    info = host.server.object_info()
    silent = []
    for name in NODES:
        node = info[name]
        silent += [] if node["description"] and node["display_name"] else [name]
        for group in ("required", "optional"):
            for key, spec in node["input"].get(group, {}).items():
                silent += [] if len(spec) > 1 and spec[1].get("tooltip") else [f"{name}.{key}"]
        tips = node["output_tooltips"] or []
        assert len(tips) == len(node["output"])
        silent += [f"{name} -> {out}" for out, tip in zip(node["output_name"], tips, strict=True) if not tip]
    assert silent == []


def test_the_server_lists_the_boxes_that_hold_a_graph(host):
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "subgraphs").glob("*.json")}
    assert len(files) == 3 and blueprints(host.server) == files
    known = set(host.server.object_info())
    for workflow in files.values():
        assert {node["type"] for node in workflow["definitions"]["subgraphs"][0]["nodes"]} <= known


def test_the_server_log_reports_no_trouble_with_the_pack(host):
    assert complaints(host.server.log()) == []


def options_of_the_loader(host):
    spec = host.server.object_info()["MusicGenLoader"]["input"]["required"]["model"]
    return spec[0] if isinstance(spec[0], list) else spec[1]["options"], spec[1]["default"]


def test_the_bundled_models_are_listed_and_one_of_them_is_the_default(host):
    options, default = options_of_the_loader(host)
    assert {"bundled/musicgen-nano", "bundled/musicgen-nano-melody"} <= set(options)
    assert default == "bundled/musicgen-nano"


def test_a_model_in_a_folder_of_extra_model_paths_is_listed_and_plays(host):
    assert "family/small" in options_of_the_loader(host)[0]
    bundled = host.play(host.workflow("text_to_music", seed=5))[0]
    assert np.array_equal(host.play(host.workflow("text_to_music", seed=5, model="family/small"))[0], bundled)
