"""`python -m musicgen.finetuning recipe.toml`: a LoRA or a whole model from a folder of songs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .command import read_order, run


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m musicgen.finetuning", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a .toml or .json file, described in docs/finetuning.md")
    try:
        run(read_order(parser.parse_args(arguments).recipe))
    except (ValueError, OSError, MemoryError, ImportError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
