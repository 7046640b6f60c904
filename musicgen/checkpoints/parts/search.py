"""Where to look for parts that a checkpoint does not hold: folders beside it, folders given, the local cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ...environment import imported

_MAX_ENTRIES = 2000
_MAX_LISTED, _MAX_LISTED_LENGTH = 4, 160


def entries(place: Path) -> list[Path]:
    """The entries of a folder, in the order of their names; none where it cannot be listed."""
    try:
        found = [path for path, _ in zip(place.iterdir(), range(_MAX_ENTRIES), strict=False)]
    except OSError:
        return []
    return sorted(path for path in found if not path.name.startswith("."))


def folders_in(places: Iterable[Path]) -> list[Path]:
    """The folders in some folders."""
    return [path for place in places for path in entries(place) if path.is_dir()]


def listed(places: Sequence[Path]) -> str:
    """Some folders for a message, which names as many as it has room for."""
    shown = [str(place) for place in places[:_MAX_LISTED]]
    while len(", nor in ".join(shown)) > _MAX_LISTED_LENGTH:
        shown.pop()
    more = len(places) - len(shown)
    rest = [f"{more} {'more ' if shown else ''}places given to search"] if more else []
    return ", nor in ".join(shown + rest) or "a place given to search"


def named_first(paths: Iterable[Path], name: str) -> list[Path]:
    """The same paths, those first that are named like the repository or model `name`."""
    last = _plain(name.rsplit("/", 1)[-1])

    def other(path: Path) -> bool:
        stem = _plain(path.stem if path.is_file() else path.name)
        return stem != last and not stem.endswith(f"--{last}")

    return sorted(dict.fromkeys(paths), key=other)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def cached_folder(repository: str) -> Path | None:
    """The folder of a repository in the local Hugging Face cache, or None. The network is not used."""
    (try_to_load_from_cache,) = imported("huggingface_hub", "try_to_load_from_cache")
    (HFValidationError,) = imported("huggingface_hub.errors", "HFValidationError")
    try:
        found = try_to_load_from_cache(repository, "config.json")
    except (HFValidationError, OSError):
        return None
    return Path(found).parent if isinstance(found, str) else None
