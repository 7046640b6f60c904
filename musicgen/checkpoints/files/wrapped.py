"""The tables and names that trainers wrap weights in: audiocraft's solver, Lightning, FSDP, DDP, torch.compile.

Only containers and prefixes are known here, and no setting. The tensors below them are those of a plain file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .pickled import StandIn
from .tensors import TensorRecord

_TABLES = ("fsdp_best_state", "best_state", "state_dict", "model_state_dict", "model", "module")
"""Where a checkpoint holds its weights, the best ones first: audiocraft under FSDP leaves best_state empty."""
_LAYERS = frozenset(("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"))
"""Parts of a name that a wrapper adds: torch.compile, DDP, FSDP, activation checkpointing, Fabric."""
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
    a prefix a file may also hold other networks: those of the other anchors are left out. Further tensors keep their
    names, for whoever reads them to accept or refuse.

    Args:
        where: the file, for messages.
        records: the stored tensors by name.
        anchors: a name that a plain file of the wanted network has, and names of networks that may stand beside it.

    Raises:
        ValueError: two tensors come to have one name.
    """
    bare: dict[str, TensorRecord] = {}
    for name, record in records.items():
        short = ".".join(part for part in name.split(".") if part not in _LAYERS)
        _add(where, bare, short, record)
    prefixes = [prefix for anchor in anchors if (prefix := _prefix(bare, anchor)) is not None]
    if not prefixes:
        return bare
    own, *others = prefixes
    beside = tuple(prefix for prefix in others if own and prefix and not own.startswith(prefix))
    found: dict[str, TensorRecord] = {}
    for name, record in bare.items():
        if not (beside and name.startswith(beside)):
            _add(where, found, name.removeprefix(own), record)
    return found


def _prefix(names: Mapping[str, Any], anchor: str) -> str | None:
    """The text before an anchor in the names, None where no name ends with it."""
    found = min((name for name in names if name == anchor or name.endswith(f".{anchor}")), key=len, default=None)
    return None if found is None else found.removesuffix(anchor)


def _add(where: Path, table: dict[str, TensorRecord], name: str, record: TensorRecord) -> None:
    if name in table:
        raise ValueError(f"{where}: tensor {name!r:.200} is stored under two names; save the model again.")
    table[name] = record
