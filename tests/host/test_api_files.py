"""Every API workflow against the definitions of the real host, without a run: what linters of workflows check."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import ROOT

FILES = sorted((ROOT / "workflows" / "api").glob("*.json"))
# Their lists hold files of the user.
FILE_INPUTS = {
    ("LoadAudio", "audio"),
    ("LoadImage", "image"),
    ("LoadVideo", "file"),
    ("MusicGenCatalogue", "catalogue"),
    ("MusicGenLoadTokens", "file"),
    ("MusicGenLoraLoader", "lora"),
    ("MusicGenDataset", "songs"),
}


@pytest.fixture(scope="module")
def definitions(host) -> dict[str, Any]:
    return host.server.object_info()


def specs(node: dict[str, Any]) -> dict[str, Any]:
    """Every input that a node takes: its type, or its list of choices, and its options."""
    return {**node["input"].get("required", {}), **node["input"].get("optional", {})}


def link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def fits(given: str, wanted: Any) -> bool:
    """Whether an output of a type may go into an input."""
    kinds = set(str(wanted).split(",")) if isinstance(wanted, str) else {"COMBO"}
    return "*" in kinds or given == "*" or bool(kinds & set(given.split(","))) or wanted.startswith("COMFY_")


def complaints(prompt: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """Everything that is wrong with an API workflow."""
    for number, node in prompt.items():
        kind = node["class_type"]
        name = f"{number} {kind}"
        if kind not in definitions:
            yield f"{name}: ComfyUI has no such node"
            continue
        if not node.get("_meta", {}).get("title"):
            yield f"{name}: it has no title"
        known = specs(definitions[kind])
        for missing in definitions[kind]["input"].get("required", {}).keys() - node["inputs"].keys():
            if not str(known[missing][0]).startswith("COMFY_AUTOGROW"):
                yield f"{name}: {missing} is missing"
        for key, value in node["inputs"].items():
            if key not in known:
                if key.partition(".")[0] not in known:
                    yield f"{name}: it has no input {key}"
            elif link(value):
                yield from _link_complaints(name, key, value, known[key][0], prompt, definitions)
            elif (kind, key) not in FILE_INPUTS:
                yield from _value_complaints(name, key, value, known[key])
    if not any(definitions.get(node["class_type"], {}).get("output_node") for node in prompt.values()):
        yield "no node of it shows or saves anything"


def _link_complaints(
    name: str, key: str, value: list[Any], wanted: Any, prompt: dict[str, Any], definitions: dict[str, Any]
) -> Iterator[str]:
    source = prompt.get(value[0])
    outputs = definitions.get(source["class_type"], {}).get("output", []) if source else []
    if value[1] >= len(outputs):
        yield f"{name}: {key} is linked to output {value[1]} of {value[0]}, which is not there"
    elif not fits(outputs[value[1]], wanted):
        yield f"{name}: {key} is {wanted} and is linked to {outputs[value[1]]}"


def _value_complaints(name: str, key: str, value: Any, spec: list[Any]) -> Iterator[str]:
    options = spec[1] if len(spec) > 1 else {}
    choices = spec[0] if isinstance(spec[0], list) else options.get("options")
    if spec[0] == "COMBO" or isinstance(spec[0], list):
        if choices and value not in choices:
            yield f"{name}: {key} is {value!r}, which is none of its choices"
    elif spec[0] in ("INT", "FLOAT"):
        low, high = options.get("min", value), options.get("max", value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            yield f"{name}: {key} is {value!r}; allowed are {low} to {high}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_api_workflow_has_known_nodes_whole_links_and_allowed_values(host, definitions, path):
    prompt = host.for_this_version(json.loads(path.read_text(encoding="utf-8")))
    assert list(complaints(prompt, definitions)) == []


def test_each_kind_of_fault_is_found(host, definitions):
    path = ROOT / "workflows" / "api" / "text_to_music.json"
    prompt = host.for_this_version(json.loads(path.read_text(encoding="utf-8")))
    by_class = {node["class_type"]: node for node in prompt.values()}
    sampler = by_class["MusicGenSampleTokens"]["inputs"]
    sampler["temperature"], sampler["pattern"], sampler["colour"] = 7.0, "none", 1
    sampler["positive"] = sampler["model"]
    del sampler["seed"], by_class["MusicGenEnCodecDecode"]["_meta"]
    by_class["MusicGenEnCodecDecode"]["inputs"]["tokens"] = ["99", 0]
    said = sorted(line.partition(": ")[2] for line in complaints(prompt, definitions))
    assert said == [
        "it has no input colour",
        "it has no title",
        "pattern is 'none', which is none of its choices",
        "positive is CONDITIONING and is linked to MUSICGEN_MODEL",
        "seed is missing",
        "temperature is 7.0; allowed are 0.0 to 5.0",
        "tokens is linked to output 0 of 99, which is not there",
    ]
