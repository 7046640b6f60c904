"""The archive that the registry publishes: `python -m dev.pack FILE.zip` writes it and prints its size by folder.

It holds what `comfy node pack` puts into its own: every file that git tracks, less those that .comfyignore names.
"""

from __future__ import annotations

import argparse
import subprocess
import zipfile
from pathlib import Path

from .setup import ROOT


def shipped_files() -> list[str]:
    """Every path of the archive, relative to the repository."""
    left_out = set(_tracked("--ignored", f"--exclude-from={ROOT / '.comfyignore'}"))
    return [name for name in _tracked() if name not in left_out]


def write_archive(path: Path) -> None:
    """Write the archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in shipped_files():
            archive.write(ROOT / name, name)


def _tracked(*options: str) -> list[str]:
    """Paths that git tracks, chosen by options of `git ls-files`."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "-z", *options]
    names = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def main() -> None:
    """Write the archive, and print its size and that of each folder in it."""
    parser = argparse.ArgumentParser(prog="python -m dev.pack", description=__doc__)
    parser.add_argument("archive", type=Path, metavar="FILE.zip")
    path = parser.parse_args().archive
    write_archive(path)
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            top = info.filename.partition("/")[0] if "/" in info.filename else "files of the top folder"
            sizes[top] = sizes.get(top, 0) + info.compress_size
    for top, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{size / 1e6:7.2f} MB  {top}")
    print(f"{path.stat().st_size / 1e6:7.2f} MB  in all")


if __name__ == "__main__":
    main()
