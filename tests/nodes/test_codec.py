"""Sound to tokens and back, and every kind of sound that is refused."""

from __future__ import annotations

from collections import UserDict
from types import SimpleNamespace

import pytest
import torch

from musicgen.loudness import apply_gain, integrated_loudness, peak_db

from .conftest import owns_memory, sound


@pytest.fixture
def decode(run, load):
    return lambda tokens, name="text": run("EnCodecDecode", codec=load(name).codec, tokens=tokens)


@pytest.fixture
def to_tokens(run, load):
    return lambda audio, name="text": run("EnCodecEncode", codec=load(name).codec, audio=audio)


@pytest.mark.parametrize(("name", "channels"), [("text", 1), ("stereo", 2)])
def test_decoding_gives_float32_sound_on_the_cpu(encode, sample, decode, load, name, channels):
    tokens = sample(encode("jazz", name), name, batch_size=2)
    audio = decode(tokens, name)
    assert audio["waveform"].shape == (2, channels, 16000) and audio["sample_rate"] == 32000
    assert audio["waveform"].dtype == torch.float32 and owns_memory(audio["waveform"])
    assert torch.isfinite(audio["waveform"]).all()


def test_each_item_decodes_as_it_does_alone(encode, sample, decode):
    tokens = sample(encode("jazz"), batch_size=3)
    together = decode(tokens)["waveform"]
    for item in range(3):
        alone = decode({**tokens, "codes": tokens["codes"][item : item + 1]})["waveform"]
        assert torch.equal(alone[0], together[item])


class TestLevel:
    """Three items: one that would clip, one at its own level, silence."""

    @pytest.fixture
    def levels(self, load, monkeypatch):
        """Decoding gives tones with these peaks in dBFS."""
        module = load("text").codec.patcher.model
        peaks = iter([2.0, -6.0, -300.0])

        def decode(codes, num_samples, on_progress):
            wave = torch.sin(torch.arange(32000 * 2) * 0.2)[None, None]
            return apply_gain(wave / wave.abs().amax(), torch.tensor([next(peaks)]))

        monkeypatch.setattr(module, "decode", decode)

    @pytest.fixture
    def lines(self, comfy, monkeypatch):
        """The lines that nodes show."""
        said = []
        server = SimpleNamespace(send_progress_text=lambda text, node_id: said.append((text, node_id)))
        monkeypatch.setattr(comfy.server.PromptServer, "instance", server, raising=False)
        return said

    @pytest.fixture
    def decoded(self, run, load, encode, sample, levels):
        tokens = sample(encode("jazz"), batch_size=3)
        return lambda **level: run("EnCodecDecode", codec=load("text").codec, tokens=tokens, **level)["waveform"]

    def test_by_default_only_an_item_that_would_clip_is_lowered_and_the_node_says_so(self, decoded, lines):
        peaks = peak_db(decoded())
        assert peaks.tolist() == pytest.approx([-1.0, -6.0, -300.0], abs=1e-3)
        ((text, node_id),) = lines
        assert node_id == "7" and text.startswith("Level: item 1: -3.0 dB") and "item 2:" not in text

    def test_as_it_is_changes_nothing_and_says_nothing(self, decoded, lines):
        assert peak_db(decoded(level="as it is")).tolist() == pytest.approx([2.0, -6.0, -300.0], abs=1e-3)
        assert [text for text, _ in lines if "Level" in text] == []

    def test_to_a_loudness_brings_each_item_there_by_itself(self, decoded, lines):
        audio = decoded(level="to a loudness", loudness=-20.0)
        assert integrated_loudness(audio, 32000)[:2].tolist() == pytest.approx([-20.0, -20.0], abs=0.01)
        ((text, _),) = lines
        assert "item 1: -" in text and "item 2: -" in text and text.count("now -20.0 LUFS") == 2
        assert text.endswith("they begin at 0:00.0, 0:02.5, 0:05.0")

    def test_to_a_loudness_stops_where_the_peak_does(self, decoded, lines):
        audio = decoded(level="to a loudness", loudness=0.0)
        assert peak_db(audio)[:2].tolist() == pytest.approx([-1.0, -1.0], abs=1e-3)


