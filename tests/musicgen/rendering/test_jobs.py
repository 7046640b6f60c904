"""Runs into a folder: only the missing pieces are made, whatever happened before."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from musicgen.rendering import Output, Renderer, local_engine, read_manifest, render_catalogue, run_job
from musicgen.rendering.__main__ import main
from musicgen.rendering.manifest import NAME, Manifest
from musicgen.rendering.shards import ids_in

from .conftest import CHECKPOINTS
from .killing import digests, kills, require_whole

fork = multiprocessing.get_context("fork" if sys.platform != "win32" else "spawn")


def rows(count, **changes):
    return [{"id": f"p{i}", "description": "rock" if i % 2 else "calm", "seed": i, **changes} for i in range(count)]


def names(folder, pattern="*.wav"):
    return sorted(path.name for path in folder.rglob(pattern))


def test_a_second_run_makes_only_what_is_missing_and_redoes_changed_rows(catalogue, tmp_path):
    out = tmp_path / "out"
    first = render_catalogue(catalogue(*rows(4)), out)
    assert sorted(first.made) == ["p0", "p1", "p2", "p3"] and first.kept == 0
    before = digests(out)
    # Nothing to do: the manifest does not grow.
    size = (out / NAME).stat().st_size
    again = render_catalogue(catalogue(*rows(4)), out)
    assert (again.made, again.kept, (out / NAME).stat().st_size) == ([], 4, size)
    # One row changes, one goes, one is new, one file is deleted.
    changed = [{**row, "seed": 9} if row["id"] == "p1" else row for row in rows(5) if row["id"] != "p3"]
    next((out / "audio").rglob("p2.wav")).unlink()
    third = render_catalogue(catalogue(*changed), out)
    assert sorted(third.made) == ["p1", "p2", "p4"] and third.kept == 1
    assert sorted(third.redone) == ["p1", "p2"] and third.removed == ["p3"]
    after = digests(out)
    assert names(out) == ["p0.wav", "p1.wav", "p2.wav", "p3.wav", "p4.wav"]
    assert {name for name in before if before[name] == after[name]} == {"p0", "p2", "p3"}


def test_a_row_in_another_format_replaces_its_file(catalogue, tmp_path):
    out = tmp_path / "out"
    render_catalogue(catalogue(*rows(2)), out)
    assert render_catalogue(catalogue(*rows(2, format="flac")), out).redone == ["p0", "p1"]
    assert names(out, "*.*") == sorted(["p0.flac", "p1.flac", NAME])


def test_columns_of_the_catalogue_are_carried_and_their_change_costs_a_line_alone(catalogue, tmp_path):
    out = tmp_path / "out"
    render_catalogue(catalogue(*rows(2, mood="calm", tags=["a", "b"])), out)
    again = render_catalogue(catalogue(*rows(2, mood="wild")), out)
    assert (again.made, again.kept) == ([], 2)
    lines = list(read_manifest(out))
    assert [line["columns"] for line in lines] == [{"mood": "calm", "tags": ["a", "b"]}] * 2 + [{"mood": "wild"}] * 2
    assert render_catalogue(catalogue(*rows(2, mood="wild")), out).kept == 2 and len(list(read_manifest(out))) == 4
    assert {"id", "file", "sha256", "recipe", "seconds", "worker", "took"} <= lines[0].keys()
    assert lines[0]["seconds"] == 0.2 and lines[0]["recipe"]["description"] in ("rock", "calm")


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_shards_hold_tokens_and_sound_and_no_piece_twice(kind, catalogue, text_model, tmp_path):
    import io
    import tarfile

    import numpy as np
    import torch

    from .conftest import alone

    out = tmp_path / "out"
    found = catalogue(*rows(4, mood="calm"), level="as it is")
    render_catalogue(found, out, kind=kind, most=2)
    shards = sorted((out / "shards").iterdir())
    assert len(shards) == 2
    codes, about = {}, {}
    for shard in shards:
        if kind == "parquet":
            import pyarrow.parquet

            for item in pyarrow.parquet.read_table(shard).to_pylist():
                codes[item["id"]] = np.array(item["codes"]).reshape(item["codebooks"], -1)
                about[item["id"]] = json.loads(item["columns"])
        else:
            with tarfile.open(shard) as tar:
                files = {info.name: tar.extractfile(info).read() for info in tar}
            assert {name.partition(".")[2] for name in files} == {"wav", "json", "codes.npy"}
            for name, data in files.items():
                if name.endswith(".npy"):
                    codes[name.partition(".")[0]] = np.load(io.BytesIO(data))
                elif name.endswith(".json"):
                    about[name.partition(".")[0]] = json.loads(data)["columns"]
    for piece in found.pieces:
        assert torch.equal(torch.from_numpy(codes[piece.id].astype("int64")), alone(text_model, piece))
    assert set(map(str, about.values())) == {"{'mood': 'calm'}"}
    # A changed row moves to a new shard and leaves the old one; a shard that no line names is removed.
    (out / "shards" / f"stray{shards[0].suffix}").write_bytes(shards[0].read_bytes())
    changed = [{**row, "seed": 77} if row["id"] == "p1" else row for row in rows(4, mood="calm")]
    summary = render_catalogue(catalogue(*changed, level="as it is"), out, kind=kind)
    assert summary.made == ["p1"]
    assert sorted(name for shard in (out / "shards").iterdir() for name in ids_in(shard)) == ["p0", "p1", "p2", "p3"]


def test_a_line_that_a_crash_cut_off_is_dropped_and_its_piece_made_again(catalogue, tmp_path):
    out = tmp_path / "out"
    render_catalogue(catalogue(*rows(3)), out)
    expected = digests(out)
    path = out / NAME
    path.write_bytes(path.read_bytes()[:-20])
    assert len(render_catalogue(catalogue(*rows(3)), out).made) == 1
    require_whole(out, catalogue(*rows(3)).pieces, expected)
    path.write_bytes(b"{damaged}\n" + path.read_bytes())
    with pytest.raises(ValueError, match="line 1 of .* is damaged; remove this line"):
        render_catalogue(catalogue(*rows(3)), out)


def test_two_programs_do_not_render_into_one_folder(catalogue, tmp_path):
    with Manifest(tmp_path / "out"), pytest.raises(RuntimeError, match="another program renders into"):
        render_catalogue(catalogue(*rows(1)), tmp_path / "out")


def test_failed_pieces_are_recorded_and_tried_again_by_the_next_run(catalogue, tmp_path):
    class Moody(Renderer):
        def sample(self, model, batch):
            if any(piece.id == "p1" for piece in batch):
                raise ValueError("not today")
            return super().sample(model, batch)

    found, output = catalogue(*rows(3)), Output(tmp_path / "out")
    summary = run_job(found.pieces, output.folder, local_engine(output, make_renderer=lambda: Moody("cpu")))
    assert summary.failed == {"p1": "ValueError: not today"} and sorted(summary.made) == ["p0", "p2"]
    assert [line["error"] for line in read_manifest(output.folder) if line["status"] == "failed"]
    assert render_catalogue(found, output.folder).made == ["p1"]


def test_the_command_tells_the_plan_the_progress_and_the_columns(catalogue, tmp_path, capsys):
    found = catalogue(*rows(3, mood="calm"))
    words = [
        str(found.path),
        "--out",
        str(tmp_path / "out"),
        "--duration",
        "0.2",
        "--model",
        str(CHECKPOINTS / "hf-text"),
    ]
    assert main(words) == 0
    said = capsys.readouterr().out
    for text in ("3 pieces, 0:00:01", "columns carried into the manifest: mood", "0 pieces are there, 3 to make"):
        assert text in said
    assert "s of sound/s, 0:00:00 left" in said and said.endswith("3 made, 0 kept, 0 failed\n")
    assert main(words) == 0 and "3 pieces are there, 0 to make" in capsys.readouterr().out
    assert not (tmp_path / "other").exists() and main([*words, "--check"]) == 0


def render_slowly(found, folder, kind):
    """A run in batches of two."""
    render_catalogue(found, folder, kind=kind, most=2, device="cpu")


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
@pytest.mark.parametrize("kind", ["files", "webdataset"])
def test_a_run_that_is_killed_at_random_moments_loses_nothing_and_doubles_nothing(kind, catalogue, tmp_path):
    found = catalogue(*rows(24))
    render_slowly(found, tmp_path / "whole", kind)
    expected, draw, out, made = digests(tmp_path / "whole"), random.Random(kind), tmp_path / "out", []
    for _ in range(kills(4)):
        process = fork.Process(target=render_slowly, args=(found, out, kind))
        # A share of the work and a moment more, not a time: how long a run takes depends on the machine's other work.
        goal = draw.randrange(len(digests(out)), len(found.pieces))
        process.start()
        while process.is_alive() and len(digests(out)) < goal:
            time.sleep(0.002)
        time.sleep(draw.uniform(0.0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        made.append(len(digests(out)))
        if made[-1] == len(found.pieces):  # all done: begin anew, so that the next kill meets work
            require_whole(out, found.pieces, expected)
            out = tmp_path / f"out{len(made)}"
    render_slowly(found, out, kind)
    require_whole(out, found.pieces, expected)


def render_with_limit(found, folder, limit, answer):
    """A run that may write no file beyond a limit, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        render_catalogue(found, folder, most=2)
    except OSError as error:
        answer.put(error.errno)


