"""Lock files: one holder at a time, and no file left."""

from __future__ import annotations

import threading
import time

import pytest

from musicgen.hub.lock import held


def test_a_lock_is_there_while_it_is_held_and_gone_after(tmp_path):
    with held(tmp_path / "lock"):
        assert (tmp_path / "lock").is_file()
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_releases_and_removes_it_too(tmp_path):
    with pytest.raises(KeyError), held(tmp_path / "lock"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_many_threads_hold_it_one_after_the_other_and_leave_no_file(tmp_path):
    inside, most, done = [], [], []

    def work():
        for _ in range(5):
            with held(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()
        done.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(done), max(most)) == (6, 1)
    assert list(tmp_path.iterdir()) == []


def test_who_waits_may_be_cancelled(tmp_path):
    def cancel():
        raise InterruptedError

    with held(tmp_path / "lock"):
        with pytest.raises(InterruptedError), held(tmp_path / "lock", cancel):
            pass
        assert (tmp_path / "lock").is_file()
