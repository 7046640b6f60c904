"""What is said of the places where a missing part was looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from musicgen import load_model
from musicgen.checkpoints.parts.search import listed
from musicgen.checkpoints.parts.text import find_text_encoder


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