def require_resumed(found, folder, whole):
    """The next run makes what a broken one left out."""
    assert len(digests(folder)) < len(found.pieces)
    render_catalogue(found, folder)
    require_whole(folder, found.pieces, digests(whole))


@pytest.mark.skipif(sys.platform != "linux", reason="sets limits on files")
@pytest.mark.parametrize(("limit", "seconds"), [(3000, 0.04), (14000, 1.0)], ids=["the manifest", "a sound"])
def test_a_disk_that_is_full_ends_the_run_and_the_next_one_goes_on(limit, seconds, catalogue, tmp_path):
    found = catalogue(*rows(9, duration=0.04), {"id": "last", "duration": seconds, "cfg_coef": 2.0})
    render_catalogue(found, tmp_path / "whole")
    answer, out = fork.Queue(), tmp_path / "out"
    process = fork.Process(target=render_with_limit, args=(found, out, limit, answer))
    process.start()
    assert answer.get(timeout=120) == errno.EFBIG
    process.join()
    assert (out / NAME).read_bytes()[-1:] != b"\n" or seconds == 1.0
    require_resumed(found, out, tmp_path / "whole")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk")
def test_a_small_disk_that_is_full_is_reported_in_a_sentence(catalogue, tmp_path, capsys):
    found, out = catalogue(*rows(9)), tmp_path / "out"
    render_catalogue(found, tmp_path / "whole")
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(out)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        words = [str(found.path), "--out", str(out), "--duration", "0.2", "--model", str(CHECKPOINTS / "hf-text")]
        assert main([*words, "--format", "wav", "--batch", "2"]) == 1
        said = capsys.readouterr().err
        assert "could not be written" in said and "are free" in said and "the same command goes on from here" in said
        subprocess.run(["mount", "-o", "remount,size=10m", str(out)], check=True)
        require_resumed(found, out, tmp_path / "whole")
    finally:
        subprocess.run(["umount", str(out)], check=True)
