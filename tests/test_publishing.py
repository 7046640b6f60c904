"""The registry's view of the pack: the archive, the addresses, the pictures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from PIL import Image

from dev import publish
from dev.pack import shipped_files, write_archive
from dev.pictures import BANNER, ICON
from dev.setup import HOST_SOURCES
from tests.conftest import ROOT
from tests.pyproject import oldest_comfyui, value_of

needs_git = pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="needs the repository")


@needs_git
def test_the_archive_holds_the_pack_and_no_code_that_starts_processes():
    shipped = set(shipped_files())
    assert {"__init__.py", "LICENSE", "README.md", "pyproject.toml", "requirements.txt"} <= shipped
    folders = {name.partition("/")[0] for name in shipped if "/" in name}
    assert not folders & {"benchmarks", "dev", "docs", "nano", "tests"}
    needed = ("locales", "models", "musicgen", "nodes", "songs", "subgraphs", "web", "workflows")
    assert folders == {name for name in needed if (ROOT / name).is_dir()}
    for folder in folders:
        tracked = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True)
        assert set(tracked.stdout.splitlines()) <= shipped, folder
    for name in shipped:
        if name.endswith(".py"):
            assert "subprocess" not in (ROOT / name).read_text(encoding="utf-8"), name


@needs_git
def test_the_archive_stays_under_fifteen_megabytes(tmp_path):
    write_archive(tmp_path / "pack.zip")
    assert (tmp_path / "pack.zip").stat().st_size < 15e6
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        assert archive.testzip() is None and archive.namelist() == shipped_files()


def test_pyproject_has_everything_that_the_registry_shows():
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,99}", value_of("name")) and "comfyui" not in value_of("name")
    assert re.fullmatch(r"\d+\.\d+\.\d+", value_of("version"))
    assert oldest_comfyui() in HOST_SOURCES
    assert value_of("DisplayName") and value_of("description") and (ROOT / "LICENSE").is_file()
    for key in ("Repository", "Documentation", "Bug Tracker", "Icon", "Banner"):
        assert value_of(key).startswith(publish.PLACEHOLDER)
    listed = re.findall(r'"(?:Environment|Operating System) :: ([^"]*)"', (ROOT / "pyproject.toml").read_text())
    # One value that the registry does not know would void all of them.
    assert set(listed) == {"OS Independent", "GPU :: NVIDIA CUDA", "GPU :: AMD ROCm", "GPU :: Apple Metal"}


@pytest.mark.parametrize(("key", "size"), [("Icon", ICON), ("Banner", BANNER)])
def test_icon_and_banner_are_files_of_the_sizes_that_the_registry_asks_for(key, size):
    name = value_of(key).partition("/raw/main/")[2]
    with Image.open(ROOT / name) as image:
        assert image.size == size
    assert max(ICON) <= 400 and BANNER[0] * 9 == BANNER[1] * 21


def test_the_publish_step_writes_the_address_and_asks_for_the_publisher(tmp_path):
    copy = tmp_path / "pyproject.toml"
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    copy.write_text(text.replace(f'PublisherId = "{value_of("PublisherId")}"', 'PublisherId = ""'))
    with pytest.raises(ValueError, match="PublisherId in pyproject.toml is empty"):
        publish.write_addresses(copy, "https://github.com/somebody/pack")
    copy.write_text(text.replace('PublisherId = ""', 'PublisherId = "somebody"'))
    with pytest.raises(ValueError, match="allowed is one like"):
        publish.write_addresses(copy, "somebody/pack")
    publish.write_addresses(copy, "https://github.com/somebody/pack.git")
    assert "OWNER" not in re.sub(r"#.*", "", copy.read_text())
    assert 'Repository = "https://github.com/somebody/pack"' in copy.read_text()


def test_the_publish_workflow_runs_the_step_before_it_publishes():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8"))
    runs = [step["run"] for step in workflow["jobs"]["publish"]["steps"] if "run" in step]
    order = [next(i for i, run in enumerate(runs) if word in run) for word in ("dev.publish", "validate", "publish --")]
    assert order == sorted(order)


def test_the_code_passes_the_registry_s_own_check():
    command = [sys.executable, "-m", "ruff", "check", ".", "--select", "S102,S307,E702", "--output-format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == []
