"""Catalogue files: rows become pieces, and every fault of every row is listed before anything runs."""

from __future__ import annotations

import json

import pytest
import torch

from musicgen.rendering import read_catalogue
from musicgen.rendering.__main__ import main
from musicgen.rendering.sounds import encode_sound
from tests.lora_files import draw_factors, kohya

from .conftest import CHECKPOINTS

MODEL = str(CHECKPOINTS / "hf-text")


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_jsonl_and_csv_of_the_same_rows_are_the_same_pieces(tmp_path):
    rows = [
        {"id": "a", "description": "slow, \"soft\" jazz", "duration": 1.5, "seed": 3, "cfg_coef": 2.5, "mood": "calm"},
        {"id": "b", "description": "zwei\nZeilen", "duration": 2.0, "seeds": 2, "top_k": 40, "mood": ""},
    ]  # fmt: skip
    first = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    text = 'id,description,duration,seed,seeds,cfg_coef,top_k,mood\r\na,"slow, ""soft"" jazz",1.5,3,,2.5,,calm\r\n'
    second = write(tmp_path / "b.csv", "\ufeff" + text + 'b,"zwei\nZeilen",2.0,,2,,40,\r\n')
    one, two = (read_catalogue(path, {"model": MODEL}) for path in (first, second))
    assert not one.faults and not two.faults
    assert [piece.id for piece in one.pieces] == ["a", "b-0", "b-1"]
    assert [piece.recipe() for piece in one.pieces] == [piece.recipe() for piece in two.pieces]
    assert [dict(piece.columns) for piece in two.pieces] == [{"mood": "calm"}, {"mood": ""}, {"mood": ""}]
    assert [piece.params.seed for piece in one.pieces] == [3, 0, 1]
    assert one.seconds == 5.5


BAD = """id,description,duration,seed,pattern,melody,level,loras,format
a,hello,abc,0,dellay,,,,
x/y,hello,1,-1,,,,,ogg
b,hello,0.01,0,,,loud,,
c,hello,1,0,,tune.wav,,,
d,"two
lines",1,0,,,,nothing.safetensors:0.5,
e,fine,1,0,,,,,
E,fine,1,0,,,,,
short,1
"""


def test_every_fault_is_listed_with_line_column_value_and_the_allowed_values(tmp_path, capsys):
    path = write(tmp_path / "bad.csv", BAD)
    found = read_catalogue(path, {"model": MODEL})
    listed = [(fault.line, fault.column, fault.value) for fault in found.faults]
    assert listed == [
        (2, "duration", "abc"),
        (2, "pattern", "dellay"),
        (3, "id", "x/y"),
        (3, "seed", "-1"),
        (3, "format", "ogg"),
        (4, "level", "loud"),
        (4, "duration", 0.01),
        (5, "melody", "tune.wav"),
        (6, "loras", "nothing.safetensors"),
        (9, "id", "E"),
        (10, "row", "short,1"),
    ]
    assert [piece.id for piece in found.pieces] == ["e"]
    lines = [str(fault) for fault in found.faults]
    assert lines[0] == "line 2: duration is 'abc' (str); allowed is a number above 0 seconds."
    assert "at least one frame, 0.02 seconds" in lines[6] and "takes no melody" in lines[7] and "line 8" in lines[9]
    with pytest.raises(ValueError, match="11 faults"):
        found.require_good()
    # From the shell: the same list, and nothing is rendered; --skip-bad goes on with the good row.
    out = tmp_path / "out"
    assert main([str(path), "--model", MODEL, "--out", str(out)]) == 2
    assert all(line in capsys.readouterr().err for line in lines[:1]) and not out.exists()
    assert main([str(path), "--model", MODEL, "--out", str(out), "--skip-bad"]) == 0
    assert [p.name for p in out.rglob("*.flac")] == ["e.flac"]


