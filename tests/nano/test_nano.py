"""The bundled models: what is asked for in common words is there, and the same codes by transformers.

No probe and no corpus: the measures know nothing of how the models were trained.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from musicgen import GenerationParams, load_model
from musicgen.conditioning.melody import extract_melody
from musicgen.evaluation import chroma_similarity, is_silent, is_stuck, pulse_strength
from nano import outside
from nano.corpus.mixing import hummed
from nano.corpus.notes import Note
from nano.corpus.tunes import TUNES
from tests.conftest import ROOT

RATE, SECONDS, PIECES = 16000, 6.0, 8
TEXT, MELODY = ROOT / "models" / "musicgen-nano", ROOT / "models" / "musicgen-nano-melody"
CAPTION = "rock song with guitar lead, bass guitar and rock drums, 125 bpm, in a minor"
ALONE = "classical piece with a flute melody, without bass, no drums, 107 bpm, in c major"


def tune(name: str, seconds: float = SECONDS, beat_frames: int = 24) -> torch.Tensor:
    """A real tune, hummed around middle C: `[1, L]`."""
    notes = [
        Note(start * beat_frames // 2, length * beat_frames // 2, 60 + pitch)
        for start, length, pitch in TUNES[name].notes
        if pitch is not None
    ]
    samples = round(seconds * RATE)
    return torch.from_numpy(hummed(notes, samples, np.random.Generator(np.random.PCG64(0))))[None]


def play(path, caption: str, **melody) -> tuple[torch.Tensor, torch.Tensor]:
    """Pieces `[N, L]` of one caption and their codes."""
    model = load_model(path)
    codes = model.generate([caption] * PIECES, GenerationParams(duration=SECONDS, cfg_coef=2.0), **melody)
    return model.decode(codes).mean(dim=1), codes


@pytest.fixture(scope="module")
def played():
    """The text model with a band and with a flute alone."""
    return {caption: play(TEXT, caption) for caption in (CAPTION, ALONE)}


def test_drums_are_where_they_are_asked_for_and_have_a_pulse(played):
    pytest.importorskip("librosa")
    shares = {
        caption: np.stack([outside.percussive_shares(piece, RATE) for piece in outside.rows(audio)])
        for caption, (audio, _) in played.items()
    }
    assert np.median(shares[CAPTION]) > 2 * np.median(shares[ALONE])
    assert float(pulse_strength(played[CAPTION][0], RATE).median()) > 0.4


def test_no_piece_is_silent_or_stuck(played):
    for audio, codes in played.values():
        assert not (is_silent(audio) | is_stuck(codes)).any()


def test_the_melody_model_follows_its_melody_and_no_other():
    given, other = tune("Frere Jacques"), tune("Joy to the World")
    audio, _ = play(MELODY, CAPTION, melody=given, melody_sample_rate=RATE)
    right = chroma_similarity(audio, given.expand(PIECES, -1), RATE).mean()
    assert right > chroma_similarity(audio, other.expand(PIECES, -1), RATE).mean() + 0.1


@pytest.mark.parametrize("melody", [False, True], ids=["text", "melody"])
def test_transformers_loads_the_folder_and_gives_the_same_greedy_codes(melody):
    import transformers

    path, frames, heard = (MELODY if melody else TEXT), 40, tune("Frere Jacques")
    ours = load_model(path)
    fixed = ours.config.lm.text_length
    padding = {"padding": "max_length", "max_length": fixed} if fixed else {}
    kind = "MusicgenMelodyForConditionalGeneration" if melody else "MusicgenForConditionalGeneration"
    model = getattr(transformers, kind).from_pretrained(path, dtype=torch.float32)
    inputs = dict(transformers.AutoTokenizer.from_pretrained(path)([CAPTION], return_tensors="pt", **padding))
    if melody:
        inputs["input_features"] = extract_melody(heard, RATE, ours.config.chroma).chroma[None]
    captured = []
    decode = model.audio_encoder.decode
    model.audio_encoder.decode = lambda codes, *args, **kwargs: captured.append(codes) or decode(codes, *args, **kwargs)
    model.generate(**inputs, do_sample=False, guidance_scale=3.0, max_new_tokens=frames + 3)
    params = GenerationParams(duration=frames / 50, use_sampling=False)
    expected = ours.generate([CAPTION], params, melody=heard if melody else None, melody_sample_rate=RATE)
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
