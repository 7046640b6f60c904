"""MusicGen Style and what the sampler does with a style."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import write_style_model

from .conftest import owns_memory, sound


@pytest.fixture
def style_of(run, load):
    def hear(seconds: float = 6.0, name: str = "style", **changes):
        inputs = {"excerpt_length": 3.0, "seed": 1, **{k: v for k, v in changes.items() if k in NODE}}
        audio = sound(seconds, **{k: v for k, v in changes.items() if k not in NODE})
        return run("Style", model=load(name).model, audio=audio, **inputs)

    return hear


NODE = ("excerpt_length", "seed", "eval_q")


def test_a_recording_becomes_one_style_per_item(style_of, load):
    style = style_of(rate=44100, channels=2, batch=2)
    assert [item.shape for item in style.items] == [(15, 64), (15, 64)]
    assert all(owns_memory(item) for item in style.items)
    assert style.model == "tiny/style" and style.conditioner == load("style").model.style.fingerprint
    assert not torch.equal(*style.items)
    assert style_of(excerpt_length=1.5).items[0].shape == (8, 64)


def test_item_i_is_heard_where_seed_plus_i_says(style_of):
    pair = style_of(batch=2, seed=7).items
    assert torch.equal(pair[0], style_of(seed=7).items[0])
    assert torch.equal(pair[1], style_of(pitch=440.0 * 1.5, seed=8).items[0])


def test_a_style_changes_the_piece_and_the_same_one_does_not(encode, sample, style_of):
    conditioning = encode("jazz", "style")
    low, again, high = (sample(conditioning, "style", style=style_of(pitch=p))["codes"] for p in (220.0, 220.0, 880.0))
    plain = sample(conditioning, "style")["codes"]
    assert torch.equal(low, again)
    assert not torch.equal(low, high) and not torch.equal(low, plain)


def test_beta_acts_only_with_a_style_and_a_description(encode, sample, style_of):
    words, nothing, style = encode("jazz", "style"), encode("", "style"), style_of()

    def codes(positive, **changes):
        return sample(positive, "style", **changes)["codes"]

    assert torch.equal(codes(words, style=style), codes(words, style=style, cfg_coef_beta=1.0))
    assert not torch.equal(codes(words, style=style), codes(words, style=style, cfg_coef_beta=5.0))
    assert torch.equal(codes(words), codes(words, cfg_coef_beta=5.0))
    assert torch.equal(codes(nothing, style=style), codes(nothing, style=style, cfg_coef_beta=5.0))


def test_a_style_per_item_reaches_its_item(encode, sample, style_of):
    conditioning = encode("jazz", "style")
    pair = sample(conditioning, "style", style=style_of(batch=2, seed=3), batch_size=2)["codes"]
    alone = sample(conditioning, "style", style=style_of(pitch=660.0, seed=4), seed=2)["codes"]
    assert torch.equal(pair[1], alone[0])


def test_a_style_goes_with_core_nodes_schedules_prompts_and_negatives(comfy, encode, sample, style_of):
    style, words = style_of(), encode("jazz", "style")
    (half,) = comfy.core.ConditioningSetTimestepRange().set_range(words, 0.0, 0.5)
    whole = sample(words, "style", style=style)["codes"]
    first = sample(half, "style", style=style)["codes"]
    assert torch.equal(first[..., :12], whole[..., :12]) and not torch.equal(first, whole)
    prompt = sample(words, "style", style=style)
    longer = sample(words, "style", style=style, prompt=prompt, duration=1.0, negative=encode("noise", "style"))
    assert torch.equal(longer["codes"][:, :, :25], prompt["codes"])


def test_memory_is_asked_for_the_style_s_rows(comfy, encode, sample, style_of, monkeypatch):
    asked = []
    original = comfy.management.load_models_gpu

    def spy(models, memory_required=0, **rest):
        asked.append(memory_required)
        return original(models, memory_required=memory_required, **rest)

    conditioning, style = encode("jazz", "style"), style_of()
    monkeypatch.setattr(comfy.management, "load_models_gpu", spy)
    assert [style_of(excerpt_length=seconds) and asked.pop() for seconds in (1.5, 4.5)] == [36_000_000, 108_000_000]
    for changes in ({}, {"style": style}, {"style": style, "cfg_coef_beta": 5.0}):
        sample(conditioning, "style", **changes)
    assert 0 < asked[0] < asked[1] < asked[2]


def test_a_recording_shorter_than_the_excerpt_is_refused(style_of):
    with pytest.raises(ValueError, match=r"2\.00 seconds long, shorter than the excerpt of 3 seconds"):
        style_of(2.0)


@pytest.mark.parametrize("name", ["text", "melody"])
def test_models_without_a_style_condition_refuse_to_hear_and_to_follow_one(encode, sample, style_of, name):
    words = f"tiny/{name} has no style condition and cannot take a style; load a style model"
    with pytest.raises(ValueError, match=words):
        style_of(name=name)
    with pytest.raises(ValueError, match=words):
        sample(encode("jazz", name), name, style=style_of())


def test_a_style_of_another_style_model_is_refused(run, encode, sample, models_folder):
    folder = write_style_model(models_folder / "tiny" / "other")
    contents = torch.load(folder / "state_dict.bin", weights_only=True)
    book = "condition_provider.conditioners.self_wav.rvq.vq.layers.0._codebook.embed"
    contents["best_state"][book] += 0.1
    torch.save(contents, folder / "state_dict.bin")
    model, _, _ = run("Loader", model="tiny/other", dtype="auto")
    style = run("Style", model=model, audio=sound(6.0), excerpt_length=3.0, seed=1)
    with pytest.raises(ValueError, match="this style was made with the model tiny/other, whose styles the model"):
        sample(encode("jazz", "style"), "style", style=style)


def test_a_batch_of_styles_must_fit(encode, sample, style_of):
    with pytest.raises(ValueError, match="2 styles arrived; allowed are 1 or the batch size 3"):
        sample(encode("jazz", "style"), "style", style=style_of(batch=2), batch_size=3)


def test_the_loader_notices_when_mert_arrives_later(comfy, host, tmp_path, monkeypatch):
    before = host.folders.model_fingerprint("tiny/style")
    extra = tmp_path / "audio_encoders"
    extra.mkdir()
    table = {**comfy.folder_paths.folder_names_and_paths, "audio_encoders": ([str(extra)], {".safetensors"})}
    monkeypatch.setattr(comfy.folder_paths, "folder_names_and_paths", table)
    without = host.folders.model_fingerprint("tiny/style")
    (extra / "MERT-v1-95M").mkdir()
    assert len({before, without, host.folders.model_fingerprint("tiny/style")}) == 3


def test_the_widgets_hold_the_range_of_the_released_model(node_list):
    (node,) = (node for node in node_list if node.GET_SCHEMA().node_id == "MusicGenStyle")
    inputs = {part.id: part for part in node.GET_SCHEMA().inputs}
    assert (inputs["excerpt_length"].min, inputs["excerpt_length"].default, inputs["excerpt_length"].max) == (
        1.5,
        3,
        4.5,
    )
    assert (inputs["eval_q"].min, inputs["eval_q"].default, inputs["eval_q"].max) == (1, 3, 6)
    assert "CC-BY-NC 4.0" in node.GET_SCHEMA().description
