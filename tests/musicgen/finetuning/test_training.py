"""The loop: it learns, goes on bit for bit, keeps the best state, and ends with a sentence where it must."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from musicgen import read_lora
from musicgen.finetuning import AdaptedLM, Recipe, Training, train
from musicgen.finetuning.adapters import ALL_LINEAR, trainable_copy
from musicgen.finetuning.batches import Batches, encode_captions
from tests.conftest import golden_model

CPU = torch.device("cpu")
RECIPE = Recipe(steps=12, learning_rate=1e-2, warmup=2, batch=3, rank=4, targets=ALL_LINEAR, judge_every=4)


def made(dataset, recipe=RECIPE, kind="hf-text"):
    m = golden_model(kind)
    lm = trainable_copy(m.lm, m.lm.state_dict(), torch.float32, CPU)
    generator = torch.Generator().manual_seed(recipe.seed)
    adapted = AdaptedLM(lm, m.config, rank=recipe.rank, alpha=recipe.scale, targets=recipe.targets, generator=generator)
    batches = Batches(dataset, encode_captions(m.text_encoder, dataset.captions), recipe)
    return adapted, Training(lm, m.config, adapted.parameters(), batches, recipe, base=m.lm.fingerprint())


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_falls_and_the_lora_is_that_of_the_best_step(dataset):
    adapted, training = made(dataset, replace(RECIPE, steps=24))
    result = train(training)
    assert len(result.losses) == 24 and sum(result.losses[-4:]) < sum(result.losses[:4]) - 0.1
    best = min(result.held_out, key=lambda look: look[1])
    assert result.step == best[0] and best[1] < result.held_out[0][1]
    m = golden_model("hf-text")
    lora = adapted.trained(result.state, {"dataset": "songs"})
    changes = lora.changes(m.config)
    assert (changes.name, changes.unmatched, changes.warnings) == ("songs", (), ())
    # Merged into the model, the LoRA has the loss that the training kept it for.
    training.put(result.state)
    inside = training.judge()
    training.lm = m.with_lora(changes).lm
    assert training.judge() == pytest.approx(inside, abs=1e-5) == pytest.approx(best[1], abs=1e-5)


def test_a_run_that_was_stopped_goes_on_bit_for_bit(dataset, tmp_path):
    class Stopped(Exception):
        pass

    def stop(progress):
        if progress.step == 7:
            raise Stopped

    whole = train(made(dataset)[1])
    path = tmp_path / "run.checkpoint"
    with pytest.raises(Stopped):
        train(made(dataset)[1], path, on_step=stop)
    steps = []
    result = train(made(dataset)[1], path, on_step=lambda progress: steps.append(progress.step))
    assert steps == [8, 9, 10, 11, 12]
    assert result.losses == whole.losses and result.held_out == whole.held_out and same(result.state, whole.state)
    # A run that is over is read, and nothing is trained again.
    assert same(train(made(dataset)[1], path, on_step=lambda progress: pytest.fail("a step")).state, whole.state)
    with pytest.raises(ValueError, match=r"was made with other settings \(learning_rate\)"):
        train(made(dataset, replace(RECIPE, learning_rate=2e-3))[1], path)


def test_batches_whose_gradients_are_added_make_the_step_of_one_large_batch(dataset):
    """With pieces of one length; a shorter one would count more in a small batch."""
    one = [piece for piece in dataset.pieces if piece.codes.shape[1] == 100]
    even = replace(dataset, pieces=tuple(one))
    large = train(made(even, replace(RECIPE, steps=3, batch=4, drop_text=0.0))[1])
    small = train(made(even, replace(RECIPE, steps=3, batch=2, accumulate=2, drop_text=0.0))[1])
    assert large.losses == pytest.approx(small.losses, abs=1e-4)


def test_a_loss_that_is_no_number_stops_with_a_sentence_and_the_last_good_state(dataset):
    _, training = made(dataset)

    def poison(progress):
        if progress.step == 9:
            with torch.no_grad():
                training.lm.out_norm.weight.fill_(float("nan"))

    result = train(training, on_step=poison)
    assert result.stopped.startswith(f"The loss is no number after step 9; the weights of step {result.step} are kept.")
    assert result.step in (4, 8) and all(bool(value.isfinite().all()) for value in result.state.values())


def test_a_loss_that_is_no_number_from_the_start_is_refused(dataset):
    _, training = made(dataset)
    with torch.no_grad():
        training.lm.out_norm.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="the loss is no number after step 0, and no good state was reached"):
        train(training)


def test_it_ends_early_where_the_held_out_songs_do_not_become_better(dataset):
    _, training = made(dataset, replace(RECIPE, steps=40, learning_rate=0.1, judge_every=2, patience=2))
    result = train(training)
    assert len(result.losses) < 40 and result.stopped.startswith("The training ended after step")
    assert result.step == min(result.held_out, key=lambda look: look[1])[0]


def test_a_melody_model_learns_with_its_melodies(songs):
    from musicgen.finetuning import make_dataset

    m = golden_model("hf-melody")
    melodic = make_dataset(songs, m.codec, m.config, seconds=2.0)
    result = train(made(melodic, replace(RECIPE, drop_text=0.3, drop_melody=0.3), "hf-melody")[1])
    assert sum(result.losses[-3:]) < sum(result.losses[:3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_is_trained_with_factors_in_float32(dataset, dtype):
    m, recipe = golden_model("hf-text"), replace(RECIPE, dtype="bf16")
    lm = trainable_copy(m.lm, m.lm.state_dict(), dtype, CPU)
    generator = torch.Generator().manual_seed(0)
    adapted = AdaptedLM(lm, m.config, rank=4, alpha=4.0, targets=ALL_LINEAR, generator=generator)
    batches = Batches(dataset, encode_captions(m.text_encoder, dataset.captions), recipe)
    result = train(Training(lm, m.config, adapted.parameters(), batches, recipe))
    assert {value.dtype for value in result.state.values()} == {torch.float32}
    assert sum(result.losses[-3:]) < sum(result.losses[:3])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("learning_rate", 0.0, "learning rate is 0.0; allowed is a number above 0 and up to 0.1"),
        ("learning_rate", 1e3, "learning rate is 1000.0; allowed"),
        ("learning_rate", float("nan"), "learning rate is nan; allowed"),
        ("rank", 0, "rank is 0; allowed is 1 to 4096"),
        ("steps", 0, "steps is 0; allowed is 1 to"),
        ("dtype", "int8", "dtype is 'int8'; allowed are fp32, bf16, fp16"),
        ("targets", "everything", "targets is 'everything'; allowed are attention, all linear"),
        ("drop_text", 1.5, "drop_text is 1.5; allowed is 0 to 1"),
    ],
)
def test_a_recipe_refuses_a_number_in_a_sentence(field, value, words):
    with pytest.raises(ValueError) as refused:
        Recipe(**{field: value})
    assert words in str(refused.value)


def test_a_rank_above_the_width_is_refused(dataset):
    with pytest.raises(ValueError, match="rank is 64; allowed is 1 to 48, the width of hf-text"):
        made(dataset, replace(RECIPE, rank=64))


def test_whatever_saves_a_dict_of_tensors_saves_a_lora_that_is_read(dataset, tmp_path):
    from safetensors.torch import save_file

    adapted, training = made(dataset, replace(RECIPE, steps=2, alpha=8.0))
    lora = adapted.trained(train(training).state, {})
    save_file(lora, tmp_path / "own.safetensors")
    m = golden_model("hf-text")
    read, own = read_lora(tmp_path / "own.safetensors", m.config), lora.changes(m.config)
    assert read.warnings == () and len(read.low_rank) == len(own.low_rank)
    assert {change.scale for change in read.low_rank} == {2.0}
    assert same(m.with_lora(read).lm.state_dict(), m.with_lora(own).lm.state_dict())
