"""Damaged files, a few hundred of them: each loads or is refused in words, in time, and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FILES = 240
LARGEST_FILE = 2 << 20


def test_damaged_files_load_or_are_refused_without_taking_time_or_memory(tmp_path):
    pytest.importorskip("resource", reason="memory can be limited on Unix alone")
    script = Path(__file__).with_name("fuzz_loading.py")
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(FILES), "1"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["loaded"] + report["refused"] >= 200
    assert report["refused"] > 100 and report["loaded"] > 5
    # What Python itself needs to read a file of this size, and nothing in proportion to what the file claims.
    assert report["grown_bytes"] < 16 * LARGEST_FILE, report
