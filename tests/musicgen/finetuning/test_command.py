"""The program: a file becomes a LoRA or a model folder, by one process or two; bad files are told in a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from musicgen import load_model, read_lora
from musicgen.finetuning.__main__ import main
from tests.conftest import GOLDEN, PROMPTS, ROOT

BASE = GOLDEN / "checkpoints" / "hf-text"
RECIPE = {"steps": 3, "learning_rate": 0.01, "warmup": 1, "batch": 2, "seconds": 1.0, "rank": 4, "drop_text": 0.0}


@pytest.fixture
def order(songs, tmp_path):
    """Write a file that orders a training; keywords change it."""

    def write(recipe=RECIPE, **changes):
        values = {"model": str(BASE), "songs": str(songs), "out": str(tmp_path / "out"), "held_out": 0.25}
        path = tmp_path / "order.json"
        path.write_text(json.dumps({**values, "recipe": recipe, **changes}), encoding="utf-8")
        return path

    return write


def test_a_file_becomes_a_lora(order, tmp_path, capsys):
    assert main([str(order(trigger="kalo"))]) == 0
    said = capsys.readouterr().out
    assert said.startswith("4 songs, 0.3 min, 2 captions") and "3 steps, loss" in said
    lora = read_lora(tmp_path / "out", load_model(BASE).config)
    assert lora.warnings == () and lora.unmatched == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["order.json", "out", "out.encodings"]
    assert main([str(order())]) == 1 and "exists; name another folder as out" in capsys.readouterr().err


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TOML is read from Python 3.11 on")
def test_toml_is_read_too(order, tmp_path, capsys):
    text = f'model = "{BASE}"\nsongs = "{tmp_path}"\nout = "{tmp_path / "out"}"\n[recipe]\nsteps = 3\n'
    (tmp_path / "order.toml").write_text(text, encoding="utf-8")
    assert main([str(tmp_path / "order.toml")]) == 1
    assert "holds no sound; allowed are files that end in" in capsys.readouterr().err


def test_a_whole_model_becomes_a_folder_that_the_loader_and_transformers_read(order, tmp_path):
    from transformers import MusicgenForConditionalGeneration

    assert main([str(order({**RECIPE, "full": True, "ema": 0.5, "learning_rate": 0.001}))]) == 0
    ours, base = load_model(tmp_path / "out"), load_model(BASE)
    changed = ours.lm.state_dict()
    assert all(not torch.equal(weight, changed[name]) for name, weight in base.lm.state_dict().items())
    theirs = MusicgenForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    weight = theirs.decoder.model.decoder.layers[1].fc1.weight
    assert torch.equal(changed["transformer.layers.1.ffn_in.weight"], weight)
    codes = ours.codec.encode(torch.randn(1, 1, 3200, generator=torch.Generator().manual_seed(0)), 32000)
    assert ours.codec.fingerprint == base.codec.fingerprint and codes.shape[2] == 5
    assert torch.equal(ours.text_encoder.encode([PROMPTS[0]]).states, base.text_encoder.encode([PROMPTS[0]]).states)


def test_a_whole_model_of_another_layout_becomes_one_file(songs, tmp_path):
    from musicgen.finetuning.model_folder import save_model

    base = load_model(GOLDEN / "checkpoints" / "audiocraft-text", search=[GOLDEN / "checkpoints"])
    state = {name: weight + 0.25 for name, weight in base.lm.state_dict().items()}
    out = save_model(base, GOLDEN / "checkpoints" / "audiocraft-text", state, tmp_path / "mine")
    read = load_model(out / "model.safetensors").lm.state_dict()
    assert all(torch.allclose(read[name], weight) for name, weight in state.items())


def test_two_processes_train_one_model_together(order, tmp_path):
    recipe = {**RECIPE, "full": True, "learning_rate": 0.001}
    assert main([str(order(recipe, out=str(tmp_path / "one")))]) == 0
    path = order({**recipe, "batch": 1}, out=str(tmp_path / "two"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, "musicgen.finetuning", str(path)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_model(tmp_path / name).lm.state_dict() for name in ("one", "two"))
    start = load_model(BASE).lm.state_dict()
    moves = [torch.cat([(each[name] - start[name]).flatten() for name in start]) for each in (one, two)]
    # They draw other parts of the same pieces, so the weights move the same way and not equally far.
    assert float(torch.cosine_similarity(moves[0], moves[1], dim=0)) > 0.5
    assert done.stdout.count("3 steps, loss") == 1  # one of them tells and writes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, "has unknown keys: colour; allowed are"),
        ({"recipe": {"speed": 3}}, "has unknown keys: speed; allowed are"),
        ({"recipe": {"rank": 64}}, "rank is 64; allowed is 1 to 48"),
        ({"recipe": {"learning_rate": 0}}, "learning rate is 0; allowed is a number above 0"),
        ({"songs": "nowhere"}, "nowhere is no folder; give one that holds files of sound"),
        ({"model": "nowhere"}, "nowhere"),
    ],
)
def test_a_bad_file_is_told_in_a_sentence_and_nothing_is_written(order, tmp_path, capsys, changes, words):
    assert main([str(order(**changes))]) == 1
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".musicgen*"))


def test_a_file_that_is_not_there_or_damaged_is_told(tmp_path, capsys):
    assert main([str(tmp_path / "no.toml")]) == 1
    assert "does not exist; give a .toml or .json file" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    assert main([str(tmp_path / "bad.json")]) == 1
    assert "cannot be read" in capsys.readouterr().err
