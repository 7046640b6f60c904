"""Files whole or not at all: names that several writers want, writers that are killed, disks that are full."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from musicgen import writing
from musicgen.writing import Numbered, UnwritableError, remove_leftovers, write_file
from tests.conftest import ROOT


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def save_many(folder, rounds, start):
    start.wait()
    for number in range(rounds):
        text = f"{os.getpid()} {number}".encode() * 1000
        write_file(Numbered(folder, "mine_", "_.bin"), lambda file, text=text: file.write(text))


def test_of_many_processes_that_save_under_one_name_each_gets_a_number_of_its_own(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    processes = [context.Process(target=save_many, args=(tmp_path, 10, start)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert names(tmp_path) == [f"mine_{number:05}_.bin" for number in range(1, 41)]
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 40


def test_numbers_begin_where_asked_and_pass_over_names_that_are_taken(tmp_path):
    (tmp_path / "mine_00008_.bin").write_bytes(b"old")
    paths = [write_file(Numbered(tmp_path, "mine_", "_.bin", 7), lambda file: file.write(b"new")) for _ in range(2)]
    assert [path.name for path in paths] == ["mine_00007_.bin", "mine_00009_.bin"]
    assert (tmp_path / "mine_00008_.bin").read_bytes() == b"old"


def test_on_a_disk_without_links_numbers_are_claimed_as_well(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    for _ in range(3):
        write_file(Numbered(tmp_path, "mine_", "_.bin"), lambda file: file.write(b"x"))
    assert names(tmp_path) == ["mine_00001_.bin", "mine_00002_.bin", "mine_00003_.bin"]


def test_two_threads_that_write_one_path_leave_one_whole_file(tmp_path):
    first_is_open, go_on = threading.Event(), threading.Event()

    def slowly(file):
        file.write(b"a" * 1000)
        first_is_open.set()
        assert go_on.wait(60)
        file.write(b"a" * 1000)

    thread = threading.Thread(target=write_file, args=(tmp_path / "x", slowly))
    thread.start()
    assert first_is_open.wait(60)
    write_file(tmp_path / "x", lambda file: file.write(b"b" * 500))
    assert (tmp_path / "x").read_bytes() == b"b" * 500
    go_on.set()
    thread.join(60)
    assert (tmp_path / "x").read_bytes() == b"a" * 2000 and names(tmp_path) == ["x"]


@pytest.mark.parametrize("target", ["path", "numbered"])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, target):
    (tmp_path / "x").write_bytes(b"old")

    def fail(file):
        file.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "x" if target == "path" else Numbered(tmp_path, "x", ""), fail)
    assert names(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"old"


WRITER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from musicgen.writing import write_file
def slowly(file):
    file.write(b"1" * 5000)
    file.flush()
    print("open", flush=True)
    time.sleep(600)
write_file(Path(sys.argv[2], "model"), slowly)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that is in the middle of writing."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(ROOT), str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"open\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_next_file_removes_those_of_killed_writers_and_says_so(tmp_path, writer, caplog):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(names(tmp_path)) == 1
    write_file(tmp_path / "x", lambda file: file.write(b"1"))
    assert names(tmp_path) == ["x"]
    assert f"Removed unfinished files in {tmp_path} (1, 0.005 MB)" in caplog.text


def test_the_file_of_a_writer_that_runs_stays(tmp_path, writer):
    (unfinished,) = tmp_path.iterdir()
    os.utime(unfinished, (1, 1))
    remove_leftovers(tmp_path)
    assert unfinished.is_file()


@pytest.mark.parametrize(("age", "stays"), [(0, True), (3600, True), (48 * 3600, False)])
def test_a_file_of_another_machine_counts_as_left_behind_after_a_day(tmp_path, age, stays):
    path = tmp_path / ".musicgen-another0-0011223344556677.part"
    path.write_bytes(b"1")
    os.utime(path, (time.time() - age,) * 2)
    remove_leftovers(tmp_path)
    assert path.is_file() == stays


@pytest.mark.parametrize(("age", "stays"), [(0, True), (48 * 3600, False)])
def test_where_there_are_no_locks_age_decides_alone(tmp_path, monkeypatch, age, stays):
    monkeypatch.setattr(writing, "fcntl", None)
    path = tmp_path / f".musicgen-{writing._machine()}-0011223344556677.part"
    path.write_bytes(b"1")
    os.utime(path, (time.time() - age,) * 2)
    write_file(tmp_path / "x", lambda file: file.write(b"1"))
    assert path.is_file() == stays and (tmp_path / "x").read_bytes() == b"1"


def test_other_files_with_such_endings_are_left_alone(tmp_path):
    others = [".part", ".musicgen", "song.part", ".musicgen-notes.txt", "musicgen-1.part"]
    for name in others:
        (tmp_path / name).write_bytes(b"1")
        os.utime(tmp_path / name, (1, 1))
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(others)


def test_a_name_that_is_too_long_is_refused_before_anything_is_written(tmp_path):
    written = []
    with pytest.raises(UnwritableError, match="has 264 bytes; allowed are 255, so choose a shorter name"):
        write_file(Numbered(tmp_path, "x" * 249, "_.safetensors"[:10]), written.append)
    assert not written and names(tmp_path) == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UnwritableError, match="the folder .*nowhere does not exist; make it or choose another one"):
        write_file(tmp_path / "nowhere" / "x", lambda file: file.write(b"x"))


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of a process are those of Linux")
def test_a_full_disk_is_told_in_units_that_say_something(tmp_path):
    def fill(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UnwritableError, match=r"free and 2\.41 MB are needed; make room or choose another folder"):
        write_file(tmp_path / "x", fill, 2_408_000)
    assert names(tmp_path) == []
    code = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from musicgen.writing import write_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_file(Path(sys.argv[2], "x"), lambda file: file.write(b"1" * 5000), 5000)
except OSError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "allows no file of 5 kB; choose another folder" in done.stdout and names(tmp_path) == []
