"""The estimate of memory grows as a training does, and picks or names a setting that fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from musicgen.finetuning import Recipe
from musicgen.finetuning.memory import estimate, fit
from tests.conftest import golden_model

RECIPE = Recipe(batch=8, rank=4)


def total(recipe, frames=500):
    return estimate(golden_model("hf-text").config, recipe, frames, 12).total


def test_less_of_each_setting_takes_less():
    for fewer in ({"batch": 4}, {"recompute": True}, {"seconds": 5.0}, {"rank": 1}, {"dtype": "bf16"}):
        assert total(replace(RECIPE, **fewer)) < total(RECIPE), fewer
    assert total(replace(RECIPE, full=True)) > total(RECIPE)


def test_what_may_be_chosen_is_chosen_in_the_order_of_its_cost():
    config = golden_model("hf-text").config
    free = total(replace(RECIPE, recompute=True))
    assert fit(config, RECIPE, 500, 12, total(RECIPE))[0] == RECIPE
    assert fit(config, RECIPE, 500, 12, free)[0] == replace(RECIPE, recompute=True)
    smaller = replace(RECIPE, recompute=True, batch=4, accumulate=2)
    assert fit(config, RECIPE, 500, 12, total(smaller))[0] == smaller


def test_nothing_to_choose_is_a_sentence_with_a_setting_that_fits():
    config = golden_model("hf-text").config
    shorter = replace(RECIPE, recompute=True, batch=1, accumulate=8, seconds=5.0)
    with pytest.raises(MemoryError) as refused:
        fit(config, RECIPE, 500, 12, total(shorter), choose_batch=False, choose_recompute=False)
    assert "are free; choose gradient checkpointing on, batch 1 and accumulation 8, 5 s of each piece." in str(
        refused.value
    )
    with pytest.raises(MemoryError, match="no setting fits: the least is .* or choose a smaller model"):
        fit(config, RECIPE, 500, 12, 1000)
