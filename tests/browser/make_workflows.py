"""Makes workflows/*.json (UI format) out of workflows/api/*.json, in the real frontend, and subgraphs/*.json of these.

    python -m tests.browser.make_workflows              the files
    python -m tests.browser.make_workflows --pictures   and workflows/*.jpg, docs/graph.png, docs/run.webp
    python -m tests.browser.make_workflows stereo       of one workflow, by its name in workflows/api

Needs the environment that ``python quickstart.py test`` makes. A test makes the files again
and compares them, so change an API file or the templates here, never a UI file by hand.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dev.comfy_server import ComfyServer, prepare_base
from dev.media import make_media

from .blueprints import BLUEPRINTS, ROOT, fold
from .frontend import Frontend, open_frontend, read_json
from .templates import BY_SLUG, DEFAULT_KIND, GAP, KINDS, NOTE_ID, TEMPLATES, Kind, Template

WORKFLOWS = ROOT / "workflows"
CORE_TYPES = {"LoadAudio", "RecordAudio", "LoadVideo", "LoadImage", "SaveVideo", "SaveImage", "PreviewImage"}
"""Nodes of the core whose widgets differ between frontends: those that upload, record or play."""

BUNDLED = """{words}

The bundled *musicgen-nano* is a small model trained on synthesised loops: it knows {knows}. For any music, choose one
of the downloads in the loader, or put the folder of a MusicGen into *models/musicgen*. The weights that Meta released
are licensed CC-BY-NC 4.0: no commercial use."""
DOWNLOAD = """{words}

**This needs {repo}**{companions}, {gigabytes:.1f} GB. The loader downloads it at the first run; nothing else is
fetched. Its weights are licensed CC-BY-NC 4.0: no commercial use."""
KNOWS = "nine genres, eight lead instruments, bass, drums, keys and tempi, and calls them by their usual names"


def project() -> tuple[str, str]:
    """Name and version out of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    name, version = (re.search(rf'^{key} = "(.+)"$', text, re.M) for key in ("name", "version"))
    assert name and version
    return name[1], version[1]


def api_file(slug: str) -> Path:
    return WORKFLOWS / "api" / f"{slug}.json"


def ui_file(template: Template) -> Path:
    return WORKFLOWS / f"{template.file}.json"


def make_workflow(frontend: Frontend, template: Template) -> dict:
    """The UI workflow of a template: laid out, with a note and an App mode, without the view of the moment."""
    prompt = read_json(api_file(template.slug))
    graph = frontend.convert(prompt, template.slug, _edits(prompt, template), bends(prompt, template))
    return _settled(graph, template)


def note_text(template: Template) -> str:
    """The note's Markdown."""
    release = template.released
    if release is None:
        return BUNDLED.format(words=template.words, knows=KNOWS)
    companions = "".join(f" and {repo}" for _, repo in release.companions)
    return DOWNLOAD.format(words=template.words, repo=release.repo, companions=companions, gigabytes=release.gigabytes)


def places(prompt: dict, template: Template) -> dict[int | str, tuple[int, int, Kind]]:
    """Each node's left edge, top and kind."""
    found: dict[int | str, tuple[int, int, Kind]] = {}
    for left, column in zip(_lefts(prompt, template), template.columns, strict=False):
        found |= {key: (left, top, _kind(prompt, key)) for key, top in column}
    assert len(found) == len(prompt) + 1, f"{template.slug}: the columns do not name every node once"
    return found


def _lefts(prompt: dict, template: Template) -> list[int]:
    """The left edge of each column, and of one more."""
    widths = [max(_kind(prompt, key).width for key, _ in column) for column in template.columns]
    return list(itertools.accumulate((width + GAP for width in widths), initial=0))


