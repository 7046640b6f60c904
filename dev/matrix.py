"""The host tests on several versions of ComfyUI, in one environment: `python quickstart.py test --matrix`.

Arguments that are versions choose among them; all others go to pytest. The environment is that of the pinned
version: the older ones run in it unchanged, with its frontend.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

from .setup import HOST_SOURCES, ROOT, SetupError, fetch_host, say

TESTS = "tests/host"
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def run_matrix(arguments: list[str]) -> int:
    """Run the host tests on each version and print a table of Markdown; the first failing exit code."""
    versions = [word for word in arguments if _VERSION.fullmatch(word)]
    if unknown := [version for version in versions if version not in HOST_SOURCES]:
        raise SetupError(f"There is no ComfyUI {unknown[0]} to fetch; there are {', '.join(HOST_SOURCES)}.")
    rest = [word for word in arguments if word not in versions]
    if not any(word.startswith("tests/") for word in rest):
        rest.append(TESTS)
    rows, codes = [], []
    for version in versions or list(HOST_SOURCES):
        code, result, seconds = _run(version, rest)
        codes.append(code)
        rows.append(f"| {version} | {result} | {seconds:.0f} s |")
    say("\n".join(["", "| ComfyUI | host tests | time |", "|---|---|---|", *rows]))
    return next((code for code in codes if code), 0)


def _run(version: str, arguments: list[str]) -> tuple[int, str, float]:
    """Run pytest on one version: its exit code, its closing line, and the seconds that it took."""
    environment = {**os.environ, "COMFYUI_DIR": str(fetch_host(version))}
    say(f"ComfyUI {version}: pytest {' '.join(arguments)}")
    command = [sys.executable, "-m", "pytest", *arguments]
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        last = line.strip(" =\n") or last
    return process.wait(), re.sub(r" in [\d.]+s.*", "", last), time.monotonic() - start
