"""The README's first command, as a stranger types it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dev.setup import ROOT, VENV

pytestmark = pytest.mark.skipif(
    Path(sys.prefix).resolve() != VENV, reason="needs the environment that quickstart.py makes"
)


def run(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / "quickstart.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def test_quickstart_saves_a_sound_file_and_says_where():
    code, text = run("--text", "a short flute", "--duration", "0.5")
    assert code == 0, text
    saved = Path(re.search(r"^saved (.+\.flac)$", text, re.M)[1])
    assert saved.read_bytes().startswith(b"fLaC")
    assert "model bundled/musicgen-nano\n" in text and "100%" in text
    saved.unlink()


def test_quickstart_tells_in_one_line_what_is_wrong():
    code, text = run("--comfyui", "nowhere")
    assert code == 1
    assert text.startswith("error: ") and "not a ComfyUI folder" in text and text.count("\n") == 1