def bends(prompt: dict, template: Template) -> list[list[Any]]:
    """Points on the way of wires, since a wire bulges to both sides by a quarter of its length.

    They are the template's own; around the node where a wire ends above or below it in its column; and straight up or
    down between two columns where a wire climbs far.
    """
    edges = _lefts(prompt, template)
    spots = {str(key): place for key, place in places(prompt, template).items()}
    ways: dict[tuple[int, int, int], list[list[int]]] = {}
    for key, node in prompt.items():
        left, top, _ = spots[key]
        after = edges[edges.index(left) + 1]
        for source, slot in [value for value in node["inputs"].values() if isinstance(value, list)]:
            from_left, from_top, _ = spots[source]
            start, gap = from_top + 14 + 20 * slot, edges[edges.index(from_left) + 1] - GAP // 2
            if from_left == left:
                right = after - GAP + 16
                way = [[right, start], [right, top - 48], [left - 16, top - 48]]
            elif gap + GAP // 2 == left and abs(top - from_top) > 250:
                way = [[gap, start], [gap, top + 20]]
            else:
                continue
            ways[int(source), slot, int(key)] = way
    for wire, points in template.bends.items():
        ways[wire] = [[edges[column + 1] - GAP // 2, height] for column, height in points]
    return [[*wire, points] for wire, points in ways.items()]


def _kind(prompt: dict, key: int | str) -> Kind:
    return KINDS.get("MarkdownNote" if key == NOTE_ID else prompt[str(key)]["class_type"], DEFAULT_KIND)


def _edits(prompt: dict, template: Template) -> list[dict[str, Any]]:
    package, version = project()
    edits = []
    for key, (left, top, kind) in places(prompt, template).items():
        edit: dict[str, Any] = {"id": key, "pos": (left, top), "size": (kind.width, kind.height)}
        if key == NOTE_ID:
            edit |= {"id": 1 + max(map(int, prompt)), "type": "MarkdownNote", "title": "About this workflow"}
            edit["widgets"] = {"text": note_text(template)}
            edits.append(edit)
            continue
        node = prompt[str(key)]["class_type"]
        edit["type"] = node
        if node.startswith("MusicGen"):
            edit["properties"] = {"cnr_id": package, "ver": version}
        if node == "MusicGenLoader" and template.released:
            edit["properties"]["models"] = models(template)
        if "seed" in prompt[str(key)]["inputs"] and node != "MusicGenTrainLora":  # whose seed stays as it is
            edit["widgets"] = {"control_after_generate": "fixed"}
        edits.append(edit)
    return sorted(edits, key=lambda edit: edit["id"])


def models(template: Template) -> list[dict[str, str]]:
    """The files to download, in the form in which core's own templates name theirs."""
    release = template.released
    assert release is not None
    weights = "state_dict.bin" if release.companions else "model.safetensors"
    return [
        {
            "name": f"{release.repo}/{weights}",
            "url": f"https://huggingface.co/{release.repo}/resolve/main/{weights}",
            "directory": "musicgen",
        }
    ]


def _settled(graph: dict, template: Template) -> dict:
    """The graph under a lasting id, its links numbered from 1, with the page of App mode."""
    number = {link[0]: i for i, link in enumerate(sorted(graph["links"]), start=1)}
    for node in graph["nodes"]:
        for slot in node.get("inputs", []):
            slot["link"] = number.get(slot.get("link"))
        for slot in node.get("outputs", []):
            slot["links"] = [number[link] for link in slot.get("links") or []]
    graph["links"] = [[number[link[0]], *link[1:]] for link in sorted(graph["links"])]
    graph["last_link_id"] = len(number)
    graph["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{project()[0]}/{template.slug}"))
    extra = graph.get("extra") or {}
    graph["extra"] = app_page(template)
    for reroute in extra.get("reroutes", []):
        reroute["linkIds"] = [number[link] for link in reroute["linkIds"]]
    if extra.get("reroutes"):
        graph["extra"]["reroutes"] = extra["reroutes"]
        graph["extra"]["linkExtensions"] = [
            {**extension, "id": number[extension["id"]]} for extension in extra["linkExtensions"]
        ]
    return graph


def app_page(template: Template) -> dict:
    """App mode's page: opened by one click, so that a template opens as the graph that its card promises."""
    inputs = [[str(key), widget] for key, widget in template.inputs]
    return {"linearMode": False, "linearData": {"inputs": inputs, "outputs": [str(key) for key in template.outputs]}}


@contextmanager
def working_frontend() -> Iterator[tuple[Frontend, ComfyServer]]:
    """A page of a fresh ComfyUI that has everything the workflows name."""
    comfyui = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".host" / "ComfyUI")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        prepare_base(base, ROOT)
        make_media(base / "input")
        with ComfyServer(base, comfyui) as server, open_frontend(server.url, "MusicGenLoader") as frontend:
            yield frontend, server


def write_json(path: Path, content: dict) -> None:
    """Write JSON as the repository keeps it."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def main() -> None:
    """Start a ComfyUI and a browser, write the files."""
    parser = argparse.ArgumentParser(prog="make_workflows", description=__doc__)
    parser.add_argument("names", nargs="*", help="workflows of workflows/api; all where none is named")
    parser.add_argument("--pictures", action="store_true", help="also run the workflows and write the pictures")
    arguments = parser.parse_args()
    chosen = [BY_SLUG[name] for name in arguments.names] or list(TEMPLATES)
    with working_frontend() as (frontend, server):
        for template in chosen:
            graph = make_workflow(frontend, template)
            write_json(ui_file(template), graph)
            if arguments.pictures:
                from .pictures import write_pictures  # which needs this module

                frontend.open(graph, template.title)
                frontend.fit()
                write_pictures(frontend, template, server)
    for blueprint in BLUEPRINTS:
        write_json(blueprint.file, fold(read_json(ui_file(BY_SLUG[blueprint.slug])), blueprint))


if __name__ == "__main__":
    main()
