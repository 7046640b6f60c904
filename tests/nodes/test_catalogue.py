"""The node that reads a catalogue: its lists, and its refusals."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def node(comfy, node_list, tmp_path, monkeypatch):
    monkeypatch.setattr(comfy.folder_paths, "get_input_directory", lambda: str(tmp_path))
    return next(node for node in node_list if node.GET_SCHEMA().node_id == "MusicGenCatalogue")


def write(folder: Path, text: str, name: str = "songs.csv") -> str:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return name


def test_each_output_is_a_list_with_an_entry_for_each_piece(node, run, tmp_path):
    name = write(tmp_path, "id,description,duration,seed,seeds,mood\na,jazz,2.5,7,,calm\n,rock,,0,2,\n")
    assert all(output.is_output_list for output in node.GET_SCHEMA().outputs)
    found = tuple(run("Catalogue", catalogue=name, duration=10.0, first=1, count=0))
    assert found == (
        ["jazz", "rock", "rock"],
        ["", "", ""],
        [2.5, 10.0, 10.0],
        [7, 0, 1],
        ["songs/a", "songs/row-3-0", "songs/row-3-1"],
        ['{"mood": "calm"}', '{"mood": ""}', '{"mood": ""}'],
    )
    assert run("Catalogue", catalogue=name, duration=10.0, first=2, count=1)[4] == ["songs/row-3-0"]
    with pytest.raises(ValueError, match="first piece is 4; the catalogue songs.csv has 3"):
        run("Catalogue", catalogue=name, duration=10.0, first=4, count=0)


def test_bad_rows_are_refused_together_and_a_missing_file_by_its_name(node, run, tmp_path):
    name = write(tmp_path, '{"seed": -1}\n{"duration": "long"}\n', "sub/bad.jsonl")
    assert node.validate_inputs("sub\\bad.jsonl") is True
    with pytest.raises(ValueError, match=r"2 faults: line 1: seed is -1 .* line 2: duration is 'long'"):
        run("Catalogue", catalogue=name, duration=10.0, first=1, count=0)
    assert "allowed are sub/bad.jsonl" in node.validate_inputs("none.csv")
    with pytest.raises(ValueError, match="no rows"):
        run("Catalogue", catalogue=write(tmp_path, "id,description\n"), duration=10.0, first=1, count=0)


def test_the_node_reads_a_changed_file_again(node, tmp_path):
    name = write(tmp_path, "id\na\n")
    before = node.fingerprint_inputs(name)
    write(tmp_path, "id\nab\n")
    assert node.fingerprint_inputs(name) != before
