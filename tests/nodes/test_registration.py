"""What ComfyUI is told about the pack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IDS = [
    "MusicGenLoader",
    "MusicGenTextEncode",
    "MusicGenSampleTokens",
    "MusicGenEnCodecDecode",
    "MusicGenMelodyChroma",
    "MusicGenScore",
    "MusicGenEditMelody",
    "MusicGenEnCodecEncode",
    "MusicGenStyle",
    "MusicGenTimeline",
    "MusicGenGuidance",
    "MusicGenLoraLoader",
    "MusicGenLongForm",
    "MusicGenTempoKey",
    "MusicGenDuration",
    "MusicGenPick",
    "MusicGenRank",
    "MusicGenPlot",
    "MusicGenCurves",
    "MusicGenSaveTokens",
    "MusicGenLoadTokens",
    "MusicGenSaveMidi",
    "MusicGenSaveCheckpoint",
    "MusicGenTextToMusic",
    "MusicGenCatalogue",
    "MusicGenMeasure",
    "MusicGenDataset",
    "MusicGenTrainLora",
    "MusicGenSaveLora",
    "MusicGenEditTokens",
    "MusicGenFill",
    "MusicGenLoop",
]


def test_the_pack_has_exactly_these_nodes(node_list):
    assert [node.GET_SCHEMA().node_id for node in node_list] == IDS


def test_the_entry_file_defines_the_web_folder_and_no_old_style_mappings(pack):
    assert (ROOT / pack.WEB_DIRECTORY / "docs").is_dir()
    assert not hasattr(pack, "NODE_CLASS_MAPPINGS")


def test_every_node_input_and_output_is_explained(node_list):
    for node in node_list:
        schema = node.GET_SCHEMA()
        assert schema.category == "audio/MusicGen"
        assert schema.display_name.startswith("MusicGen ")
        assert schema.description and schema.search_aliases
        for part in [*schema.inputs, *schema.outputs]:
            assert part.tooltip, f"{schema.node_id}.{part.id} has no tooltip"


EVERYDAY = {"MusicGenLoader", "MusicGenTextEncode", "MusicGenSampleTokens"}


@pytest.mark.parametrize("word", ["music", "song", "beat", "instrumental", "sound effect", "sfx", "text to music"])
def test_words_that_people_type_find_the_everyday_nodes(node_list, word):
    found = {node.GET_SCHEMA().node_id for node in node_list if word in node.GET_SCHEMA().search_aliases}
    assert found == EVERYDAY


@pytest.mark.parametrize(
    ("word", "node_id"),
    [
        ("hum", "MusicGenMelodyChroma"),
        ("whistle", "MusicGenMelodyChroma"),
        ("abc notation", "MusicGenScore"),
        ("transpose", "MusicGenEditMelody"),
        ("export midi", "MusicGenSaveMidi"),
        ("loudness", "MusicGenEnCodecDecode"),
        ("extend song", "MusicGenEnCodecEncode"),
        ("sound like", "MusicGenStyle"),
        ("loop", "MusicGenSampleTokens"),
        ("finetune", "MusicGenLoraLoader"),
        ("background music", "MusicGenTextToMusic"),
    ],
)
def test_words_of_one_task_find_its_node(node_list, word, node_id):
    assert [n.GET_SCHEMA().node_id for n in node_list if word in n.GET_SCHEMA().search_aliases] == [node_id]


def test_labels_say_what_a_widget_is_and_keep_the_term_of_the_paper(node_list):
    labels = {
        part.id: part.display_name for node in node_list for part in node.GET_SCHEMA().inputs if part.display_name
    }
    for term in ("cfg_coef", "cfg_coef_beta", "top_k", "top_p", "eval_q", "dtype", "filename_prefix", "batch_size"):
        assert labels[term].endswith(f" ({term})")


def test_every_node_can_be_sent_to_the_frontend(node_list):
    for node in node_list:
        json.dumps(node.GET_NODE_INFO_V1())


def test_every_node_has_a_help_page_of_its_own(node_list):
    pages = {path.stem for path in (ROOT / "web" / "docs").glob("*.md")}
    assert pages == {node.GET_SCHEMA().node_id for node in node_list}


def test_the_loader_states_the_licence_of_the_released_weights(node_list):
    schema = node_list[0].GET_SCHEMA()
    page = (ROOT / "web" / "docs" / "MusicGenLoader.md").read_text(encoding="utf-8")
    assert all("CC-BY-NC 4.0" in text for text in (schema.description, schema.inputs[0].tooltip, page))


def test_the_saver_states_that_the_licence_stays(node_list):
    page = (ROOT / "web" / "docs" / "MusicGenSaveCheckpoint.md").read_text(encoding="utf-8")
    assert all(
        "CC-BY-NC 4.0" in text
        for text in (node_list[IDS.index("MusicGenSaveCheckpoint")].GET_SCHEMA().description, page)
    )


def test_the_samplers_inputs_keep_their_order(node_list):
    ids = [part.id for part in node_list[2].GET_SCHEMA().inputs]
    sockets, optional = ["model", "positive"], ["negative", "melody", "prompt", "style", "cfg_coef_beta"]
    later = ["codec", "on_cancel", "audioUI", "guidance", "long_form"]
    widgets = ["duration", "batch_size", "seed", "cfg_coef", "temperature", "top_k", "top_p", "pattern"]
    assert ids == sockets + widgets + optional + later


def test_the_models_folder_joins_the_users_own_paths(comfy, host, models_folder, monkeypatch):
    table = {"musicgen": (["/mnt/mine"], {".pt"})}
    monkeypatch.setattr(comfy.folder_paths, "folder_names_and_paths", table)
    host.folders.register_model_folder()
    host.folders.register_model_folder()
    paths, extensions = table["musicgen"]
    saved = str(Path(comfy.folder_paths.get_output_directory()) / "musicgen")
    assert paths == ["/mnt/mine", str(models_folder), saved]
    assert extensions >= {".pt", ".safetensors", ".json"}
