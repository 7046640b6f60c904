"""Where a missing part is looked for, and the sentence that names these places."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from musicgen import load_model, save_checkpoint
from musicgen.checkpoints.parts.search import listed
from musicgen.checkpoints.parts.text import find_text_encoder
from tests.conftest import GOLDEN, ROOT, golden_model


def test_places_are_named_as_far_as_there_is_room():
    few, long = [Path("a"), Path("b")], Path("x" * 300)
    assert listed([]) == "a place given to search"
    assert listed(few) == "a, nor in b"
    assert listed(few * 3) == "a, nor in b, nor in a, nor in b, nor in 2 more places given to search"
    assert listed([Path("a"), long]) == "a, nor in 1 more places given to search"
    assert listed([long]) == "1 places given to search"


@pytest.mark.parametrize("count", [0, 1, 4, 60])
@pytest.mark.parametrize("name", ["t5-base", "t5-" + "x" * 5000])
def test_a_missing_text_encoder_is_told_of_in_a_sentence_however_many_folders_were_searched(tmp_path, count, name):
    beside = tmp_path / ("models" * 10)
    search = [tmp_path / f"a-rather-long-name-of-a-folder-that-a-user-may-have-{n}" for n in range(count)]
    with pytest.raises(FileNotFoundError) as error:
        find_text_encoder(name, 768, beside, search=search)
    message = str(error.value)
    assert len(message) < 700 and message.endswith(".") and "\n" not in message
    assert all(
        word in message for word in (str(beside), name[:80], "config.json, tokenizer.json", *map(str, search[:1]))
    )


def test_a_model_without_its_text_encoder_says_so_in_as_few_words(checkpoint_copy, tmp_path):
    folder = checkpoint_copy("audiocraft-text")
    (folder / "t5-base").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match="needs the text encoder t5-base of width 32") as error:
        load_model(folder, search=[tmp_path / str(n) for n in range(200)])
    assert len(str(error.value)) < 700


def t5_of_a_hugging_face_model(folder):
    shutil.copytree(GOLDEN / "checkpoints" / "hf-text", folder.parent / "other")


def t5_of_a_single_file(folder):
    save_checkpoint(load_model(GOLDEN / "checkpoints" / "hf-text"), folder.parent / "other.safetensors")


def t5_in_another_model_s_folder(folder):
    shutil.copytree(GOLDEN / "checkpoints" / "audiocraft-melody", folder.parent / "other")


@pytest.mark.parametrize("put", [t5_of_a_hugging_face_model, t5_of_a_single_file, t5_in_another_model_s_folder])
@pytest.mark.parametrize("how", ["beside it", "searched", "given"])
def test_a_t5_that_lies_in_another_model_is_found(put, how, checkpoint_copy, tmp_path):
    folder = checkpoint_copy("audiocraft-text")
    shutil.rmtree(folder / "t5-base")
    with pytest.raises(FileNotFoundError, match="nor in another model there"):
        load_model(folder)
    place = folder if how == "beside it" else tmp_path / "models" / "mine"
    place.parent.mkdir(exist_ok=True)
    put(place)
    (other,) = (path for path in place.parent.iterdir() if path.name.startswith("other"))
    given = other / "t5-base" if put is t5_in_another_model_s_folder else other
    found = load_model(
        folder,
        search=[place.parent] if how == "searched" else [],
        text_encoder_from=given if how == "given" else None,
    )
    wanted = load_model(given).text_encoder if given is other else golden_model("audiocraft-melody").text_encoder
    assert torch.equal(found.text_encoder.encode(["calm piano"]).states, wanted.encode(["calm piano"]).states)


def test_a_model_of_another_width_does_not_lend_its_t5(checkpoint_copy, tmp_path):
    folder = checkpoint_copy("audiocraft-text")
    shutil.rmtree(folder / "t5-base")
    shutil.copytree(ROOT / "models" / "musicgen-nano", tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="needs the text encoder t5-base of width 32"):
        load_model(folder)
