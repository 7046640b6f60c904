"""Everything that a bare GPU machine lacks, in one archive: the repository, ComfyUI's Python, four packages."""

from __future__ import annotations

import importlib.metadata
import subprocess
import tarfile
from pathlib import Path, PurePosixPath

from measuring import ROOT

LIMIT = 64 * 2**20
"""Bytes of the archive at most."""
PACKAGES = ("comfy-aimdo", "comfy-kitchen", "encodec", "torchsde", "trampoline")
COMFYUI = ("comfy", "comfy_api", "comfy_execution", "comfy_config", "app", "utils", "api_server", "middleware")
COMFYUI_LARGEST = 150_000
"""Larger files of ComfyUI that are no Python (tokenizers of other models) stay behind."""
LEFT_OUT = ("tests/browser/", "tests/host/", "tests/golden/real_keys/", "docs/", "locales/", "web/")
"""Parts of the repository that no step reads."""


def write_archive(archive: Path, comfyui: Path) -> int:
    """Write the archive and return its bytes.

    Args:
        archive: where to write it; its folder is made.
        comfyui: the folder that holds ComfyUI's main.py.

    Raises:
        ValueError: it would be larger than LIMIT.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    half_written = archive.with_suffix(".part")
    with tarfile.open(half_written, "w:xz", preset=1) as file:
        for path, name in (*_project(), *_comfyui(comfyui), *_packages()):
            file.add(path, name, recursive=False)
    size = half_written.stat().st_size
    if size > LIMIT:
        half_written.unlink()
        raise ValueError(
            f"the archive has {size} bytes; allowed are {LIMIT}. Leave out more in benchmarks/card/packing.py."
        )
    half_written.replace(archive)
    return size


def _project() -> list[tuple[Path, str]]:
    """The tracked files as they are now."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.split("\0")
    kept = [name for name in names if name and not name.startswith(LEFT_OUT) and (ROOT / name).is_file()]
    return [(ROOT / name, f"pack/{name}") for name in kept]


def _comfyui(folder: Path) -> list[tuple[Path, str]]:
    files = [path for top in COMFYUI for path in sorted((folder / top).rglob("*")) if path.is_file()]
    files += sorted(folder.glob("*.py"))
    kept = [path for path in files if path.suffix == ".py" or path.stat().st_size < COMFYUI_LARGEST]
    return [(path, f"ComfyUI/{path.relative_to(folder)}") for path in kept if "__pycache__" not in path.parts]


def _packages() -> list[tuple[Path, str]]:
    """The installed files of the packages, without comfy-kitchen's 45 MB of kernels, which no step needs."""
    found = []
    for package in PACKAGES:
        for entry in importlib.metadata.files(package) or ():
            name, path = PurePosixPath(entry.as_posix()), Path(str(entry.locate()))
            compiled = package == "comfy-kitchen" and name.suffix == ".so"
            if ".." not in name.parts and "__pycache__" not in name.parts and not compiled and path.is_file():
                found.append((path, f"site/{name}"))
    return found
