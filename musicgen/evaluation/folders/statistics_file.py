"""Published statistics in place of a reference: `.npz` files with mean and covariance, as fadtk's are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...writing import write_file
from ..embedders.listener import Listener
from ..statistics import Statistics


def read_statistics(path: Path, listener: Listener) -> Statistics:
    """Return the statistics of a listener's embeddings from a file.

    A file has arrays `NAME.mu` and `NAME.cov` for each listener, or `mu` (`mean`) and `cov` (`sigma`) for one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, has no statistics of this listener, or those of other weights.
    """
    arrays = _arrays(path)
    names = [listener.name, *listener.aliases]
    found = next((name for name in names if f"{name}.mu" in arrays), None)
    pair = next((pair for pair in (("mu", "cov"), ("mean", "cov"), ("mu", "sigma")) if set(pair) <= set(arrays)), None)
    if found is not None:
        keys = f"{found}.mu", f"{found}.cov"
    elif pair is not None:
        keys = pair
    else:
        there = sorted(key.removesuffix(".mu") for key in arrays if key.endswith(".mu"))
        raise ValueError(
            f"{path} holds statistics of {', '.join(there) or 'nothing'}; needed are those of {' or '.join(names)}, so "
            "take a folder of sounds as the reference, or measure with another model."
        )
    mark = str(arrays.get(f"{found}.fingerprint", ""))
    if mark and mark != listener.fingerprint:
        raise ValueError(
            f"{path} holds statistics of {found} with other weights or settings ({mark} is not "
            f"{listener.fingerprint}); make them again with the same ones."
        )
    if keys[1] not in arrays:
        raise ValueError(f"{path} has {keys[0]} and no {keys[1]}; fetch the file again.")
    mean, covariance = (torch.from_numpy(arrays[key]).double() for key in keys)
    count = int(arrays.get(f"{found}.count", 0))
    return _checked(path, mean, covariance, count)


def _checked(path: Path, mean: Tensor, covariance: Tensor, count: int) -> Statistics:
    if mean.dim() != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"{path} has a mean of shape {list(mean.shape)} and a covariance of {list(covariance.shape)}; allowed are "
            "[D] and [D, D]."
        )
    if not (torch.isfinite(mean).all() and torch.isfinite(covariance).all()):
        raise ValueError(f"{path} holds numbers that are not finite; fetch the file again.")
    return Statistics(mean, covariance, count)


def _arrays(path: Path) -> dict[str, Any]:
    import numpy as np

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a folder of sounds, or an .npz file of statistics.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zipfile and NumPy raise several kinds on damaged files
        raise ValueError(f"{path} is no .npz file of plain arrays ({error}); fetch it again.") from error


def write_statistics(path: Path, listened: Sequence[tuple[Listener, Statistics]]) -> None:
    """Write the statistics of several listeners into one file, which :func:`read_statistics` and fadtk read."""
    import numpy as np

    arrays: dict[str, Any] = {}
    for listener, statistics in listened:
        # A published name where there is one, so that other toolkits find it.
        for name in {listener.name, *listener.aliases}:
            arrays |= {f"{name}.mu": statistics.mean.numpy(), f"{name}.cov": statistics.covariance.numpy()}
            arrays |= {f"{name}.count": np.array(statistics.count)}
            arrays |= {f"{name}.fingerprint": np.array(listener.fingerprint)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_file(path, lambda file: file.write(buffer.getvalue()))
