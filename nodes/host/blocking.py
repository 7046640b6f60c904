"""An output without a value: the nodes behind it do not run, and say why."""

from __future__ import annotations

from typing import Any

from comfy_execution.graph_utils import ExecutionBlocker


def blocked(why: str) -> Any:
    """The value of an output that the node cannot give. why: a sentence, which a node behind the output shows."""
    return ExecutionBlocker(why)
