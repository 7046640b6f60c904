"""The browser tests on the newest frontend of the package index: `python quickstart.py test --newest`.

The pinned ComfyUI serves it through ``--front-end-root``, and nothing is installed into .venv. Further arguments go to
pytest.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .setup import HOST, ROOT, SetupError, run_logged, say, venv_python

PACKAGE = "comfyui-frontend-package"
STATIC = "comfyui_frontend_package/static/"
TESTS = "tests/browser"


def run_newest(arguments: list[str]) -> int:
    """Run the browser tests on the newest frontend; pytest's exit code."""
    environment = {**os.environ, "COMFYUI_FRONTEND": str(fetch_newest_frontend())}
    rest = [] if any(word.startswith("tests/") for word in arguments) else [TESTS]
    command = [sys.executable, "-m", "pytest", *arguments, *rest]
    return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode


def fetch_newest_frontend(folder: Path = HOST / "frontends") -> Path:
    """Download the newest frontend, unless it is in ``folder``; the folder with its index.html."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=folder) as place:
        command = [str(venv_python()), "-m", "pip", "download", "--no-input", "--progress-bar=off", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", place, PACKAGE]
        run_logged(command, HOST / "setup.log", f"downloading {PACKAGE}")
        wheels = list(Path(place).glob("*.whl"))
        if len(wheels) != 1:
            raise SetupError(f"pip download left {len(wheels)} files of {PACKAGE}, expected one.")
        return unpack_frontend(wheels[0], folder)


def unpack_frontend(wheel: Path, folder: Path) -> Path:
    """Unpack the pages of a frontend's wheel under its version, which appears complete or not; their folder."""
    version = re.match(r"[^-]+-([\w.]+)-", wheel.name)
    if version is None:
        raise SetupError(f"{wheel.name} is no name of a wheel.")
    target = folder / version[1]
    if not target.is_dir():
        part = Path(tempfile.mkdtemp(prefix="part-", dir=folder))
        try:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(part, [name for name in archive.namelist() if name.startswith(STATIC)])
            if not (part / STATIC / "index.html").is_file():
                raise SetupError(f"{wheel.name} holds no {STATIC}index.html.")
            os.replace(part / STATIC, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    say(f"frontend {version[1]}")
    return target
