"""The tables and names that trainers wrap weights in: audiocraft's solver, Lightning, FSDP, DDP, torch.compile.

Only containers and prefixes are known here, and no setting. The tensors below them are those of a plain file.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .pickled import StandIn
from .tensors import TensorRecord

logger = logging.getLogger("musicgen")

_TABLES = ("fsdp_best_state", "best_state", "state_dict", "model_state_dict", "model", "module")
"""Where a checkpoint holds its weights, the best ones first: audiocraft under FSDP leaves best_state empty."""
_LAYERS = frozenset(("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"))
"""Parts of a name that a wrapper adds: torch.compile, DDP, FSDP, activation checkpointing, Fabric."""
_TRAINERS = frozenset(
    ("ema", "swa", "averaged", "shadow", "teacher", "optimizer", "scheduler", "callback", "callbacks", "metric",
     "metrics", "loss", "losses", "criterion", "accuracy", "perplexity")
)  # fmt: skip
"""Words in the names of modules that a trainer keeps beside a model, such as `val_metrics` and `model_ema`."""
_MAX_DEPTH = 4


def weights_of(contents: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The table of weights in a checkpoint; None where it holds none. A file of weights alone is its own table.

    Example:
        >>> weights = {"emb": StandIn("tensor")}
        >>> weights_of({"best_state": {}, "fsdp_best_state": {"model": weights}, "model": {"emb": StandIn("older")}})
        {'emb': <tensor>}
    """
    table = _inner(contents, _MAX_DEPTH)
    return table or (contents if _is_bare(contents) else None)


def _inner(table: Mapping[str, Any], depth: int) -> Mapping[str, Any] | None:
    if not depth:
        return None
    for name in _TABLES:
        value = table.get(name)
        if isinstance(value, dict) and value:
            found = _inner(value, depth - 1) or (value if _is_bare(value) else None)
            if found:
                return found
    return None


def _is_bare(table: Mapping[str, Any]) -> bool:
    """Whether a table has tensors of its own, and not just further tables."""
    return any(isinstance(value, TensorRecord | StandIn) for value in table.values())


def plain_names(where: Path, records: Mapping[str, TensorRecord], anchors: Sequence[str]) -> dict[str, TensorRecord]:
    """The tensors under the names that they had before a trainer wrapped their module.

    Wrappers' parts of a name are left out, and so is the prefix before the first of the anchors that is found. Under
    a prefix a file may also hold other networks: those of the other anchors are left out. So are tensors of modules
    that by their names belong to the trainer: averages of the weights, metrics, losses. Further tensors keep their
    names, for whoever reads them to accept or refuse.

    Args:
        where: the file, for messages.
        records: the stored tensors by name.
        anchors: a name that a plain file of the wanted network has, and names of networks that may stand beside it.

    Raises:
        ValueError: two tensors come to have one name, or the file holds the wanted network several times.
    """
    bare: dict[str, TensorRecord] = {}
    for name, record in records.items():
        short = ".".join(part for part in name.split(".") if part not in _LAYERS)
        _add(where, bare, short, record)
    found_at = [prefixes for anchor in anchors if (prefixes := _prefixes(bare, anchor))]
    if not found_at:
        return bare
    own, others = _wanted(where, found_at[0]), [prefixes[0] for prefixes in found_at[1:]]
    beside = tuple(prefix for prefix in others if own and prefix and not own.startswith(prefix))
    found: dict[str, TensorRecord] = {}
    kept_by_trainer = dict.fromkeys(name for name in bare if _is_of_trainer(name, own))
    for name, record in bare.items():
        if name not in kept_by_trainer and not (beside and name.startswith(beside)):
            _add(where, found, name.removeprefix(own), record)
    if kept_by_trainer:
        logger.info(
            "Left out tensors of %s that its trainer kept beside the model: %d, first %s.",
            where, len(kept_by_trainer), next(iter(kept_by_trainer)),
        )  # fmt: skip
    return found


def _prefixes(names: Mapping[str, Any], anchor: str) -> list[str]:
    """The texts before an anchor in the names, the shortest first."""
    found = [name.removesuffix(anchor) for name in names if name == anchor or name.endswith(f".{anchor}")]
    return sorted(found, key=len)


def _wanted(where: Path, prefixes: Sequence[str]) -> str:
    """The prefix of the network itself, which may be there a second time as a trainer's average of its weights."""
    own = [prefix for prefix in prefixes if not any(_TRAINERS & set(part.split("_")) for part in prefix.split("."))]
    if len(own or prefixes) > 1:
        names = " and ".join(repr(prefix.removesuffix(".")) for prefix in (own or prefixes)[:2])
        raise ValueError(f"{where} holds several models, under {names:.160}; save one of them alone.")
    return (own or prefixes)[0]


def _is_of_trainer(name: str, own: str) -> bool:
    """Whether a tensor belongs to a module that a trainer keeps, beside the network at the prefix `own` or in it."""
    if name.startswith(own):
        name = name.removeprefix(own)
    elif "." in own[:-1]:
        name = name.removeprefix(own[: own.rindex(".", 0, -1) + 1])
    module, dot, _ = name.partition(".")
    return bool(dot or module == "n_averaged") and bool(_TRAINERS & set(re.split(r"[_\d]+", module.lower())))


def _add(where: Path, table: dict[str, TensorRecord], name: str, record: TensorRecord) -> None:
    if name in table:
        raise ValueError(f"{where}: tensor {name!r:.200} is stored under two names; save the model again.")
    table[name] = record
