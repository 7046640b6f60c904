"""A real Ray of two machines with one worker each, both on this machine: one for all tests, as a start takes long."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from musicgen.rendering import Output, read_manifest, render_catalogue, run_job
from musicgen.rendering.__main__ import main
from musicgen.rendering.cluster import Workers, catalogue_dataset, connect, ray_engine
from tests.conftest import ROOT
from tests.musicgen.rendering.faulty import Faulty

from .conftest import CHECKPOINTS, alone, file_alone
from .killing import digests, kills, require_whole

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find Ray's processes")
TWO = Workers(2)


class Cluster:
    """Two machines of one core; the second can be killed and replaced."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Machines

        options = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
        self._options = options
        self.machines = Machines(initialize_head=True, head_node_args=options)
        self.second = self.machines.add_node(num_cpus=1, object_store_memory=100_000_000)

    def replace_second(self) -> None:
        """Kill the second machine, with all its processes, and start another."""
        self.machines.remove_node(self.second, allow_graceful=False)
        self.second = self.machines.add_node(num_cpus=1, object_store_memory=100_000_000)

    @staticmethod
    def workers() -> list[int]:
        """The numbers of the processes of actors."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if path.read_bytes().startswith(b"ray::MapWorker"):
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    # Machines that share their disk and memory with the tests are none that Ray should judge by how full they are.
    os.environ.update(RAY_memory_monitor_refresh_ms="0", RAY_local_fs_capacity_threshold="1")
    made = Cluster()
    connect(made.machines.address)
    yield made
    ray.shutdown()
    made.machines.shutdown()


def rows(count, **changes):
    return [
        {"id": f"p{i}", "description": "rock" if i % 2 else "a calm song", "seed": i, **changes} for i in range(count)
    ]


def run(found, folder, **changes):
    output = Output(folder)
    return run_job(found.pieces, folder, ray_engine(output, workers=TWO, most=2, make_renderer=Faulty, **changes))


def test_a_cluster_makes_the_files_of_the_library_alone_and_reports_rows_that_fail_or_kill(
    cluster, catalogue, text_model, tmp_path
):
    bad = [{"id": "bad", "description": "poison"}, {"id": "worse", "description": "crash"}]
    found = catalogue(*rows(8), *bad, level="as it is")
    out = tmp_path / "out"
    summary = run(found, out)
    assert sorted(summary.made) == [f"p{i}" for i in range(8)]
    assert summary.failed["bad"] == "ValueError: the row is bad"
    assert summary.failed["worse"].startswith("3 workers ended while they made it")
    lines = {line["id"]: line for line in read_manifest(out)}
    for piece in found.pieces[:8]:
        assert (out / lines[piece.id]["file"]).read_bytes() == file_alone(text_model, piece)
    assert len({lines[f"p{i}"]["worker"] for i in range(8)}) >= 2
    # On one machine the next run takes up the folder, and finds the rest to do.
    assert render_catalogue(catalogue(*rows(8), level="as it is"), out).kept == 8
    assert not (out / ".runs").exists()


def test_a_catalogue_is_a_dataset_of_codes_and_sound(cluster, catalogue, text_model, tmp_path):
    found = catalogue(*rows(3, mood="calm"), {"id": "bad", "description": "poison"}, level="as it is")
    dataset = catalogue_dataset(found.pieces, workers=TWO, make_renderer=Faulty)
    dataset.write_parquet(str(tmp_path / "set"))
    import ray

    items = {item["id"]: item for item in ray.data.read_parquet(str(tmp_path / "set")).iter_rows()}
    assert items["bad"]["error"] == "ValueError: the row is bad"
    for piece in found.pieces[:3]:
        codes = torch.from_numpy(items[piece.id]["codes"].astype("int64"))
        assert torch.equal(codes, alone(text_model, piece))
        sound = torch.from_numpy(items[piece.id]["audio"].copy())
        assert torch.equal(sound, text_model.decode(codes[None])[0])
        assert items[piece.id]["columns"] == '{"mood": "calm"}' and not items[piece.id]["error"]


def test_workers_and_machines_that_are_killed_cost_no_piece_and_double_none(cluster, catalogue, tmp_path):
    found = catalogue(*rows(24, pause=0.3))
    render_catalogue(found, tmp_path / "whole")
    draw, left, killed = random.Random(5), kills(2), []
    with ThreadPoolExecutor(1) as executor:
        while len(killed) < left:
            folder = tmp_path / f"out{len(killed)}"
            running = executor.submit(run, found, folder)
            # Ray starts and ends machines in the main thread alone, so the run has the other one.
            while not running.done() and len(killed) < left:
                time.sleep(draw.uniform(0.2, 3.0))
                if (workers := cluster.workers()) and digests(folder):
                    if len(killed) % 4 == 1:
                        cluster.replace_second()
                    else:
                        os.kill(draw.choice(workers), signal.SIGKILL)
                    killed.append(len(digests(folder)))
            failed = running.result().failed
            if failed:  # three kills hit one piece
                run(found, folder)
            lines = [line for line in read_manifest(folder) if line["status"] == "failed"]
            assert {line["id"] for line in lines} == failed.keys()
            require_whole(folder, found.pieces, digests(tmp_path / "whole"))


def test_a_driver_that_is_killed_is_followed_by_one_that_makes_the_rest(cluster, catalogue, tmp_path):
    found = catalogue(*rows(16))
    render_catalogue(found, tmp_path / "whole")
    out, draw = tmp_path / "out", random.Random(6)
    words = ["-m", "musicgen.rendering", str(found.path), "--out", str(out), "--ray", cluster.machines.address]
    words += ["--model", str(CHECKPOINTS / "hf-text"), "--duration", "0.2", "--format", "wav", "--batch", "2"]
    for _ in range(kills(1)):
        driver = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL)
        began = time.monotonic()
        while driver.poll() is None and not digests(out) and time.monotonic() - began < 120:
            time.sleep(0.05)
        time.sleep(draw.uniform(0.0, 0.5))
        driver.kill()
        driver.wait()
        if len(digests(out)) == len(found.pieces):
            require_whole(out, found.pieces, digests(tmp_path / "whole"))
            out = tmp_path / f"out{draw.random()}"
            words[words.index("--out") + 1] = str(out)
    assert run(found, out).failed == {}
    require_whole(out, found.pieces, digests(tmp_path / "whole"))


def test_without_ray_a_sentence_says_how_to_install_it(catalogue, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    found = catalogue({"id": "a"})
    words = [str(found.path), "--out", str(tmp_path / "out"), "--ray", "auto", "--duration", "1"]
    assert main([*words, "--model", str(CHECKPOINTS / "hf-text")]) == 2
    said = capsys.readouterr().err
    assert 'pip install "ray[data]", or leave --ray out to render on this machine alone.' in said
