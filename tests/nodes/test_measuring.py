"""MusicGen Measure beside the library's own functions, and a sentence for each bad input."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.musicgen.evaluation.small import write_clap
from tests.nodes.conftest import sound


@pytest.fixture
def measure(run):
    return lambda **inputs: run("Measure", **({"embedding": "auto", "number": "pulse"} | inputs))


def test_a_batch_is_ranked_by_its_nearness_to_a_reference(measure, load):
    codec = load("text").codec
    figures, scores, ranking, image = measure(
        audio=sound(1.5, batch=3), number="fad", codec=codec, reference=sound(1.5, pitch=660.0)
    )
    # The second tone of the batch is the reference itself.
    assert len(scores) == 3 and scores[1] == min(scores) and scores[1] < 1e-3
    assert ranking.split(", ")[0] == "2" and sorted(ranking.split(", ")) == ["1", "2", "3"]
    lines = figures.splitlines()
    assert "fad (encodec)" in lines[0] and "chroma cosine" in lines[0] and lines[2].startswith("item 2: ")
    assert image.shape == (1, 512, 512, 3) and len(image.flatten(0, 2).unique(dim=0)) >= 5


def test_without_a_reference_and_models_the_pulse_and_health_are_measured(measure):
    loud = sound(2.0, rate=16000, channels=2, batch=2)
    loud["waveform"] = 3 * loud["waveform"]
    figures, scores, ranking, _ = measure(audio=loud)
    assert "silent 0.000" in figures and "beyond full scale 1.000" in figures
    assert len(scores) == 2 and sorted(ranking.split(", ")) == ["1", "2"]
    assert not loud["waveform"].is_inference()


def test_the_clap_score_comes_from_weights_in_the_hosts_folder(measure, comfy, monkeypatch, tmp_path):
    write_clap(tmp_path / "clap")
    monkeypatch.setitem(
        comfy.folder_paths.folder_names_and_paths, "audio_encoders", ([str(tmp_path)], {".safetensors"})
    )
    figures, scores, _, _ = measure(
        audio=sound(1.0, batch=2), number="CLAP score", caption="a flute", reference=sound(1)
    )
    from musicgen.evaluation import Clap

    wave = sound(1.0, batch=2)["waveform"].mean(dim=1)
    expected = Clap(tmp_path / "clap").score(wave, 32000, ["a flute", "a flute"])
    assert scores == pytest.approx(expected.tolist(), abs=1e-5)
    assert "CLAP score" in figures and "likeness" in figures
    shutil.rmtree(tmp_path / "clap")
    figures, *_ = measure(audio=sound(1.0), caption="a flute")
    assert "no CLAP score: clap needs weights" in figures


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"number": "fad"}, "fad was not measured; allowed are pulse"),
        ({"embedding": "encodec"}, "no codec is connected"),
        ({"embedding": "vggish"}, "put vggish-10086976.pth"),
        ({"number": "CLAP score", "caption": "x"}, "clap needs weights"),
        ({"audio": {"waveform": torch.zeros(1, 1, 0), "sample_rate": 32000}}, "is empty"),
        ({"reference": None, "audio": None}, "the audio is None"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(measure, inputs, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        measure(**({"audio": sound(1.0)} | inputs))
