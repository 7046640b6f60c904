"""Recipes: the table of the box in miniature, pieces that are made once, and a sentence for each fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from musicgen.evaluation.command import main
from musicgen.evaluation.folders import read_sound, write_sound
from musicgen.evaluation.recipes.recipe import RECIPES, read_recipe
from tests.conftest import GOLDEN, ROOT, golden_model

pytest.importorskip("av")

RATE = 16000
NANO = ROOT / "models" / "musicgen-nano"
MELODY = ROOT / "models" / "musicgen-nano-melody"


def write_songs(folder: Path, count: int = 2, seconds: float = 1.0) -> Path:
    """Tones in the place of the corpus' songs, in the folders that `python -m nano.songs` writes."""
    time = torch.arange(round(seconds * RATE)) / RATE
    for part in ("songs", "melodies"):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            tone = 0.3 * torch.sin(2 * torch.pi * 262 * 2 ** (number / 3) * time)
            write_sound(folder / part / f"{number:05}.wav", tone[None], RATE)
    for number in range(count):
        (folder / "songs" / f"{number:05}.txt").write_text("calm piano music", encoding="utf-8")
    return folder


def test_the_table_of_the_bundled_models_is_made_by_one_command(tmp_path, capsys):
    songs = write_songs(tmp_path / "corpus")
    recipe = json.loads(RECIPES["nano"].read_text(encoding="utf-8")) | {"seconds": 1, "seeds": [0, 1]}
    (tmp_path / "small.json").write_text(json.dumps(recipe), encoding="utf-8")
    values = {"model": NANO, "melody_model": MELODY, "songs": songs}
    arguments = ["--recipe", str(tmp_path / "small.json"), "--out", str(tmp_path / "out"), "--no-cache", "--quiet"]
    arguments += [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    main([*arguments, "--json", str(tmp_path / "table.json")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("The tables in miniature")
    assert "fad:encodec | fad-inf:encodec" in lines[2] and "chroma cosine" in lines[2] and "perplexity" in lines[2]
    assert [line.split(" | ")[0] for line in lines[4:8]] == [
        "| text, delay", "| text, parallel", "| text, flatten", "| text and melody"
    ]  # fmt: skip
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert rows["text, delay"]["counts"] == {"reference": 2, "candidates": 4}
    nats = [rows[f"text, {name}"]["figures"] for name in ("delay", "parallel")]
    assert nats[0]["cross entropy by the own pattern"] and nats[1]["cross entropy by parallel"]
    # A second run makes no piece again; another seed gave another piece, and its caption lies beside it.
    piece = tmp_path / "out" / "text--delay" / "seed-0" / "00000.wav"
    before = piece.stat().st_mtime_ns
    main(arguments)
    assert piece.stat().st_mtime_ns == before
    audio, rate = read_sound(piece)
    assert rate == 16000 and audio.shape == (1, 16000)
    assert not torch.equal(audio, read_sound(piece.parents[1] / "seed-1" / "00000.wav")[0])
    assert piece.with_name("00001.txt").read_text() == "calm piano music"


def minimal(**changes: object) -> dict:
    row = {"name": "a", "model": str(GOLDEN / "checkpoints" / "hf-text")}
    return {"measures": ["health"], "captions": ["x", "y"], "rows": [row], "seconds": 0.5, **changes}


def test_each_piece_is_the_one_that_its_own_seed_makes_alone(tmp_path, capsys):
    from musicgen import GenerationParams

    (tmp_path / "r.json").write_text(json.dumps(minimal(seeds=[3])), encoding="utf-8")
    main(["--recipe", str(tmp_path / "r.json"), "--out", str(tmp_path / "out"), "--no-cache", "--quiet"])
    assert "| a |" in capsys.readouterr().out
    model = golden_model("hf-text")
    codes = model.generate(["y"], GenerationParams(duration=0.5, seed=3001))
    torch.testing.assert_close(read_sound(tmp_path / "out" / "a" / "00001.wav")[0], model.decode(codes)[0])
    changed = minimal(seeds=[3], params={"temperature": 0.5})
    (tmp_path / "r.json").write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--recipe", str(tmp_path / "r.json"), "--out", str(tmp_path / "out"), "--no-cache", "--quiet"])
    assert "were made otherwise" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_recipes_in_the_box_ask_for_what_they_need(name):
    with pytest.raises(ValueError, match="Give each as --set") as error:
        read_recipe(name, {})
    needs = json.loads(RECIPES[name].read_text(encoding="utf-8"))["needs"]
    assert all(text in str(error.value) for text in needs.values())


def test_musiccaps_captions_come_from_its_list(tmp_path):
    rows = 'ytid,start_s,end_s,caption\nabc,0,10,"a song, slow"\n-x_,5,15,fast\n'
    (tmp_path / "musiccaps-public.csv").write_text(rows, encoding="utf-8")
    values = {"model": "m", "musiccaps": str(tmp_path / "musiccaps-public.csv"), "reference": str(tmp_path)}
    recipe = read_recipe("musiccaps", values)
    assert recipe.captions == (("abc", "a song, slow"), ("-x_", "fast"))
    assert recipe.rows[0].params.cfg_coef == 3.0 and recipe.rows[0].params.duration == 10.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"measure": []}, "unknown field measure"),
        ({"measures": ["fid"]}, "measure 'fid' does not exist"),
        ({"rows": [{"name": "a"}]}, "needs a model, or a folder of sounds"),
        ({"rows": [{"name": "a", "model": "m", "pattern": "zigzag"}]}, "pattern 'zigzag'; allowed are delay"),
        ({"rows": []}, "has 0 rows"),
        ({"params": {"top": 3}}, "has the parameter top"),
        ({"seconds": -1}, "duration is -1"),
        ({"captions": "nowhere.csv"}, "nowhere.csv does not exist"),
        ({"title": "{x}"}, "needs x"),
    ],
)
def test_faults_of_a_recipe_are_told_in_a_sentence(changes, words, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(minimal(**changes)), encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        read_recipe(tmp_path / "r.json", {})
    with pytest.raises(FileNotFoundError, match="allowed are melody"):
        read_recipe("none", {})


def test_a_recipe_may_be_toml_where_python_reads_it(tmp_path):
    import sys

    lines = ['measures = ["health"]', 'captions = ["x"]', "seconds = 2", "[[rows]]", 'name = "a"', 'folder = "sounds"']
    (tmp_path / "r.toml").write_text("\n".join(lines), encoding="utf-8")
    if sys.version_info >= (3, 11):
        assert read_recipe(tmp_path / "r.toml", {}).rows[0].folder == Path("sounds")
    else:
        with pytest.raises(ValueError, match="Python 3.11"):
            read_recipe(tmp_path / "r.toml", {})
