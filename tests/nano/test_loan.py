"""Training within a given time on a lent machine, in miniature on a processor."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from musicgen import GenerationParams, load_model
from nano import loan, recipes
from nano.corpus.bank import NEEDED, bank_folder, open_bank, sound_font


def test_trainings_get_their_shares_of_the_time():
    plan = loan.large({"codec": 0.1, "decoder": 0.05, "text": 0.2, "melody": 0.2}, 10.0, recipes.NANO)
    assert plan.codec_recipe.steps * 0.1 == pytest.approx(0.85 * 600 * loan.SHARES["codec"], rel=0.02)
    assert plan.decoder_recipe.steps * 0.05 == pytest.approx(0.85 * 600 * loan.SHARES["decoder"], rel=0.02)
    assert sum(each.steps for each in plan.lm_recipes["text"]) * 0.2 == pytest.approx(0.85 * 600 * 0.45, rel=0.02)
    courses, before = plan.lm_recipes["text"], recipes.NANO.lm_recipes["text"]
    assert courses[0].steps / courses[1].steps == pytest.approx(before[0].steps / before[1].steps, rel=0.02)
    assert all(course.stop is None for course in courses) and plan.codec == recipes.NANO.codec


def test_a_wider_model_keeps_the_size_of_its_heads():
    config = loan.wider(recipes.NANO.lms["text"], 256, 6)
    assert (config.num_heads, config.ffn_dim, config.num_layers) == (8, 1024, 6)


def test_a_bank_survives_its_journey(tmp_path, monkeypatch):
    if sound_font() is None:
        pytest.skip(NEEDED)
    pytest.importorskip("soundfile")
    open_bank()
    notes = np.load(bank_folder() / "notes.npy", mmap_mode="r")
    loan.pack_bank(tmp_path / "bank.zip")
    assert (tmp_path / "bank.zip").stat().st_size < 60_000_000
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loan.unpack_bank(tmp_path / "bank.zip")
    there = np.load(bank_folder() / "notes.npy")
    assert np.abs(there.astype(np.float32) - notes).max() < 2e-3
    assert json.loads((bank_folder() / "notes.json").read_text())


def test_a_loan_brings_whole_models_back(tmp_path, monkeypatch):
    if sound_font() is None:
        pytest.skip(NEEDED)
    monkeypatch.setattr(loan, "PART", 100_000)
    threads = torch.get_num_threads()
    short = replace(recipes.MINIATURE, judge_every=1000)
    monkeypatch.setattr(recipes, "MINIATURE", short)
    folders = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    loan.main(["--miniature", "--minutes", "0.05", "--device", "cpu", *folders])
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    parts = sorted((tmp_path / "out").glob("weights.zip.*"))
    assert len(parts) > 1 and all(part.stat().st_size <= 100_000 for part in parts)
    with zipfile.ZipFile(io.BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
        archive.extractall(tmp_path / "brought")
    for name in ("musicgen-nano", "musicgen-nano-melody"):
        codes = load_model(tmp_path / "brought" / "models" / name).generate(["drums"], GenerationParams(duration=0.4))
        assert codes.shape[:2] == (1, 4)
    assert set(json.loads((tmp_path / "out" / "seconds_a_step.json").read_text())) == set(loan.SHARES)
