"""Every benchmark runs in its smallest setting and ends in one line of JSON; how fast is nobody's business here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from typing import Any

import pytest

from tests.conftest import ROOT

# Script, arguments, and what each row of its result has.
BENCHMARKS = [
    pytest.param(
        "longform",
        ["--model", "nano", "--seconds", "0.5", "1", "--window", "0.4", "--rounds", "2", "--threads", "1"],
        {"length", "per_second", "stride", "linear", "prefill", "step", "peak", "decode", "decode_peak"},
        id="longform",
    ),
    pytest.param(
        "decode",
        ["nano", "--rounds", "1", "--whole", "0.2", "--threads", "1"],
        {"contender"},
        id="decode",
    ),
    pytest.param(
        "evaluation",
        ["--clips", "1", "--files", "20"],
        {"alone", "whole", "overhead", "megabytes"},
        id="evaluation",
    ),
    pytest.param(
        "rendering",
        ["--rows", "16", "--seconds", "0.2", "--stub-rows", "40", "--batch", "2"],
        {"contender", "rows_per_second"},
        id="rendering",
    ),
    pytest.param(
        "editing",
        ["--seeds", "1", "--candidates", "2", "--rounds", "0", "--edits", "section", "--threads", "1"],
        {"edit", "way", "jump", "timbre", "pulse", "nats"},
        id="editing",
    ),
    pytest.param(
        "ranking",
        ["--descriptions", "1", "--pieces", "2", "--seconds", "3"],
        {"measure", "all", "best", "worst", "most"},
        id="ranking",
    ),
    pytest.param("control", ["--pieces", "2", "--only", "schedule"], {"measure", "figures"}, id="control"),
    pytest.param("codec", ["--seconds", "1", "--alone", "--rounds", "1"], {"ratio", "of_gemm", "peak"}, id="codec"),
    pytest.param(
        "node_overhead",
        ["--model", "nano", "--seconds", "0.5", "--rounds", "1"],
        {"what", "library", "nodes", "ratio"},
        id="node_overhead",
        marks=pytest.mark.host,
    ),
    pytest.param(
        "preview",
        ["--model", "nano", "--seconds", "0.5", "--rounds", "1"],
        {"what", "silent", "heard", "ratio"},
        id="preview",
        marks=pytest.mark.host,
    ),
    pytest.param("soak", ["--jobs", "3"], {"kind", "expected", "outcome", "jobs"}, id="soak", marks=pytest.mark.host),
]


def run(script: str, arguments: list[str]) -> Any:
    """The line of JSON that a benchmark ends in."""
    command = [sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux alone")
@pytest.mark.parametrize(("script", "arguments", "fields"), BENCHMARKS)
def test_a_benchmark_ends_in_a_line_for_machines(script, arguments, fields):
    report = run(script, arguments)
    assert report["benchmark"] == script and report["machine"]["torch"]
    assert report["rows"] and all(fields <= row.keys() for row in report["rows"])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux alone")
def test_loading_is_measured_in_a_process_of_its_own():
    row = run("load", ["--child", "ours", "--folder", str(ROOT / "models" / "musicgen-nano")])
    assert row["kept"] > 1e6 and row["peak"] >= 0 and row["cpu"] > 0


def test_every_benchmark_says_what_it_measures_and_how_it_is_run():
    for path in (ROOT / "benchmarks").glob("*.py"):
        text = path.read_text(encoding="ascii")
        if "argparse" in text:
            assert f"python benchmarks/{path.name} " in text and "Theory. " in text, path.name


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux alone")
def test_the_program_for_a_card_takes_a_step_of_each_kind_without_one(tmp_path):
    report = run("gpu", ["--dry-run", "--out", str(tmp_path), "--only", "machine", "forms", "products"])
    assert report["benchmark"] == "gpu" and report["dry_run"]
    assert {row["step"] for row in report["rows"]} == {"machine", "forms", "products"}
    assert not [row for row in report["rows"] if row["wrong"] or "failed" in row]
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == report["rows"]


@pytest.mark.host
@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux alone")
def test_the_program_for_a_card_runs_the_nodes_and_whole_pieces_without_one(tmp_path):
    report = run("gpu", ["--dry-run", "--out", str(tmp_path), "--only", "small", "codec", "nodes-default"])
    assert {row["step"] for row in report["rows"]} == {"small", "codec", "nodes-default"}
    assert not [row for row in report["rows"] if row["wrong"] or "failed" in row]


def test_a_step_that_is_stopped_leaves_its_results_and_says_so(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--dry-run", "--out", str(tmp_path)]
    command += ["--only", "forms", "machine", "--minutes", "0.01"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    rows = json.loads(result.stdout.splitlines()[-1])["rows"]
    assert result.returncode == 1
    assert [(row["step"], row["failed"]) for row in rows] == [
        ("machine", "no time was left for it"),
        ("forms", "no time was left for it"),
    ]


def test_the_archive_for_a_card_s_machine_has_all_that_it_lacks(tmp_path, comfyui):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--pack", "--out", str(tmp_path)]
    subprocess.run(
        command, capture_output=True, check=True, timeout=300, env={**os.environ, "COMFYUI_DIR": str(comfyui)}
    )
    archive = tmp_path / "card.tar.xz"
    assert archive.stat().st_size < 64 * 2**20
    with tarfile.open(archive) as file:
        names = set(file.getnames())
    wanted = ["pack/benchmarks/gpu.py", "pack/musicgen/model.py", "pack/models/musicgen-nano/model.safetensors"]
    wanted += ["ComfyUI/comfy/model_management.py", "ComfyUI/nodes.py", "site/encodec/__init__.py"]
    assert not set(wanted) - names


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked and limited on Linux alone")
def test_faults_of_disk_network_and_memory_lose_damage_and_leave_nothing():
    (row,) = run("faults", ["--seconds", "30"])["rows"]
    assert [row[kind] for kind in ("lost", "damaged", "left", "ended")] == [0, 0, 0, 0]
    assert all(
        row["tried"][kind] for kind in ("kills of saves", "races", "downloads", "full disks", "limits of memory")
    )
