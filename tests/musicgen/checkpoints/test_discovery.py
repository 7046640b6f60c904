"""Which models a folder holds, told by names alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from musicgen.checkpoints.discovery import find_models
from tests.tiny import write_mert


@pytest.fixture
def lay(tmp_path):
    """Make empty files under a models folder and give the folder."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "models" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "models"

    return make


def test_folders_of_either_layout_and_single_files_are_models_at_any_depth(lay):
    root = lay("small/config.json", "meta/style/state_dict.bin", "tunes/deep/mine.safetensors", "Top.SafeTensors")
    assert find_models(root) == {
        "meta/style": root / "meta" / "style",
        "small": root / "small",
        "Top.SafeTensors": root / "Top.SafeTensors",
        "tunes/deep/mine.safetensors": root / "tunes" / "deep" / "mine.safetensors",
    }


def test_a_folder_with_both_layouts_is_one_model(lay):
    root = lay("both/config.json", "both/model.safetensors", "both/state_dict.bin", "both/compression_state_dict.bin")
    assert list(find_models(root)) == ["both"]


def test_what_lies_in_a_model_folder_is_no_model_of_its_own(lay):
    root = lay(
        "m/config.json",
        "m/model-00001-of-00002.safetensors",
        "m/model-00002-of-00002.safetensors",
        "m/t5-base/config.json",
        "m/t5-base/model.safetensors",
        "m/old/deep/extra.safetensors",
    )
    assert list(find_models(root)) == ["m"]


@pytest.mark.parametrize("kind", ["t5", "mert_model", "encodec"])
def test_a_folder_of_a_part_that_models_share_is_no_model(lay, kind):
    root = lay("part/model.safetensors", "part/config.json", "small/config.json", "damaged/config.json")
    (root / "part" / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    (root / "small" / "config.json").write_text(json.dumps({"model_type": "musicgen"}), encoding="utf-8")
    (root / "damaged" / "config.json").write_text('{"model_type": ["t5"]}', encoding="utf-8")
    assert list(find_models(root)) == ["damaged", "small"]
    (root / "part" / "state_dict.bin").touch()
    assert list(find_models(root)) == ["damaged", "part", "small"]


def test_mert_in_the_models_folder_is_no_model_and_neither_are_its_files(tmp_path):
    write_mert(tmp_path / "MERT-v1-95M")
    (tmp_path / "MERT-v1-95M" / "model.safetensors").touch()
    assert find_models(tmp_path) == {}


def test_the_models_folder_is_not_a_model_itself(lay):
    assert list(find_models(lay("config.json", "one.safetensors", "small/config.json"))) == ["one.safetensors", "small"]


def test_hidden_folders_and_files_and_other_files_are_passed_over(lay):
    root = lay(".downloads/small/config.json", "a/.cache/x.safetensors", ".y.safetensors.7.part", ".z.safetensors",
               "readme.md", "x.bin", "folder.safetensors/readme.md")  # fmt: skip
    assert find_models(root) == {}


def test_names_that_differ_in_case_alone_are_two_models(lay):
    root = lay("Small/config.json", "small/config.json")
    if len(os.listdir(root)) == 1:
        pytest.skip("this file system does not tell cases apart")
    assert list(find_models(root)) == ["Small", "small"]


def test_links_are_followed_and_loops_are_cut(lay, tmp_path):
    root = lay("family/small/config.json", "other/one.safetensors")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").touch()
    (root / "linked").symlink_to(outside, target_is_directory=True)
    (root / "again").symlink_to(root / "family", target_is_directory=True)
    (root / "family" / "up").symlink_to(root, target_is_directory=True)
    (root / "family" / "self").symlink_to(root / "family", target_is_directory=True)
    (root / "nowhere").symlink_to(tmp_path / "gone", target_is_directory=True)
    (root / "gone.safetensors").symlink_to(tmp_path / "gone.safetensors")
    (root / "file.safetensors").symlink_to(root / "other" / "one.safetensors")
    assert list(find_models(root)) == [
        "again/small", "family/small", "file.safetensors", "linked", "other/one.safetensors"
    ]  # fmt: skip


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert find_models(tmp_path / "nowhere") == {}
