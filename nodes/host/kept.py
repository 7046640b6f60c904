"""Samplings that Cancel cut short: the host must not take their cached part for the whole."""

from __future__ import annotations

from collections import Counter

_times: Counter[str] = Counter()


def note_kept(node_id: str | None) -> None:
    """Note that a node has returned a part. The host keeps that under the fingerprint of the prompt."""
    if node_id is not None:
        _times[node_id] += 1


def fingerprint(node_id: str | None) -> int:
    """A number that changes after each part, so that the next prompt runs the node anew."""
    return 0 if node_id is None else _times[node_id]
