"""The bundled models are what their command writes."""

from __future__ import annotations

import pytest
import torch

from musicgen import GenerationParams, load_model
from musicgen.training.untrained import write_untrained
from tests.conftest import ROOT

NAMES = ("musicgen-untrained", "musicgen-untrained-melody")


@pytest.mark.parametrize("name", NAMES)
def test_the_bundled_model_is_written_again_to_the_number(name, tmp_path):
    write_untrained(tmp_path / name, melody=name.endswith("melody"))
    again, bundled = load_model(tmp_path / name), load_model(ROOT / "models" / name)
    for part in ("lm", "text_encoder", "codec"):
        ours, theirs = getattr(again, part).state_dict(), getattr(bundled, part).state_dict()
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, atol=2e-3, rtol=2e-3, msg=f"{part}.{key}")


@pytest.mark.parametrize("name", NAMES)
def test_the_bundled_model_makes_a_sound_that_depends_on_text_and_seed(name):
    m = load_model(ROOT / "models" / name)
    codes = m.generate(["rock", "a calm piano"], GenerationParams(duration=2.0))
    other_seed = m.generate(["rock"], GenerationParams(duration=2.0, seed=9))
    audio = m.decode(codes)
    assert audio.shape == (2, 1, 64000)
    assert 0.02 < float(audio.std()) < 0.5 and float(audio.abs().max()) < 1.0
    assert not torch.equal(codes[0], codes[1]) and not torch.equal(codes[0], other_seed[0])


def test_an_existing_folder_is_not_overwritten(tmp_path):
    with pytest.raises(FileExistsError, match="remove it first"):
        write_untrained(tmp_path, melody=False)
