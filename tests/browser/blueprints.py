"""Makes subgraphs/*.json, boxes that each hold a whole graph, out of the workflows of templates.

ComfyUI lists these files under Subgraph Blueprints in its node library and in its search. A box shows the inputs that
are named here, and opens to the graph inside. `make_workflows.py` writes the files, a test compares them.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SUBGRAPHS = ROOT / "subgraphs"

ENTRY, EXIT = -10, -20  # the ids that ComfyUI gives to the two ends of every subgraph
WIDTH, ROW, GAP = 150, 20, 60
"""Size of the two ends, and their distance from the nodes."""
LANE = 375
"""Height of the way below the description on which wires reach the sampler."""


@dataclass(frozen=True)
class Blueprint:
    """One box.

    slug: of the template whose graph it holds. inside: ids of its nodes. inputs and outputs: a name that no other has,
    the id of a node, its input's name or its output's number, and the label; a socket comes before the widgets. An
    input that feeds several nodes is listed once for each.
    """

    title: str
    slug: str
    description: str
    aliases: tuple[str, ...]
    inside: tuple[int, ...]
    inputs: tuple[tuple[str, int, str, str], ...]
    outputs: tuple[tuple[str, int, int, str], ...]

    @property
    def file(self) -> Path:
        """The file, whose name is the name of the box."""
        return SUBGRAPHS / f"{self.title}.json"


BLUEPRINTS = (
    Blueprint(
        "Text to Music (MusicGen)",
        "text_to_music",
        "Makes music from a description with MusicGen.",
        ("song", "beat", "generate music", "soundtrack"),
        (1, 2, 3, 4),
        (
            ("text", 2, "text", "description"),
            ("duration", 3, "duration", "duration (s)"),
            ("seed", 3, "seed", "seed"),
            ("model", 1, "model", "model"),
        ),
        (("audio", 4, 0, "audio"),),
    ),
    Blueprint(
        "Melody to Music (MusicGen)",
        "melody_to_music",
        "Makes music from a description and a recorded melody with MusicGen: the music follows the notes.",
        ("hum", "cover", "style transfer", "sing"),
        (1, 2, 3, 4, 7),
        (
            ("melody", 7, "audio", "melody"),
            ("text", 2, "text", "description"),
            ("duration", 3, "duration", "duration (s)"),
            ("seed", 3, "seed", "seed"),
            ("model", 1, "model", "model"),
        ),
        (("audio", 4, 0, "audio"),),
    ),
    Blueprint(
        "Score a Video (MusicGen)",
        "music_for_a_video",
        "Makes music of a video's length from a description with MusicGen, and puts it under the video.",
        ("soundtrack", "film music", "background music", "video music"),
        (1, 2, 4, 5, 6, 7, 8),
        (
            ("video", 4, "video", "video"),
            ("video", 7, "video", "video"),
            ("text", 2, "text", "description"),
            ("seed", 5, "seed", "seed"),
            ("model", 1, "model", "model"),
        ),
        (("video", 8, 0, "video"), ("audio", 6, 0, "audio")),
    ),
)


def fold(graph: dict[str, Any], blueprint: Blueprint) -> dict[str, Any]:
    """The file of a blueprint, as ComfyUI reads it: one node, whose definition holds nodes of ``graph``."""
    nodes = {node["id"]: json.loads(json.dumps(node)) for node in graph["nodes"] if node["id"] in blueprint.inside}
    kinds = {id: [slot["type"] for slot in node["outputs"]] for id, node in nodes.items()}
    for node in nodes.values():
        for slot in node["inputs"]:
            slot["link"] = None
        for slot in node["outputs"]:
            slot["links"] = []
    links: list[dict[str, Any]] = []

    def join(origin: int, from_slot: int, target: int, to_slot: int, kind: str) -> int:
        number = len(links) + 1
        ends = {"origin_id": origin, "origin_slot": from_slot, "target_id": target, "target_slot": to_slot}
        links.append({"id": number, **ends, "type": kind})
        if origin in nodes:
            nodes[origin]["outputs"][from_slot]["links"].append(number)
        if target in nodes:
            nodes[target]["inputs"][to_slot]["link"] = number
        return number

    renamed: dict[int, int] = {}
    for number, origin, from_slot, target, to_slot, kind in graph["links"]:
        if origin in nodes and target in nodes:
            renamed[number] = join(origin, from_slot, target, to_slot, kind)
    entries: dict[str, dict[str, Any]] = {}
    for name, id, wanted, label in blueprint.inputs:
        place = next(i for i, slot in enumerate(nodes[id]["inputs"]) if slot["name"] == wanted)
        kind = nodes[id]["inputs"][place]["type"]
        entry = entries.setdefault(name, _end(blueprint, "in", name, kind, label))
        entry["linkIds"].append(join(ENTRY, list(entries).index(name), id, place, kind))
    exits = []
    for index, (name, id, slot, label) in enumerate(blueprint.outputs):
        exits.append(_end(blueprint, "out", name, kinds[id][slot], label))
        exits[-1]["linkIds"].append(join(id, slot, EXIT, index, kinds[id][slot]))
    boxes = [(*node["pos"], *node["size"]) for node in nodes.values()]
    left, right = min(box[0] for box in boxes), max(box[0] + box[2] for box in boxes)
    middle = (min(box[1] for box in boxes) + max(box[1] + box[3] for box in boxes)) / 2
    for order, node in enumerate(nodes.values()):
        node["order"] = order
    definition = {
        "id": _lasting(blueprint, "definition"),
        "version": 1,
        "state": {
            "lastGroupId": 0,
            "lastNodeId": max(nodes),
            "lastLinkId": len(links),
            "lastRerouteId": max((bend["id"] for bend in graph["extra"].get("reroutes", [])), default=0),
        },
        "revision": 0,
        "config": {},
        "name": blueprint.title,
        "inputNode": {"id": ENTRY, "bounding": _place(left - GAP - WIDTH, middle, len(entries))},
        "outputNode": {"id": EXIT, "bounding": _place(right + GAP, middle, len(exits))},
        "inputs": list(entries.values()),
        "outputs": exits,
        "widgets": [],
        "nodes": list(nodes.values()),
        "groups": [],
        "links": links,
        "extra": {},
        "category": "Audio/Music generation",
        "essentials_category": "Audio",
        "description": blueprint.description,
    }
    _carry_bends(graph, definition, renamed)
    _bend_around_the_description(definition)
    return {
        "id": _lasting(blueprint, "file"),
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [_box(definition, graph)],
        "links": [],
        "groups": [],
        "definitions": {"subgraphs": [definition]},
        "config": {},
        "extra": {"BlueprintDescription": blueprint.description, "BlueprintSearchAliases": list(blueprint.aliases)},
        "version": 0.4,
    }


def _lasting(blueprint: Blueprint, part: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"musicgen-nodes/subgraphs/{blueprint.slug}/{part}"))


def _end(blueprint: Blueprint, side: str, name: str, kind: str, label: str) -> dict[str, Any]:
    return {"id": _lasting(blueprint, f"{side}/{name}"), "name": name, "type": kind, "linkIds": [], "label": label}


def _place(left: float, middle: float, rows: int) -> list[float]:
    height = ROW * (rows + 2)
    return [left, middle - height / 2, WIDTH, height]


def _box(definition: dict[str, Any], graph: dict[str, Any]) -> dict[str, Any]:
    """The one node of the file; its values are those of the widgets inside."""
    inputs = []
    for entry in definition["inputs"]:
        slot = {"label": entry["label"], "name": entry["name"], "type": entry["type"], "link": None}
        link = next(link for link in definition["links"] if link["id"] == entry["linkIds"][0])
        node = next(node for node in definition["nodes"] if node["id"] == link["target_id"])
        if "widget" in node["inputs"][link["target_slot"]]:
            slot["widget"] = {"name": entry["name"]}
        inputs.append(slot)
    outputs = [{"label": x["label"], "name": x["name"], "type": x["type"], "links": []} for x in definition["outputs"]]
    stamp = next(node for node in graph["nodes"] if "cnr_id" in node["properties"])["properties"]
    return {
        "id": 1,
        "type": definition["id"],
        "pos": [0, 0],
        "size": [360, 300],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": inputs,
        "outputs": outputs,
        "properties": {"cnr_id": stamp["cnr_id"], "ver": stamp["ver"]},
        "widgets_values": [],
        "title": definition["name"],
    }


def _carry_bends(graph: dict[str, Any], definition: dict[str, Any], renamed: dict[int, int]) -> None:
    """Keep the bends of wires that lie inside whole."""
    kept: list[dict[str, Any]] = []
    for bend in graph["extra"].get("reroutes", []):
        inner = [renamed[link] for link in bend["linkIds"] if link in renamed]
        if inner:
            kept.append({**bend, "linkIds": inner})
    definition["reroutes"] = kept
    last = {renamed[x["id"]]: x["parentId"] for x in graph["extra"].get("linkExtensions", []) if x["id"] in renamed}
    for link in definition["links"]:
        if link["id"] in last:
            link["parentId"] = last[link["id"]]


def _bend_around_the_description(definition: dict[str, Any]) -> None:
    """Lead wires from the entry to the sampler below the node before it."""
    nodes = {node["type"]: node for node in definition["nodes"]}
    text, sampler = nodes["MusicGenTextEncode"], nodes["MusicGenSampleTokens"]
    lane = LANE
    for link in definition["links"]:
        if link["origin_id"] != ENTRY or link["target_id"] != sampler["id"]:
            continue
        for left in (text["pos"][0] - 20, sampler["pos"][0] - 20):
            bend = {"id": definition["state"]["lastRerouteId"] + 1, "pos": [left, lane], "linkIds": [link["id"]]}
            if "parentId" in link:
                bend["parentId"] = link["parentId"]
            link["parentId"] = definition["state"]["lastRerouteId"] = bend["id"]
            definition["reroutes"].append(bend)
        lane += ROW
