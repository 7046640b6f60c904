"""The likelihood of codes beside transformers' loss on the same batch, and memorisation."""

from __future__ import annotations

import pytest
import torch

from musicgen import GenerationParams, load_model
from musicgen.evaluation import closest_match, code_match, likelihood, memorised, nearest_neighbours
from musicgen.generation.patterns import PATTERN_NAMES, named_pattern
from tests import tiny_models
from tests.parity.test_transformers import TEXT, save_random

DESCRIPTIONS = [TEXT, "a calm piano", None]


def random_codes(items: int, books: int, frames: int, card: int = tiny_models.CARD) -> torch.Tensor:
    return torch.randint(0, card, (items, books, frames), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    return save_random("text", folder), load_model(folder)


@pytest.mark.parametrize("pattern", ["delay", "parallel", "flatten"])
def test_the_likelihood_is_transformers_loss_on_the_same_batch(both, pattern):
    theirs, ours = both
    codes = random_codes(2, 4, 20)
    layout = named_pattern(pattern, 20, (0, 1, 2, 3))
    sequence = layout.build_sequence(codes, tiny_models.CARD)
    tokens = ours.text_encoder.tokenizer(DESCRIPTIONS[:2], return_tensors="pt", padding=True)
    with torch.no_grad():
        labels, read = sequence[:, :, 1:].transpose(1, 2), sequence[:, :, :-1].flatten(0, 1)
        loss = theirs(**tokens, labels=labels, decoder_input_ids=read).loss
    found = likelihood(ours, codes, DESCRIPTIONS[:2], pattern=pattern)
    assert found.cross_entropy == pytest.approx(float(loss), abs=1e-5)
    assert found.perplexity == pytest.approx(float(loss.exp()), rel=1e-5)


def test_items_do_not_depend_on_one_another_and_a_description_counts(both):
    codes = random_codes(3, 4, 15)
    together = likelihood(both[1], codes, DESCRIPTIONS)
    alone = [likelihood(both[1], codes[row : row + 1], [DESCRIPTIONS[row]]).nats[0] for row in range(3)]
    torch.testing.assert_close(together.nats, torch.stack(alone), rtol=0, atol=1e-9)
    assert likelihood(both[1], codes[:1], [None]).cross_entropy != pytest.approx(float(alone[0].mean()), abs=1e-3)


@pytest.mark.parametrize("pattern", PATTERN_NAMES)
def test_every_pattern_counts_each_code_that_a_column_predicts(both, pattern):
    found = likelihood(both[1], random_codes(1, 4, 12), [TEXT], pattern=pattern)
    assert found.nats.shape == (1, 4) and bool(torch.isfinite(found.nats).all())
    assert found.counts.max() == 12 and found.counts.min() >= 11


def test_melody_models_count_under_their_melody(model, sweep):
    from musicgen.conditioning.melody import extract_melody

    m = model("hf-melody")
    codes = random_codes(1, 4, 10, m.config.card)
    figures = [
        likelihood(m, codes, ["x"], melodies=[melody]).cross_entropy
        for melody in (None, extract_melody(sweep[0], 32000))
    ]
    assert figures[0] != pytest.approx(figures[1], abs=1e-4)


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (random_codes(1, 3, 5), "needs"),
        (random_codes(1, 4, 5) + 64, "codes 0 to 63"),
        (random_codes(2, 4, 5), "one for"),
    ],
)
def test_codes_of_another_model_are_refused_in_a_sentence(both, codes, words):
    with pytest.raises(ValueError, match=words):
        likelihood(both[1], codes, [TEXT])


def test_the_nearest_neighbour_is_found_and_a_piece_is_not_its_own():
    reference = torch.randn(50, 16, generator=torch.Generator().manual_seed(2))
    found = nearest_neighbours(3 * reference[[7, 30]] + 0.01, reference)
    assert found.rows.tolist() == [7, 30] and found.cosines.min() > 0.99
    inside = nearest_neighbours(torch.cat([reference, reference[:1]]), torch.cat([reference, reference[:1]]), same=True)
    assert (inside.rows[0], inside.rows[50]) == (50, 0)
    with pytest.raises(ValueError, match="16 wide"):
        nearest_neighbours(reference, reference[:, :8])


def test_first_codes_match_exactly_approximately_or_not():
    piece = random_codes(1, 4, 300)[0]
    near = piece.clone()
    near[0, :40] = (near[0, :40] + 1) % 64
    other = random_codes(3, 4, 300)[2]
    assert code_match(piece[None], near[None]).item() == pytest.approx(1 - 40 / 250)
    matches = closest_match([piece, near, other], [piece, piece[:, :100]])
    assert matches[:2].tolist() == [1.0, pytest.approx(1 - 40 / 250)] and matches[2] < 0.2


def test_a_piece_that_the_model_continues_as_it_did_is_memorised(both):
    model = both[1]
    own = model.generate([TEXT], GenerationParams(duration=0.6, use_sampling=False, cfg_coef=1.0))
    codes = torch.cat([own, random_codes(1, 4, 30)])
    found = memorised(model, codes, [TEXT, TEXT], prompt_frames=10)
    assert found[0] == 1.0 and found[1] < 0.8
    with pytest.raises(ValueError, match="allowed is 1 to 29"):
        memorised(model, codes, [TEXT, TEXT], prompt_frames=30)
