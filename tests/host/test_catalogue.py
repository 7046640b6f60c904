"""Catalogues in real servers: one graph that runs once for each row, and rows spread over two servers."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from dev.comfy_server import ComfyServer, prepare_base
from dev.media import CATALOGUE
from musicgen import load_model
from musicgen.rendering import read_manifest
from musicgen.rendering.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
GRAPH = ROOT / "workflows" / "api" / "catalogue.json"


def test_the_graph_runs_once_for_each_row_with_its_own_text_length_seed_and_name(host):
    (host.base / "input" / "catalogue.csv").write_text(
        "id,description,duration,seed\nmenu,slow jazz,0.5,1\nboss,fast techno,1.0,2\n", encoding="utf-8"
    )
    prompt = json.loads(GRAPH.read_text(encoding="utf-8"))
    sounds = host.play_batch(prompt)
    assert [samples.shape[1] for samples, _ in sounds] == [8000, 16000]
    saved = sorted(path.name for path in (host.base / "output" / "catalogue").iterdir())
    assert [name.partition("_")[0] for name in saved] == ["boss", "menu"]
    # The same rows through the other workflow are the same sounds.
    for (samples, _), (text, seconds, seed) in zip(
        sounds, [("slow jazz", 0.5, 1), ("fast techno", 1.0, 2)], strict=True
    ):
        alone, _ = host.play(host.workflow("text_to_music", text=text, duration=seconds, seed=seed))
        assert (alone == samples).all()


def test_bad_rows_are_listed_in_the_error_of_the_node(host):
    (host.base / "input" / "bad.csv").write_text("id,seed\na,x\nb,-1\n", encoding="utf-8")
    prompt = json.loads(GRAPH.read_text(encoding="utf-8"))
    prompt["6"]["inputs"]["catalogue"] = "bad.csv"
    kind, message = host.fail(prompt)
    assert kind == "ValueError" and "line 2: seed is 'x'" in message and "line 3: seed is '-1'" in message
    (host.base / "input" / "bad.csv").unlink()


@pytest.fixture
def second(tmp_path, comfyui):
    """Another server, which a test may kill."""
    prepare_base(tmp_path / "second", ROOT)
    with ComfyServer(tmp_path / "second", comfyui) as server:
        yield server


def test_rows_are_spread_over_two_servers_and_one_that_is_killed_costs_nothing(host, second, tmp_path, capsys):
    catalogue, out = tmp_path / "songs.jsonl", tmp_path / "out"
    rows = [{"id": f"p{i}", "description": "slow jazz", "duration": 1.0, "seed": i, "mood": "calm"} for i in range(12)]
    rows.append({"id": "bad", "description": "slow jazz", "duration": 0.001})
    catalogue.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = [str(catalogue), "--out", str(out), "--graph", str(GRAPH), "--comfyui", host.server.url, second.url]

    def kill() -> None:
        while not any(line["worker"] == second.url for line in read_manifest(out)):
            time.sleep(0.1)
        os.killpg(second.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert main(words) == 1  # one row fails
    killer.join(1)
    assert not killer.is_alive()
    lines = {line["id"]: line for line in read_manifest(out)}
    assert lines.keys() == {row["id"] for row in rows} and len(list(read_manifest(out))) == len(rows)
    reason = "the server refuses the graph: MusicGenSampleTokens: Value 0.001 smaller than min of 0.1: duration"
    assert (lines["bad"]["status"], lines["bad"]["error"]) == ("failed", reason)
    assert {lines[f"p{i}"]["worker"] for i in range(12)} == {host.server.url, second.url}
    assert lines["p3"]["columns"] == {"mood": "calm"} and lines["p3"]["seconds"] == 1.0
    # Each file is the sound of its own seed.
    from musicgen import GenerationParams
    from musicgen.rendering.sounds import read_sound

    model = load_model(ROOT / "models" / "musicgen-nano")
    for seed in (0, 7):
        audio = model.decode(model.generate(["slow jazz"], GenerationParams(1.0, cfg_coef=2.0, seed=seed)))[0]
        assert (read_sound(out / lines[f"p{seed}"]["file"])[0] - audio.clamp(-1, 1)).abs().max() < 1e-4
    # A second start finds everything, and tries the failed one again.
    catalogue.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]), encoding="utf-8")
    assert main(words) == 0 and "12 pieces are there, 0 to make" in capsys.readouterr().out


def test_graphs_and_rows_that_do_not_fit_are_refused_before_anything_runs(tmp_path, capsys):
    (tmp_path / "c.csv").write_text(CATALOGUE.replace("seed\n", "top_k\n"), encoding="utf-8")
    words = [str(tmp_path / "c.csv"), "--out", str(tmp_path / "out"), "--comfyui", "http://127.0.0.1:9"]
    assert main([*words, "--graph", str(GRAPH)]) == 2
    assert "line 2: top_k is 1" in capsys.readouterr().err
    assert main([*words, "--graph", str(GRAPH.with_name("text_to_music.json"))]) == 2
    assert "has 0 nodes of the kind MusicGenCatalogue" in capsys.readouterr().err
    assert main([*words, "--graph", str(GRAPH.parents[1] / "16 Catalogue.json")]) == 2
    assert "Export (API)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
