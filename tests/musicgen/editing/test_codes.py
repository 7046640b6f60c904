"""Codes are cut, joined and mixed by whole frames, and what does not fit is refused in a sentence."""

from __future__ import annotations

import pytest
import torch

from musicgen.editing.codes import equal_sections, exchange, join, keep, remove, repeat, reverse_sections

PIECE = torch.arange(2 * 4 * 10).view(2, 4, 10)


def frames(codes: torch.Tensor) -> list[int]:
    """The original frames that the first item's first codebook is made of."""
    return codes[0, 0].tolist()


def test_ranges_are_kept_in_the_order_they_are_written_and_may_come_again():
    assert frames(keep(PIECE, [(6, 8), (0, 2), (6, 8)])) == [6, 7, 0, 1, 6, 7]


def test_ranges_are_removed_in_any_order():
    assert frames(remove(PIECE, [(7, 10), (1, 3)])) == [0, 3, 4, 5, 6]


def test_sections_are_played_in_reverse_order_and_the_rest_stays():
    assert frames(reverse_sections(PIECE, [(0, 4), (4, 8)])) == [4, 5, 6, 7, 0, 1, 2, 3, 8, 9]
    assert frames(reverse_sections(PIECE, [(1, 2), (5, 8)])) == [0, 5, 6, 7, 2, 3, 4, 1, 8, 9]


def test_reversing_sections_of_one_length_twice_gives_the_piece():
    sections = equal_sections(10, [2])
    assert torch.equal(reverse_sections(reverse_sections(PIECE, sections), sections), PIECE)


def test_sections_of_broken_lengths_lie_on_the_nearest_frames():
    assert equal_sections(10, [3, 4]) == [(0, 3), (3, 7), (7, 10)]


def test_a_piece_of_one_item_joins_each_item_of_a_batch():
    made = join([PIECE, PIECE[:1, :, :2]])
    assert made.shape == (2, 4, 12) and torch.equal(made[1, :, 10:], PIECE[0, :, :2])
    assert torch.equal(repeat(PIECE, 3), join([PIECE, PIECE, PIECE]))


def test_codebooks_are_exchanged_in_ranges_and_nothing_else_changes():
    other = -PIECE[:1]
    made = exchange(PIECE, other, [2, 3], [(2, 5)])
    assert torch.equal(made[:, 2:, 2:5], other[:, 2:, 2:5].expand(2, -1, -1))
    made[:, 2:, 2:5] = PIECE[:, 2:, 2:5]
    assert torch.equal(made, PIECE)


def test_a_mix_is_as_long_as_the_shorter_piece():
    assert exchange(PIECE, PIECE[:, :, :6], [0]).shape[2] == 6


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda: keep(PIECE, []), "no range was given"),
        (lambda: keep(PIECE, [(8, 12)]), "8 to 12 is empty or beyond the piece, which has 10 frames"),
        (lambda: keep(PIECE, [(4, 4)]), "4 to 4 is empty"),
        (lambda: remove(PIECE, [(0, 6), (5, 8)]), "5 to 8 begins before the one before it ends, at frame 6"),
        (lambda: remove(PIECE, [(0, 10)]), "cover all 10 frames"),
        (lambda: reverse_sections(PIECE, [(0, 3), (2, 4)]), "do not overlap"),
        (lambda: repeat(PIECE, 0), "repeats is 0"),
        (lambda: join([PIECE, PIECE[:, :2]]), "equal codebooks"),
        (lambda: join([PIECE, PIECE[:1].repeat(3, 1, 1)]), "equal items or one item"),
        (lambda: exchange(PIECE, PIECE, []), "no codebook was named; allowed are 1 to 4"),
        (lambda: exchange(PIECE, PIECE, [4]), "codebook 5 was named; allowed are 1 to 4"),
    ],
)
def test_edits_that_do_not_fit_are_refused_in_a_sentence(edit, sentence):
    with pytest.raises(ValueError, match=sentence):
        edit()
