"""The number of threads: found by trying, bounded, settable, and put back."""

from __future__ import annotations

import pytest
import torch

from musicgen.decoding.threads import ThreadChooser, chosen_threads

CPU = torch.device("cpu")


def decode(seconds_with, steps: int, most: int) -> tuple[ThreadChooser, list[int]]:
    """Take steps that last what the number of threads makes them last, by a clock of our own."""
    now, used = [0.0], [most]
    chooser = ThreadChooser(most, used.append, lambda: now[0])
    taken = []
    for step in range(steps):
        taken.append(used[-1])
        now[0] += seconds_with(used[-1], step)
        chooser.step()
    return chooser, taken


def test_all_threads_stay_where_they_are_quickest():
    chooser, taken = decode(lambda threads, step: 1 / threads, 600, 8)
    assert chooser.current == 8
    assert sum(threads != 8 for threads in taken) < 10


def test_where_other_work_wants_the_cores_one_thread_is_found_and_left_again():
    def seconds(threads, step):
        busy = step < 2000
        return 6.0 if busy and threads > 1 else 1 / threads

    chooser, taken = decode(seconds, 1900, 2)
    assert chooser.current == 1
    assert taken.count(1) > 1800
    chooser, _ = decode(seconds, 2500, 2)
    assert chooser.current == 2


def test_it_goes_down_by_halves_and_never_above_what_it_was_given():
    chooser, taken = decode(lambda threads, step: abs(threads - 2) + 1.0, 2000, 16)
    assert chooser.current == 2
    assert set(taken) == {16, 8, 4, 2, 1}


def test_a_gain_of_less_than_a_tenth_moves_nothing():
    chooser, _ = decode(lambda threads, step: 1.0 if threads == 4 else 0.95, 600, 4)
    assert chooser.current == 4


def test_a_single_thread_is_never_touched():
    chooser, taken = decode(lambda threads, step: 1.0, 600, 1)
    assert set(taken) == {1} and chooser.current == 1


def test_afterwards_torch_has_the_threads_it_had(monkeypatch):
    monkeypatch.delenv("MUSICGEN_THREADS", raising=False)
    before = torch.get_num_threads()
    with pytest.raises(KeyError), chosen_threads(CPU) as (step, _):
        for _ in range(10):
            step()
        raise KeyError
    assert torch.get_num_threads() == before


def test_the_environment_sets_the_number(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("MUSICGEN_THREADS", "3")
    with chosen_threads(CPU) as (step, _):
        step()
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "5000"])
def test_an_impossible_number_is_refused_by_name(monkeypatch, text):
    monkeypatch.setenv("MUSICGEN_THREADS", text)
    with pytest.raises(ValueError, match=f"MUSICGEN_THREADS is '{text}'; allowed are 1 to 1024"), chosen_threads(CPU):
        pass


def test_no_other_device_has_a_choice(monkeypatch):
    monkeypatch.setenv("MUSICGEN_THREADS", "3")
    before = torch.get_num_threads()
    with chosen_threads(torch.device("cuda")):
        assert torch.get_num_threads() == before
