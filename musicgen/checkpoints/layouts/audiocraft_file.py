"""audiocraft's files: the weights of one network and the settings of its training, in a dictionary that PyTorch saved.

The settings are YAML, or in some files a pickled OmegaConf object, with references such as
`${sample_rate}`. Only the container is known here, not the meaning of the settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...environment import imported
from ..files import pickled
from ..files.settings import Fields, is_number
from ..files.tensors import StoredTensors
from ..files.weights import tensors_of
from ..files.wrapped import plain_names, weights_of

_SETTINGS = "xp.cfg"
_ANCHORS = ("linears.0.weight", "quantizer.vq.layers.0._codebook.embed")
"""A name of the language model and one of the codec; in a file with both, the language model is wanted."""
_MAX_YAML_CHARACTERS = 1 << 18
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_MAX_HOPS = 8


@dataclass(frozen=True)
class SolverFile:
    """The weights and the settings of one network; pretrained: another network that the file only points to."""

    path: Path
    settings: Mapping[str, Any]
    stored: StoredTensors
    pretrained: str | None

    def require_weights(self) -> None:
        """Raise ValueError where the file holds none."""
        if not self.stored.records:
            raise ValueError(
                f"{self.path} holds no weights: fsdp_best_state, best_state, state_dict and model are missing or "
                "empty; save a checkpoint that has one of them."
            )

    @property
    def fields(self) -> Fields:
        """The settings, to be read field by field."""
        return Fields(self.settings, f"{self.path}: {_SETTINGS}")


def read_solver_file(path: Path) -> SolverFile:
    """Open a file that audiocraft exported, or one that its trainer wrote, or the bare weights of a network.

    Raises FileNotFoundError and ValueError that name its fault.
    """
    contents = pickled.load(path)
    if not isinstance(contents, dict):
        raise ValueError(f"{path} holds no dictionary; choose a file that audiocraft exported.")
    settings = _settings(contents.get(_SETTINGS, _hyper_parameters(contents).get(_SETTINGS)), path)
    pointer = contents.get("pretrained")
    if isinstance(pointer, str):
        return SolverFile(path, settings, StoredTensors(path, {}), pointer)
    weights = weights_of({key: value for key, value in contents.items() if key != _SETTINGS})
    records = {} if weights is None else plain_names(path, tensors_of(weights, path), _ANCHORS)
    return SolverFile(path, settings, StoredTensors(path, records), None)


def _hyper_parameters(contents: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings that Lightning keeps of a module."""
    table = contents.get("hyper_parameters")
    return table if isinstance(table, dict) else {}


def _settings(value: Any, path: Path) -> dict[str, Any]:
    yaml = imported("yaml")

    try:
        if isinstance(value, str):
            if len(value) > _MAX_YAML_CHARACTERS:
                raise ValueError(f"they have more than {_MAX_YAML_CHARACTERS} characters")
            value = yaml.safe_load(value)
        table = pickled.plain(value)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ValueError(f"{path}: its settings {_SETTINGS} cannot be read ({reason}); fetch it again.") from error
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise ValueError(f"{path}: its settings {_SETTINGS} are no table; fetch it again.")
    return {key: _resolve(item, table) for key, item in table.items()}


def _resolve(value: Any, table: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _resolve(item, table) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, table) for item in value]
    return _resolve_text(value, table, _MAX_HOPS) if isinstance(value, str) else value


def _resolve_text(value: str, table: Mapping[str, Any], hops: int) -> Any:
    """A string with its references `${a.b}` replaced. One that leads nowhere, or to a table, stays as it is."""
    whole = _REFERENCE.fullmatch(value)
    if whole is None or hops == 0:
        return value
    target: Any = table
    for name in whole[1].split("."):
        target = target.get(name) if isinstance(target, Mapping) else None
    if isinstance(target, str):
        return _resolve_text(target, table, hops - 1)
    return target if is_number(target) or isinstance(target, bool) else value
