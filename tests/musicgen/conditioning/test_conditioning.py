"""Text and melody before the language model sees them."""

from __future__ import annotations

import math
import shutil

import pytest
import torch

from musicgen.conditioning.condition import TextCondition
from musicgen.conditioning.melody import extract_melody, fit_length, null_chroma
from musicgen.conditioning.text import TextEncoder
from musicgen.conditioning.tokenizer import load_tokenizer, unknown_parts
from musicgen.config import RELEASED_CHROMA, ChromaConfig
from tests.conftest import GOLDEN, golden_model, golden_tensors

NOTES = {"C": 261.626, "E": 329.628, "A": 440.0, "B": 493.883}


def tone(frequency: float, seconds: float = 1.0, rate: int = 32000) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency * torch.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize(("note", "row"), [("C", 0), ("E", 4), ("A", 9), ("B", 11)])
@pytest.mark.parametrize("rate", [32000, 44100, 22050])
def test_a_tone_lands_on_its_pitch_class_whatever_the_sample_rate(note, row, rate):
    chroma = extract_melody(tone(NOTES[note], rate=rate), rate).chroma
    assert chroma.argmax(1)[1:-1].unique().tolist() == [row]


def test_an_octave_up_is_the_same_pitch_class():
    low, high = (extract_melody(tone(f), 32000).chroma for f in (220.0, 880.0))
    assert torch.equal(low.argmax(1), high.argmax(1))


def test_silence_is_c_and_so_is_no_melody():
    silent = extract_melody(torch.zeros(32000), 32000).chroma
    assert silent.argmax(1).unique().tolist() == [0]
    null = null_chroma(RELEASED_CHROMA)
    assert null.shape == (235, 12) and torch.equal(null, fit_length(silent, 235))


def test_frames_are_one_more_than_whole_hops_and_thirty_seconds_make_235():
    assert extract_melody(torch.zeros(30 * 32000), 32000).chroma.shape == (235, 12)
    assert extract_melody(torch.zeros(1), 32000).chroma.shape == (5, 12)


def test_a_short_melody_is_repeated_whole_and_a_long_one_cut():
    chroma = torch.eye(12)[:3]
    assert fit_length(chroma, 7).argmax(1).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert fit_length(chroma, 2).argmax(1).tolist() == [0, 1]


def test_a_window_past_the_end_goes_on_from_the_start():
    wave = torch.cat([tone(NOTES["A"], 2.0), tone(NOTES["C"], 2.0)])
    melody = extract_melody(wave, 32000)
    window = melody.window(3 * 32000, 2 * 32000, 16).argmax(1).tolist()
    assert window[2] == 0 and window[-3] == 9


def test_a_melody_is_recomputed_for_a_model_with_another_chroma():
    other = ChromaConfig(16000, 4096, 1024, 12, 100)
    melody = extract_melody(tone(NOTES["E"]), 32000)
    assert melody.for_config(RELEASED_CHROMA) is melody
    again = melody.for_config(other)
    assert again.sample_rate == 16000 and again.chroma.shape == (1 + 16000 // 1024, 12)
    assert again.chroma.argmax(1)[2:-2].unique().tolist() == [4]


def test_a_stereo_melody_is_its_mean():
    left, right = tone(NOTES["A"]), torch.zeros(32000)
    assert torch.equal(extract_melody(torch.stack([left, right]), 32000).chroma, extract_melody(left / 2, 32000).chroma)


def test_no_text_is_the_null_condition_and_neither_is_white_space(model):
    condition = model("hf-text").text_encoder.encode([None, "", " ", "\n\t \u3000\u200b", "rock"])
    assert [bool(row.any()) for row in condition.mask] == [False, False, False, False, True]
    assert condition.row(0) is None and condition.row(4).shape == (2, 32)


PIANO, DRUMS, MINOR = "\u94a2\u7434", "\u9f13", "\u0438-\u043c\u0438\u043d\u043e\u0440"


@pytest.mark.parametrize("text", [PIANO, DRUMS, MINOR, f"{PIANO} {DRUMS}", "\u2615\u2615", f"{PIANO}, {DRUMS}!"])
def test_a_description_that_the_tokenizer_does_not_know_at_all_is_told_in_the_log(text, caplog):
    encoder = golden_model("hf-text").text_encoder
    (warning,) = encoder.warnings([text])
    assert warning.startswith(f"the text encoder cannot read the description {text!r}: its tokenizer knows none of it")
    encoder.encode([text, "calm piano", text])
    assert [record.getMessage() for record in caplog.records] == [warning]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"calm {PIANO} and {DRUMS}", f"{PIANO!r}, {DRUMS!r}"),
        ("calm caf\xe9 music", "'caf\xe9'"),
        (" ".join(chr(0x4E00 + index) for index in range(8)) + " calm", "and 3 more"),
    ],
)
def test_words_that_the_tokenizer_does_not_know_are_named(text, words):
    (warning,) = golden_model("hf-text").text_encoder.warnings([text])
    assert words in warning and "which its tokenizer does not know; use other words" in warning


@pytest.mark.parametrize(
    "text", ["calm piano", "", None, " ", "calm\npiano", "\u2615 calm piano", "soft drums, a rock piano"]
)
def test_of_a_description_that_the_tokenizer_knows_nothing_is_said(text, caplog):
    encoder = golden_model("hf-text").text_encoder
    assert encoder.warnings([text]) == []
    encoder.encode([text])
    assert not caplog.records


def test_a_spiece_model_names_the_same_unknown_parts(tmp_path):
    shutil.copy(GOLDEN / "spiece.model", tmp_path)
    assert unknown_parts(load_tokenizer(tmp_path), f"calm {PIANO} calm {DRUMS}") == [PIANO, DRUMS]
    assert unknown_parts(load_tokenizer(tmp_path), "calm") == []


def test_padding_does_not_change_a_text(model):
    encoder = model("hf-text").text_encoder
    together = encoder.encode(["rock", "a calm piano melody with soft drums"])
    torch.testing.assert_close(together.row(0), encoder.encode(["rock"]).row(0), atol=1e-5, rtol=0)


def test_spiece_model_alone_gives_the_ids_of_tokenizer_json(tmp_path):
    shutil.copy(GOLDEN / "spiece.model", tmp_path)
    texts = ["a calm piano melody with soft drums", "rock", "", "  two  spaces, Caps & 80's!"]
    alone = load_tokenizer(tmp_path)(texts, return_tensors="pt", padding=True)
    whole = load_tokenizer(GOLDEN / "checkpoints" / "hf-text")(texts, return_tensors="pt", padding=True)
    assert torch.equal(alone["input_ids"], whole["input_ids"])
    assert torch.equal(alone["attention_mask"], whole["attention_mask"])
    assert torch.equal(alone["input_ids"][:1, :8], golden_tensors("text")["p0.input_ids"].long())


def test_a_spiece_model_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"no model")
    with pytest.raises(ValueError, match="cannot be read"):
        load_tokenizer(tmp_path)


def test_long_texts_are_not_cut(model):
    encoder = model("hf-text").text_encoder
    assert encoder.encode(["piano " * 400]).states.shape[1] > 400


def test_the_text_encoder_refuses_float16(model):
    m = model("hf-text")
    with pytest.raises(ValueError, match="float32 and bfloat16"):
        TextEncoder(m.config.text_encoder, m.text_encoder.tokenizer, torch.float16)


def test_a_condition_whose_mask_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\[B, n, C\] and \[B, n\]"):
        TextCondition(torch.zeros(1, 4, 32), torch.ones(1, 3, dtype=torch.bool))
