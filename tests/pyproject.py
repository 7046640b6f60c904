"""Facts that tests read in pyproject.toml, which Python 3.10 has no reader for: by their lines."""

from __future__ import annotations

import re

from tests.conftest import ROOT


def value_of(key: str) -> str:
    """The string that a key has in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(rf'^"?{re.escape(key)}"? = "([^"]*)"', text, re.MULTILINE)
    assert match, f"pyproject.toml has no {key}"
    return match[1]


def oldest_comfyui() -> str:
    """The version in `requires-comfyui`."""
    return value_of("requires-comfyui").removeprefix(">=")
