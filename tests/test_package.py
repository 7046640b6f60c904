"""The library as a package: built into a wheel, and used from it without the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = ("LICENSE", "README.md", "__init__.py", "pyproject.toml", "quickstart.py", "requirements.txt")
FOLDERS = ("benchmarks", "dev", "musicgen", "nano", "nodes", "web")


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the repository, since setuptools builds inside the folder it is given."""
    copy = tmp_path_factory.mktemp("repository")
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    line = "-m pip wheel . --no-deps --no-build-isolation --no-index --disable-pip-version-check -w dist"
    run(sys.executable, *line.split(), cwd=copy)
    (found,) = (copy / "dist").glob("*.whl")
    return found


def test_the_wheel_holds_every_file_of_the_library_and_no_other_package(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    paths = [path for path in (ROOT / "musicgen").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert names == {path.relative_to(ROOT).as_posix() for path in paths}


def test_the_library_makes_sound_from_the_installed_wheel(wheel, tmp_path):
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run(*command, "--target", "installed", str(wheel), cwd=tmp_path)
    script = """
import sys
sys.path.insert(0, sys.argv[1])
import musicgen
assert musicgen.__file__.startswith(sys.argv[1]), musicgen.__file__
model = musicgen.load_model(sys.argv[2])
codes = model.generate(["a calm piano"], musicgen.GenerationParams(duration=0.2, seed=1))
print(list(model.decode(codes).shape))
"""
    folder = str(ROOT / "models" / "musicgen-nano")
    printed = run(sys.executable, "-I", "-c", script, str(tmp_path / "installed"), folder, cwd=tmp_path)
    assert printed == "[1, 1, 3200]\n"
