"""The form that all models that listen have, and the identity by which their results are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn


class Listener(Protocol):
    """Turns one sound into rows.

    Attributes:
        name: the model's name in tables and options.
        sample_rate: samples per second of the sound that it takes.
        fingerprint: equal for the same weights and settings.
        aliases: names under which files of published statistics have the same rows.
    """

    name: str
    sample_rate: int
    fingerprint: str
    aliases: tuple[str, ...]

    def listen(self, audio: Tensor) -> Tensor:
        """Return the rows `[n, D]` of mono audio `[L]` at the listener's rate, on the CPU."""
        ...


def fingerprint_of(module: nn.Module, settings: Mapping[str, object]) -> str:
    """Return sixteen hexadecimal digits that tell weights and settings from others."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
