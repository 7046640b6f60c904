"""The divergence of tags: how far a classifier's probabilities for one sound are from those for another."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-6


def kl_divergence(expected: Tensor, found: Tensor) -> Tensor:
    """Return the divergence KL(expected || found) of probabilities `[..., classes]` in nats: `[...]`.

    As audiocraft counts it: 1e-6 is added to the probabilities under the logarithm of `found` alone.

    >>> kl_divergence(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]))
    tensor(0.1438)
    """
    if expected.shape != found.shape:
        raise ValueError(
            f"probabilities have shapes {list(expected.shape)} and {list(found.shape)}; both must come from one "
            "classifier and from as many pieces."
        )
    entropy = torch.special.xlogy(expected, expected)
    return (entropy - expected * (found + EPSILON).log()).sum(dim=-1)
