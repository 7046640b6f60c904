"""The house's own rules: who may import whom, how large a file may be, what an import may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "musicgen"
SOURCES = sorted(LIBRARY.rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))

# Each room and the rooms whose doors are open to it.
MAY_IMPORT = {
    "config": set(),
    "audio": set(),
    "patterns": set(),
    "cache": set(),
    "cpu_linear": set(),
    "threads": set(),
    "cuda_graph": set(),
    "static_decoder": {"cache", "cuda_graph", "engine", "lm", "sampling"},
    "sampling": set(),
    "images": set(),
    "windows": {"config"},
    "transformer": {"config", "cache"},
    "lm": {"config", "transformer", "cache"},
    "engine": {"lm", "cache", "sampling"},
    "conditioning": {"codec", "config", "audio", "conditioning", "transformer"},
    "chunks": set(),
    "rows": {"chunks"},
    "codec": {"config", "audio", "chunks", "rows"},
    "checkpoints": {"config", "checkpoints"},
    "releases": set(),
    "downloads": {"releases"},
    "loading": {"checkpoints", "config", "cpu_linear", "lm", "codec", "conditioning"},
    "lora": {"checkpoints", "config", "lm"},
    "fuser": {"config", "lm", "engine", "conditioning"},
    "guidance": {"config", "sampling", "conditioning"},
    "generation": {
        "conditioning",
        "config",
        "cuda_graph",
        "engine",
        "fuser",
        "guidance",
        "lm",
        "patterns",
        "sampling",
        "static_decoder",
        "threads",
        "windows",
    },
    "model": {"config", "generation", "loading", "lora", "conditioning"},
    "saving": {"checkpoints", "conditioning", "loading", "model"},
    "training": {
        "checkpoints",
        "codec",
        "conditioning",
        "config",
        "lm",
        "metrics",
        "model",
        "patterns",
        "training",
        "transformer",
    },
    "metrics": {"audio", "codec", "conditioning", "config", "images", "metrics", "model", "training"},
    "__init__": {"config", "generation", "lora", "model", "patterns", "saving"},
}
# Heavy or fragile packages are imported where they are used, not when the library is.
LAZY = {
    "transformers",
    "torchaudio",
    "encodec",
    "safetensors",
    "tokenizers",
    "sentencepiece",
    "scipy",
    "librosa",
    "huggingface_hub",
    "yaml",
}
FORBIDDEN = {"nodes", "comfy", "comfy_api", "folder_paths", "server", "execution"}


def room(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[ast.AST, str, int]]:
    """(node, module name, relative level) of every import of a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node, alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [(node, name, node.level) for name in names]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_each_module_of_the_library_imports_only_from_the_rooms_it_may(path):
    depth = len(path.relative_to(LIBRARY).parts)
    for _, name, level in imports(path):
        assert name.split(".")[0] not in FORBIDDEN | {"musicgen"}, f"{path}: {name}"
        if level == depth:
            assert name.split(".")[0] in MAY_IMPORT[room(path)], f"{path} imports {name}"
        elif level:
            assert level < depth, f"{path} imports from above the library: {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_packages_are_imported_where_they_are_used(path):
    top = ast.parse(path.read_text(encoding="utf-8")).body
    for node, name, level in imports(path):
        if not level and name.split(".")[0] in LAZY:
            assert not any(node is other or node.__dict__ == other.__dict__ for other in top), f"{path}: {name}"


@pytest.mark.parametrize("path", NODES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nodes_touch_the_host_through_one_file_and_never_each_other(path):
    rooms = {p.stem for p in NODES} - {"types", "host", "edges"}
    for _, name, level in imports(path):
        first = name.split(".")[0]
        assert level or first not in {"musicgen", "nodes"}, f"{path}: absolute import of {name}"
        if path.name != "host.py":
            assert first not in {"comfy", "folder_paths", "server", "execution", "comfy_execution"}, f"{path}: {name}"
        if level == 1 and path.name != "__init__.py":
            assert first not in rooms, f"{path} imports the node module {name}"


@pytest.mark.parametrize("path", [*SOURCES, *NODES, *ROOT.glob("*.py")], ids=lambda p: p.name)
def test_files_are_ascii_and_under_400_lines(path):
    text = path.read_text(encoding="ascii")
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"


def test_requirements_are_the_project_s_dependencies_and_nothing_of_the_host_s():
    declared = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"dependencies = {declared}".replace("'", '"') in project
    assert declared == ["encodec"]


def test_importing_the_library_does_nothing_but_import():
    """No heavy package, no global switch, no output."""
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import torch
threads, dtype, state = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state()
import musicgen
assert (threads, dtype) == (torch.get_num_threads(), torch.get_default_dtype())
assert torch.equal(state, torch.get_rng_state())
heavy = {sorted(LAZY)!r}
assert not [name for name in heavy if name in sys.modules], [name for name in heavy if name in sys.modules]
assert not [name for name in sys.modules if name.split(".")[0] in ("comfy", "nodes", "folder_paths")]
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
