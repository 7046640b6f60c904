"""Damaged files, a few hundred of them: each works or is refused in words, in time, and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FILES = 260
SPARE_BYTES = 8 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="memory is watched on Linux alone")
def test_damaged_files_work_or_are_refused_without_taking_time_or_memory(tmp_path):
    script = Path(__file__).with_name("fuzz_loading.py")
    command = [sys.executable, str(script), str(tmp_path), str(FILES), "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["used"] + report["refused"] >= 200  # different ones, each unlike the file that it was made of
    assert report["refused"] > 100 and report["used"] > 5
    # Beyond the bytes of the model's files: what Python needs to read them, and nothing that a file merely claims.
    assert report["excess_bytes"] < SPARE_BYTES, report