@pytest.mark.parametrize("name", ["text", "stereo"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("rate", "samples"), [(32000, 7001), (44100, 10000), (8000, 1), (48000, 31049)])
def test_a_recording_comes_back_in_its_own_length(to_tokens, decode, name, channels, rate, samples):
    audio = {"waveform": torch.rand(1, channels, samples) - 0.5, "sample_rate": rate}
    tokens = to_tokens(audio, name)
    assert tokens["codes"].dtype == torch.int64 and owns_memory(tokens["codes"])
    assert tokens["num_samples"] == -(-samples * 32000 // rate)
    assert decode(tokens, name)["waveform"].shape[2] == tokens["num_samples"]


def test_each_recording_is_encoded_as_it_is_alone(to_tokens):
    audio = sound(0.4, batch=2)
    together = to_tokens(audio)["codes"]
    for item in range(2):
        alone = to_tokens({**audio, "waveform": audio["waveform"][item : item + 1]})["codes"]
        assert torch.equal(alone[0], together[item])


def test_encoding_leaves_the_sound_as_it_was(to_tokens):
    audio = sound(0.3)
    before = audio["waveform"].clone()
    to_tokens(audio)
    assert torch.equal(audio["waveform"], before)


def test_tokens_of_a_stereo_model_are_refused_by_a_mono_codec(encode, sample, decode):
    tokens = sample(encode("jazz", "stereo"), "stereo")
    with pytest.raises(ValueError, match=r"8 codebooks \(stereo\).*works with 4 \(mono\)"):
        decode(tokens, "text")


def test_tokens_of_another_codec_are_refused(encode, sample, decode):
    with pytest.raises(ValueError, match="belong to the codec of tiny/text, which is not the codec of tiny/melody"):
        decode(sample(encode("jazz")), "melody")


def _silence(*shape: int) -> dict:
    return {"waveform": torch.zeros(shape), "sample_rate": 32000}


def _with_sample(value: float) -> dict:
    audio = sound(0.1)
    audio["waveform"][0, 0, 7] = value
    return audio


REFUSED = {
    "none": (None, "the audio is None"),
    "no samples": (_silence(1, 1, 0), "empty"),
    "no items": (_silence(0, 1, 100), "empty"),
    "nan": (_with_sample(float("nan")), "NaN"),
    "inf": (_with_sample(float("inf")), "infinite"),
    "time before channels": (_silence(1, 3200, 2), "3200 channels of 2 samples; allowed is .batch, channels, samples."),
    "no rate": ({"waveform": torch.zeros(1, 1, 9)}, "the audio holds waveform and has no sample_rate; allowed"),
    "no waveform": ({"sample_rate": 16000}, "the audio holds sample_rate and has no waveform; allowed"),
    "empty": ({}, "the audio holds nothing and has no waveform"),
    "no wave": ({"waveform": None, "sample_rate": 16000}, "has no waveform"),
    "rate of None": ({"waveform": torch.zeros(1, 1, 9), "sample_rate": None}, "has no sample_rate"),
    "rate in words": ({"waveform": torch.zeros(1, 1, 9), "sample_rate": "16 kHz"}, "sample_rate of '16 kHz'"),
    "tuple": ((torch.zeros(1, 1, 9), 16000), "the audio is .*tuple.* and has no waveform"),
    "object": (SimpleNamespace(waveform=torch.zeros(1, 1, 9), sample_rate=9), "the audio is namespace"),
    "path": ("song.wav", "the audio is 'song.wav' .str. and has no waveform"),
    "list": ({"waveform": [[[0.0]]], "sample_rate": 9}, "the audio's waveform is ...0.0... .list.; allowed"),
    "whole numbers as floats": ({"waveform": torch.full((1, 1, 9), 9000.0), "sample_rate": 9}, "divide samples"),
    "no batch": (_silence(1, 3200), r"shape \[1, 3200\]"),
    "70 minutes": ({"waveform": torch.zeros(1).expand(1, 1, 70 * 60 * 8000), "sample_rate": 8000}, "4200 seconds"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("node", ["EnCodecEncode", "MelodyChroma"])
def test_unusable_sound_gives_one_sentence_with_a_way_out(run, load, node, kind):
    audio, sentence = REFUSED[kind]
    extra = {"codec": load("text").codec} if node == "EnCodecEncode" else {}
    with pytest.raises(ValueError, match=sentence) as refused:
        run(node, audio=audio, **extra)
    assert "\n" not in str(refused.value) and any(sign in str(refused.value) for sign in ("allowed", "connect", "give"))


def test_an_array_in_place_of_a_tensor_is_taken(to_tokens):
    audio = sound(0.3)
    array = {**audio, "waveform": audio["waveform"].numpy()}
    assert torch.equal(to_tokens(array)["codes"], to_tokens(audio)["codes"])


def test_a_mapping_that_reads_its_file_only_now_is_taken(to_tokens):
    audio = sound(0.3)
    assert torch.equal(to_tokens(UserDict(audio))["codes"], to_tokens(audio)["codes"])


@pytest.mark.parametrize("node", ["EnCodecEncode", "MelodyChroma"])
def test_surround_sound_is_mixed_down_and_the_node_says_how(run, load, comfy, monkeypatch, node):
    said = []
    server = SimpleNamespace(send_progress_text=lambda text, node_id: said.append((text, node_id)))
    monkeypatch.setattr(comfy.server.PromptServer, "instance", server, raising=False)
    audio = sound(0.5, channels=6)
    run(node, audio=audio, **({"codec": load("text").codec} if node == "EnCodecEncode" else {}))
    assert said == [("5.1 sound was mixed to stereo by ITU-R BS.775.", "7")]


def test_a_melody_is_heard_in_up_to_five_minutes(run):
    audio = {"waveform": torch.zeros(1).expand(1, 1, 301 * 8000), "sample_rate": 8000}
    with pytest.raises(ValueError, match="301 seconds long; allowed are 300 seconds"):
        run("MelodyChroma", audio=audio)


@pytest.mark.parametrize("way", ["EnCodecEncode", "EnCodecDecode"])
def test_coding_moves_the_progress_bar_through_all_items(way, run, load, to_tokens, comfy, monkeypatch):
    codec, audio = load("text").codec, sound(5.0, batch=2)
    given = {"audio": audio} if way == "EnCodecEncode" else {"tokens": to_tokens(audio)}
    bar = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: bar.append((value, total)))
    run(way, codec=codec, **given)
    # ComfyUI passes on only some of what a bar is told.
    assert bar[0] == (100, 500) and bar[-1] == (500, 500) and bar == sorted(bar)


@pytest.mark.parametrize("way", ["EnCodecEncode", "EnCodecDecode"])
def test_coding_stops_between_chunks_when_the_user_cancels(way, run, load, to_tokens, comfy, monkeypatch):
    codec, audio = load("text").codec, sound(5.0)
    given = {"audio": audio} if way == "EnCodecEncode" else {"tokens": to_tokens(audio)}
    bar = []

    def cancel(value, total, *_, **__):
        bar.append(value)
        comfy.management.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", cancel)
    with pytest.raises(comfy.management.InterruptProcessingException):
        run(way, codec=codec, **given)
    assert bar == [100]
