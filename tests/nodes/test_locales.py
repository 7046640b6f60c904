"""Schemas, help pages and translations say the same of every node. `python -m tests.locales` lists what is missing."""

from __future__ import annotations

import json
import re

import pytest

from tests import locales

DOCS = locales.ROOT / "web" / "docs"
# The Chinese headings: "example" and "mind".
HEADINGS = {"en": ("## Example", "## Traps"), "zh": ("## \u793a\u4f8b", "## \u6ce8\u610f")}


@pytest.fixture(scope="module")
def english(node_list):
    return {node.GET_SCHEMA().node_id: locales.texts_of(node.GET_SCHEMA()) for node in node_list}


def page(node_id, language):
    path = DOCS / f"{node_id}.md" if language == "en" else DOCS / node_id / f"{language}.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def test_every_text_of_every_node_is_translated_into_every_language_of_the_frontend(english):
    assert locales.complaints(english) == [], "see `python -m tests.locales`"


def test_there_is_a_folder_for_each_language_and_no_other():
    folders = {path.name for path in locales.FOLDER.iterdir() if path.is_dir()}
    assert folders == {locales.ENGLISH, *locales.LANGUAGES}


def test_the_files_have_the_form_that_the_command_writes():
    for path in sorted(locales.FOLDER.glob("*/*.json")):
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), ensure_ascii=False, indent=1) + "\n", path


def test_a_missing_a_stale_and_a_copied_text_are_each_named_with_the_remedy(english, monkeypatch, tmp_path):
    monkeypatch.setattr(locales, "FOLDER", tmp_path)
    for language in (locales.ENGLISH, *locales.LANGUAGES):
        locales.write(language, json.loads((locales.ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8")))
    spoilt = locales.read("zh")
    spoilt["MusicGenLoader"]["description"] = english["MusicGenLoader"]["description"]
    del spoilt["MusicGenLoader"]["inputs"]["dtype"]["tooltip"]
    spoilt["MusicGenLoader"]["inputs"]["gone"] = {"name": "\u65e7"}
    spoilt["MusicGenSampleTokens"]["inputs"]["cfg_coef"]["name"] = "\u5f15\u5bfc\u5f3a\u5ea6"
    locales.write("zh", spoilt)
    changed = {**english, "MusicGenStyle": {**english["MusicGenStyle"], "description": "Another text."}}
    said = {line.partition("; ")[0]: line for line in locales.complaints(changed)}
    assert set(said) == {
        "zh: MusicGenLoader.description is English still",
        "zh: MusicGenLoader.inputs.dtype.tooltip is missing",
        "zh: MusicGenLoader.inputs.gone.name is of no node",
        "zh: MusicGenSampleTokens.inputs.cfg_coef.name lost (cfg_coef), which the code and the papers call it",
        "en: MusicGenStyle.description is now 'Another text.'",
    }
    assert all(
        "locales/zh/nodeDefs.json" in line or "remove it" in line or "--accept" in line for line in said.values()
    )


@pytest.mark.parametrize("language", sorted(HEADINGS))
def test_the_help_pages_name_every_input_and_output_and_have_an_example_and_traps(node_list, language):
    lacking = []
    for schema in (node.GET_SCHEMA() for node in node_list):
        text = page(schema.node_id, language)
        ids = [part.id for part in [*schema.inputs, *schema.outputs] if part.get_io_type() != "AUDIO_UI"]
        ids = [re.sub(r"_[234]$", "", name) for name in ids]
        lacking += [f"{schema.node_id} ({language}): no `{name}`" for name in ids if f"`{name}`" not in text]
        lacking += [f"{schema.node_id} ({language}): no {head}" for head in HEADINGS[language] if head not in text]
    assert lacking == [], "write web/docs/<node id>.md (English) and web/docs/<node id>/zh.md (Chinese)"


def test_there_is_no_help_page_of_a_node_that_is_gone(node_list):
    known = {node.GET_SCHEMA().node_id for node in node_list}
    assert {path.stem for path in DOCS.glob("*.md")} | {path.name for path in DOCS.iterdir() if path.is_dir()} <= known


def test_the_sockets_have_a_name_in_every_language(node_list):
    parts = [part for node in node_list for part in (*node.GET_SCHEMA().inputs, *node.GET_SCHEMA().outputs)]
    ours = {part.get_io_type() for part in parts if part.get_io_type().startswith("MUSICGEN_")}
    for language in (locales.ENGLISH, *locales.LANGUAGES):
        names = json.loads((locales.FOLDER / language / "main.json").read_text(encoding="utf-8"))["dataTypes"]
        assert set(names) == ours and all(names.values()), f"locales/{language}/main.json"
