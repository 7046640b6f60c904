"""The last step before the pack is published: `python -m dev.publish https://.../owner/name`.

It writes the address of the repository into pyproject.toml, for the links, the icon and the banner. The publish
workflow runs it with its own repository, so the owner fills in nothing but PublisherId.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from .setup import ROOT

PLACEHOLDER = "https://github.com/OWNER/musicgen-nodes"


def write_addresses(project: Path, address: str) -> None:
    """Put the address of the repository in the place of the placeholder in a pyproject.toml.

    Raises:
        ValueError: PublisherId is empty, or the address is none of a repository.
    """
    text = project.read_text(encoding="utf-8")
    if re.search(r'^PublisherId = ""', text, re.MULTILINE):
        raise ValueError("PublisherId in pyproject.toml is empty; write the id of your publisher there.")
    address = address.removesuffix("/").removesuffix(".git")
    if not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w.-]+", address):
        raise ValueError(f"The address is {address!r}; allowed is one like {PLACEHOLDER}.")
    project.write_text(text.replace(PLACEHOLDER, address), encoding="utf-8")


def main() -> None:
    """Write the address from the command line into pyproject.toml."""
    parser = argparse.ArgumentParser(prog="python -m dev.publish", description=__doc__)
    parser.add_argument("address", help="the address of the repository")
    try:
        write_addresses(ROOT / "pyproject.toml", parser.parse_args().address)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
