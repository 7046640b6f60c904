"""The bundled models: their figures on a few held-out songs, and the same codes by transformers."""

from __future__ import annotations

import shutil

import pytest
import torch

from musicgen import GenerationParams, load_model
from musicgen.conditioning.melody import extract_melody
from musicgen.evaluation import chroma_similarity
from nano import scores as score
from nano.corpus.captions import read_caption
from nano.heldout import Songs, reconstruct, sample
from nano.probes import load_probe
from tests.conftest import ROOT

RATE, SECONDS, CLIPS = 16000, 6.0, 24
TEXT, MELODY = ROOT / "models" / "musicgen-nano", ROOT / "models" / "musicgen-nano-melody"
CAPTION = "rock song with guitar lead, bass guitar and rock drums, 125 bpm, in a minor"


@pytest.fixture(scope="module")
def songs():
    return Songs("test", CLIPS, SECONDS)


def figures(parts) -> dict[str, float]:
    return {figure.name: figure.value for figure in parts}


@pytest.fixture(scope="module")
def sampled(songs):
    """What both models make of the songs' captions, each sampled once, and what the probe hears in it."""
    heard = {}
    for path in (TEXT, MELODY):
        audio, codes = sample(load_model(path), songs, GenerationParams(duration=SECONDS, cfg_coef=2.0))
        heard[path] = audio, codes, score.hear(audio, RATE, load_probe())
    return heard


def test_the_codec_keeps_songs_and_uses_all_its_codes(songs):
    codec = load_model(TEXT).codec
    audio, codes = reconstruct(codec, songs.audio)
    found = figures(score.score_reconstruction(audio, songs.audio, RATE))
    assert found["SI-SNR, dB"] > 8.5 and found["mel L1, dB"] < 7.0
    assert float(chroma_similarity(audio, songs.audio, RATE).mean()) > 0.97
    health = figures(score.score_health(audio, codes, codec.config.card))
    assert all(value > 0.4 for name, value in health.items() if name.startswith("perplexity"))


@pytest.mark.parametrize("path", [TEXT, MELODY], ids=lambda path: path.name)
def test_what_is_sampled_is_what_was_asked_for(songs, sampled, path):
    audio, codes, heard = sampled[path]
    found = figures(score.score_requests(heard, [read_caption(caption) for caption in songs.captions]))
    assert found["drums present or not"] > 0.8 and found["bass present or not"] > 0.8
    assert found["lead instrument, of 8"] > 0.6 and found["energy in key"] > 0.85
    if path == TEXT:
        assert found["pulse where drums were asked"] > 0.4 and found["tempo, of 6, by onsets"] > 0.7
    health = figures(score.score_health(audio, codes, 256))
    assert {value for name, value in health.items() if "clips" in name} == {0.0}


def test_the_melody_model_follows_its_melody_and_no_other(songs, sampled):
    audio = sampled[MELODY][0]
    right = chroma_similarity(audio, songs.melody, RATE).mean()
    wrong = chroma_similarity(audio, torch.roll(songs.melody, -1, 0), RATE).mean()
    assert right > 0.65 and right > wrong + 0.3


@pytest.mark.parametrize("melody", [False, True], ids=["text", "melody"])
def test_transformers_loads_the_folder_and_gives_the_same_greedy_codes(melody, songs):
    import transformers

    path, frames = (MELODY if melody else TEXT), 40
    ours = load_model(path)
    kind = "MusicgenMelodyForConditionalGeneration" if melody else "MusicgenForConditionalGeneration"
    model = getattr(transformers, kind).from_pretrained(path, dtype=torch.float32)
    inputs = dict(transformers.AutoTokenizer.from_pretrained(path)([CAPTION], return_tensors="pt"))
    if melody:
        inputs["input_features"] = extract_melody(songs.melody[:1], RATE, ours.config.chroma).chroma[None]
    captured = []
    decode = model.audio_encoder.decode
    model.audio_encoder.decode = lambda codes, *args, **kwargs: captured.append(codes) or decode(codes, *args, **kwargs)
    model.generate(**inputs, do_sample=False, guidance_scale=3.0, max_new_tokens=frames + 3)
    params = GenerationParams(duration=frames / 50, use_sampling=False)
    expected = ours.generate([CAPTION], params, melody=songs.melody[:1] if melody else None, melody_sample_rate=RATE)
    assert torch.equal(captured[0][0], expected)


def test_a_damaged_model_file_is_named_and_refused(tmp_path):
    folder = shutil.copytree(TEXT, tmp_path / "nano")
    stored = folder / "model.safetensors"
    stored.write_bytes(stored.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_model(folder)
    stored.unlink()
    with pytest.raises(FileNotFoundError, match="safetensors"):
        load_model(folder)