@pytest.mark.parametrize(
    ("line", "column", "allowed"),
    [
        ("not json", "row", "one JSON object"),
        ('{"description": 5}', "description", "a text"),
        ('{"seeds": 0}', "seeds", "from 1 to"),
        ('{"seed": 18446744073709551615, "seeds": 2}', "seeds", "up to 18446744073709551615"),
        ('{"top_p": 1.5}', "top_p", "at most 1"),
        ('{"loras": {"a": 1}}', "loras", "';' between them"),
        ('{"style": "a.wav"}', "style", "takes no style"),
        ('{"prompt": "a.wav"}', "prompt", "a path that exists"),
        ('{"model": "nowhere"}', "model", "a path that exists"),
        ('{"duration": 100000}', "duration", "a day"),
        ('{"window": 0.1, "extend_stride": 0.2}', "extend_stride", "less than 0.1 s"),
        ('{"duration": null}', None, None),
    ],
)
def test_a_bad_value_is_refused_by_its_column(line, column, allowed, tmp_path):
    path = write(tmp_path / "c.jsonl", line + "\n")
    faults = read_catalogue(path, {"model": MODEL, "duration": 1.0}).faults
    assert [fault.column for fault in faults] == [column] * bool(column)
    assert not faults or allowed in faults[0].allowed


def test_files_that_are_no_catalogue_are_refused_in_a_sentence(tmp_path, capsys):
    (tmp_path / "latin.csv").write_bytes("id\nd\xe9j\xe0".encode("latin-1"))
    for name, word in (("none.jsonl", "does not exist"), ("song.mp3", "end in"), ("latin.csv", "UTF-8")):
        assert main([str(tmp_path / name), "--check"]) == 2
        assert word in capsys.readouterr().err
    write(tmp_path / "c.jsonl", "{}\n")
    assert main([str(tmp_path / "c.jsonl"), "--check", "--level", "loud"]) == 2
    assert "level is 'loud'" in capsys.readouterr().err


def test_a_recording_that_is_no_sound_or_is_too_long_to_be_a_prompt_is_a_fault(catalogue, tmp_path):
    (tmp_path / "noise.txt").write_text("no sound")
    (tmp_path / "long.wav").write_bytes(encode_sound(torch.zeros(1, 32000), 32000, "wav"))
    found = catalogue(
        {"id": "a", "prompt": "noise.txt"}, {"id": "b", "prompt": "long.wav"}, {"prompt": "long.wav", "duration": 1.5}
    )
    assert [(fault.line, fault.column) for fault in found.faults] == [(1, "prompt"), (2, "prompt")]
    assert "duration" in found.faults[1].allowed and len(found.pieces) == 1


def test_a_row_without_an_id_gets_one_that_stays_with_its_content(catalogue):
    first = catalogue({"description": "jazz"}, {"description": "rock"})
    second = catalogue({"description": "rock"}, {"description": "blues"}, {"description": "jazz"})
    assert {piece.id for piece in first.pieces} < {piece.id for piece in second.pieces}
    again = catalogue({"description": "rock"}, {"description": "rock"})
    assert [fault.column for fault in again.faults] == ["id"]


def test_a_lora_is_checked_against_its_model_and_its_content_is_part_of_the_recipe(catalogue, tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "one.safetensors"
    save_file(kohya(draw_factors(CHECKPOINTS / "hf-text")), file)
    row = {"id": "a", "loras": "one.safetensors:0.5"}
    first = catalogue(row).pieces[0]
    assert first.loras == ((str(file), 0.5),)
    assert catalogue({"id": "a", "loras": [["one.safetensors", 0.5]]}).pieces[0].digest() == first.digest()
    save_file(kohya(draw_factors(CHECKPOINTS / "hf-text", seed=4)), file)
    assert catalogue(row).pieces[0].digest() != first.digest()
    save_file({"nothing.lora_down.weight": torch.ones(2, 2)}, file)
    assert [fault.column for fault in catalogue(row).faults] == ["loras"]
