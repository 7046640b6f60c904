"""The house's own rules: who may import whom, how large a file may be, which deeds an import may do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import english

ROOT = Path(__file__).parent.parent
LIBRARY = sorted((ROOT / "musicgen").rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))
APART = [path for folder in ("nano", "benchmarks", "dev") for path in sorted((ROOT / folder).rglob("*.py"))]
PACKAGES = {"musicgen", "nodes", "nano", "benchmarks", "dev"}
COMFYUI = {"comfy", "comfy_execution", "comfy_extras", "execution", "folder_paths", "server"}

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
    "av",
    "pyarrow",
    "ray",
}


def import_order() -> dict[str, int]:
    """Each folder or file of the library and the number of its line in docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## Who may import whom")[2].partition("\n## ")[0]
    lines = re.findall(r"^(\d+)\. ((?:`\w+` ?)+)$", section, re.MULTILINE)
    return {name: int(number) for number, names in lines for name in re.findall(r"\w+", names)}


ORDER = import_order()


def imports(path: Path) -> list[tuple[ast.stmt, str, bool]]:
    """(statement, dotted name, whether it is relative) of every import; names of our own packages are absolute.

    `from .. import host` in nodes/x/y.py gives nodes.host, `from ..config import A` in musicgen/lm/x.py
    gives musicgen.config.
    """
    package = path.relative_to(ROOT).parts[:-1]
    found: list[tuple[ast.stmt, str, bool]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node, alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # One level is this package; as many as there are folders is the repository, where `..musicgen` is found.
            assert node.level <= len(package) + 1, f"{path}:{node.lineno} imports from above the repository"
            base = package[: len(package) - node.level + 1] if node.level else ()
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [(node, ".".join([*base, name]), bool(node.level)) for name in names]
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_import_list_names_every_folder_and_file_of_the_library():
    rooms = {path.relative_to(ROOT / "musicgen").parts[0].removesuffix(".py") for path in LIBRARY}
    assert ORDER.keys() == rooms and sorted(set(ORDER.values())) == list(range(1, max(ORDER.values()) + 1))


def test_the_library_imports_only_from_lines_above():
    wrong = []
    for path in LIBRARY:
        room = path.relative_to(ROOT / "musicgen").parts[0].removesuffix(".py")
        for node, name, _ in imports(path):
            first, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if first != "musicgen" or other == room or ORDER.get(other, 99) < ORDER[room]:
                continue
            wrong.append(f"{name_of(path)}:{node.lineno}: {room} may not import {other}")
    assert not wrong


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_the_library_imports_itself_relatively_and_no_other_package_of_the_repository(path):
    for node, name, relative in imports(path):
        first = name.partition(".")[0]
        assert first not in COMFYUI | {"comfy_api"} | PACKAGES or (relative and first == "musicgen"), (
            f"{name_of(path)}:{node.lineno}: {name}"
        )


@pytest.mark.parametrize("path", APART, ids=name_of)
def test_programs_beside_the_library_import_it_by_its_name(path):
    here = path.relative_to(ROOT).parts[0]
    allowed = {"nano": {"musicgen"}, "benchmarks": {"musicgen", "dev"}, "dev": set()}[here]
    for node, name, relative in imports(path):
        first = name.partition(".")[0]
        assert first not in PACKAGES | COMFYUI or first == here or (first in allowed and not relative), (
            f"{name_of(path)}:{node.lineno}: {name}"
        )


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_heavy_packages_are_imported_where_they_are_used(path):
    top = ast.parse(path.read_text(encoding="utf-8")).body
    for node, name, relative in imports(path):
        if not relative and name.partition(".")[0] in LAZY:
            assert not any(node.lineno == other.lineno for other in top), f"{name_of(path)}:{node.lineno}: {name}"


@pytest.mark.parametrize("path", NODES, ids=name_of)
def test_nodes_touch_the_host_through_one_folder_and_never_each_other(path):
    parts = path.relative_to(ROOT / "nodes").parts
    for node, name, relative in imports(path):
        place = f"{name_of(path)}:{node.lineno}: {name}"
        first, _, rest = name.partition(".")
        assert first not in COMFYUI or parts[0] == "host", place
        assert first not in PACKAGES or (relative and first in {"musicgen", "nodes"}), place
        if first == "nodes" and parts != ("__init__.py",):
            allowed = {"host"} if parts[0] == "host" else {"host", "inputs", "sockets"}
            assert rest.partition(".")[0] in allowed, place


@pytest.mark.parametrize("path", [*LIBRARY, *NODES, *APART, *sorted(ROOT.glob("*.py"))], ids=name_of)
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


def test_sentences_have_concrete_subjects():
    """`python tests/english.py` prints the counts by file."""
    assert [name for name, number in english.counts().items() if number.total] == []


def test_the_count_of_english_finds_each_kind_and_leaves_code_alone():
    prose = english.markdown_prose(
        "# What it is\n\nSay what.\nOf all\n\n```\nThat what\n```\n\n- `what` shall be | Those two"
    )
    assert english.count(prose) == english.Count(starts=3, whats=2, shalls=1)
    source = '"""Of a thing.\n\nA what is it."""\n# That is it\n# what shall be\nx = f"Those {x} what {y}"\n'
    pieces = english.messages(ast.parse(source)) + english.comments(source)
    assert english.count(pieces) == english.Count(starts=3, whats=3, shalls=1)
