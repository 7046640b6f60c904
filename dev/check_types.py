"""Run mypy over everything but the tests: `python -m dev.check_types`.

The nodes import the library as `..musicgen`, from the package that ComfyUI makes of the repository's
folder, which may have any name. Mypy wants a name that Python could import, so a link gives it one.
"""

from __future__ import annotations

import os
import subprocess
import sys

from .comfy_server import link_folder
from .setup import ROOT

PACKAGE = "musicgen_pack"


def main() -> int:
    """Check the library and the programs by their own names, then the nodes as a package; the worse exit code."""
    folder = ROOT / ".mypy_cache" / "package"
    folder.mkdir(parents=True, exist_ok=True)
    link_folder(folder / PACKAGE, ROOT)
    code = subprocess.run([sys.executable, "-m", "mypy"], check=False, cwd=ROOT).returncode
    command = [sys.executable, "-m", "mypy", "-p", f"{PACKAGE}.nodes"]
    environment = {**os.environ, "MYPYPATH": str(folder)}
    return max(code, subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode)


if __name__ == "__main__":
    sys.exit(main())
