"""Native CONDITIONING: what the text node makes, what core nodes make of it, how the sampler reads it."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from .conftest import owns_memory, sound


@pytest.fixture
def read(inputs, load):
    """Read CONDITIONING as the sampler of a tiny model does."""
    return lambda conditioning, name="text": inputs.read_conditioning(conditioning, load(name).model, 1)


def test_a_description_becomes_raw_states_and_their_mask(encode, load):
    ((states, extra),) = encode("a slow blues with slide guitar")
    assert states.shape[0] == 1 and states.shape[2] == load("text").model.config.lm.text_dim
    assert states.dtype == torch.float32 and owns_memory(states)
    assert extra["pooled_output"] is None
    assert extra["attention_mask"].tolist() == [[1] * states.shape[1]]


def test_an_empty_description_is_the_null_condition(encode, read):
    (condition,) = read(encode(""))
    assert not condition.mask.any()


@pytest.mark.parametrize("text", [" ", "\n\t ", "\u3000"])
def test_nothing_but_white_space_is_no_description(encode, read, text):
    assert not read(encode(text))[0].mask.any()
    assert torch.equal(encode(text)[0][0], encode("")[0][0])


def test_words_that_the_text_encoder_does_not_know_are_told_on_the_node(encode, comfy, monkeypatch):
    said = []
    server = SimpleNamespace(send_progress_text=lambda text, node_id: said.append((text, node_id)))
    monkeypatch.setattr(comfy.server.PromptServer, "instance", server, raising=False)
    encode("folk")
    assert said == []
    encode("\u94a2\u7434")
    ((text, node_id),) = said
    assert "cannot read" in text and "\u94a2\u7434" in text and node_id == "7"


def test_a_description_counts_in_every_row(encode, read):
    (condition,) = read(encode("jazz"))
    assert condition.mask.all()
    assert (condition.strength, condition.start, condition.end) == (1.0, 0.0, 1.0)


def test_an_empty_description_adds_nothing_where_core_nodes_forget_its_mask(comfy, encode, read):
    """Joined to another text it is no text, and blended with one it is what Zero Out is."""
    rock, empty = encode("rock"), encode("")
    assert not empty[0][0].any()
    (joined,) = comfy.core.ConditioningConcat().concat(rock, empty)
    assert torch.equal(read(joined)[0].row(0), read(rock)[0].row(0))
    (zeroed,) = comfy.core.ConditioningZeroOut().zero_out(rock)
    blends = [comfy.core.ConditioningAverage().addWeighted(rock, other, 0.5)[0] for other in (empty, zeroed)]
    assert torch.equal(read(blends[0])[0].row(0), read(blends[1])[0].row(0))


def test_combine_gives_two_conditions(comfy, encode, read):
    (both,) = comfy.core.ConditioningCombine().combine(encode("jazz"), encode("a much longer description of folk"))
    assert [c.mask.shape[1] for c in read(both)] == [encode("jazz")[0][0].shape[1], both[1][0].shape[1]]


def test_concat_counts_the_rows_that_its_mask_does_not_know(comfy, encode, read):
    first, second = encode("jazz"), encode("folk with a fiddle")
    (joined,) = comfy.core.ConditioningConcat().concat(first, second)
    assert joined[0][1]["attention_mask"].shape[1] == first[0][0].shape[1] < joined[0][0].shape[1]
    (condition,) = read(joined)
    assert condition.mask.all() and condition.mask.shape[1] == first[0][0].shape[1] + second[0][0].shape[1]


def test_average_blends_the_states(comfy, encode, read):
    first, second = encode("jazz piano trio"), encode("folk")
    (blend,) = comfy.core.ConditioningAverage().addWeighted(first, second, 0.5)
    (condition,) = read(blend)
    assert condition.states.shape == first[0][0].shape and condition.mask.all()
    assert not torch.equal(condition.states, first[0][0])


def test_zero_out_is_the_null_condition(comfy, encode, read):
    (zeroed,) = comfy.core.ConditioningZeroOut().zero_out(encode("jazz"))
    assert zeroed[0][1]["attention_mask"].any()
    assert not read(zeroed)[0].mask.any()


def test_a_timestep_range_becomes_a_share_of_the_piece(comfy, encode, read):
    (ranged,) = comfy.core.ConditioningSetTimestepRange().set_range(encode("jazz"), 0.25, 0.5)
    assert (read(ranged)[0].start, read(ranged)[0].end) == (0.25, 0.5)


def test_the_strength_of_an_area_node_is_a_weight(comfy, encode, read):
    (weak,) = comfy.core.ConditioningSetAreaStrength().append(encode("jazz"), 0.25)
    assert read(weak)[0].strength == 0.25


def test_rows_of_zero_padding_do_not_count_even_without_a_mask(read):
    states = torch.randn(1, 6, 32)
    states[:, 4:] = 0
    assert read([[states, {"pooled_output": None}]])[0].mask.tolist() == [[True] * 4 + [False] * 2]


def test_half_precision_and_strange_keys_are_taken(read):
    states = torch.randn(1, 3, 32).half()
    (condition,) = read([[states, {"attention_mask": torch.ones(1, 3), "area": (1, 2, 3, 4), "unheard_of": object()}]])
    assert condition.states.dtype == torch.float32


@pytest.mark.parametrize("shape", [(1, 77, 768), (77, 32), (1, 2, 3, 32)])
def test_conditioning_of_another_encoder_is_refused_with_the_node_to_use(read, shape):
    with pytest.raises(ValueError, match="MusicGenTextEncode") as refused:
        read([[torch.randn(shape), {}]])
    assert str(list(shape)) in str(refused.value) and "[1, tokens, 32]" in str(refused.value)


@pytest.mark.parametrize(
    ("conditioning", "sentence"),
    [
        ("jazz", r"this conditioning is 'jazz' \(str\); allowed is a list of \[states, options\]"),
        (None, "this conditioning is None"),
        (torch.zeros(1, 3, 32), "this conditioning is tensor"),
        ({"states": 1}, "this conditioning is {'states': 1}"),
        (["jazz"], "this conditioning holds 'jazz'"),
        ([[torch.zeros(1, 3, 32)]], "this conditioning holds .tensor"),
        ([[torch.zeros(1, 3, 32), None]], "this conditioning holds .tensor"),
        ([["states", {}]], "this conditioning holds .'states'"),
        ([[torch.zeros(1, 0, 32), {}]], r"shape \[1, 0, 32\]"),
        ([[torch.full((1, 3, 32), float("nan")), {}]], "NaN or infinite"),
        ([[torch.ones(1, 3, 32), {"attention_mask": "all"}]], "'all' .str. as its attention_mask; allowed is a tensor"),
        ([[torch.ones(1, 3, 32), {"attention_mask": torch.ones(2, 3)}]], "as its attention_mask; allowed"),
        ([[torch.ones(1, 3, 32), {"strength": "strong"}]], "'strong' .str. as its strength; allowed is a number"),
    ],
)
def test_conditioning_of_another_kind_is_refused_in_a_sentence(read, conditioning, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        read(conditioning)
    assert "\n" not in str(refused.value)


def test_a_batch_that_does_not_fit_is_refused(read):
    with pytest.raises(ValueError, match="a batch of 3"):
        read([[torch.randn(3, 5, 32), {}]])


def test_reading_leaves_the_conditioning_as_it_was(encode, read):
    conditioning = encode("jazz")
    before = copy.deepcopy(conditioning)
    read(conditioning)
    assert torch.equal(conditioning[0][0], before[0][0])
    assert torch.equal(conditioning[0][1]["attention_mask"], before[0][1]["attention_mask"])
    assert conditioning[0][1].keys() == before[0][1].keys()


def test_a_melody_node_gives_one_melody_and_picture_per_item(run):
    melody, picture = run("MelodyChroma", audio=sound(2.0, rate=16000, channels=2, batch=3))
    assert len(melody.items) == 3
    assert all(owns_memory(item.chroma) and owns_memory(item.waveform) for item in melody.items)
    assert picture.shape[0] == 3 and picture.shape[3] == 3
    assert 0 <= picture.min() and picture.max() <= 1 and picture.dtype == torch.float32 and owns_memory(picture)


def test_the_melody_of_an_a_is_an_a(run):
    melody, _ = run("MelodyChroma", audio=sound(2.0, pitch=440.0))
    assert set(melody.items[0].chroma.argmax(dim=1).tolist()) == {9}
