"""Every code block and every command of the documents: Python runs, commands are parsed.

Commands take hours, a download or a GPU, so they are not run: the program has to exist and its own parser
has to accept the arguments. (tests/test_benchmarks.py and tests/nano run each program in miniature.)
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from quickstart import CHECKS, parse_arguments
from tests.conftest import ROOT
from tests.english import DOCUMENTS

PATHS = sorted({path for pattern in DOCUMENTS for path in ROOT.glob(pattern)})
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)

# Runs every given program up to the end of its own argument parser; prints what each refused, or null.
PARSE = """
import argparse, contextlib, io, json, runpy, sys
class Parsed(BaseException): pass
original = argparse.ArgumentParser.parse_args
def parse(self, args=None, namespace=None):
    original(self, args, namespace)
    raise Parsed
argparse.ArgumentParser.parse_args = parse
found, path = {}, list(sys.path)
for line, (program, *arguments) in json.loads(sys.stdin.read()).items():
    sys.argv, sys.path[:], said = [program, *arguments], path, io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            if program.endswith(".py"):
                sys.path.insert(0, program.rpartition("/")[0])
                runpy.run_path(program, run_name="__main__")
            else:
                runpy.run_module(program, run_name="__main__")
        found[line] = "it has no parser"
    except Parsed:
        found[line] = None
    except (Exception, SystemExit) as error:
        found[line] = f"{said.getvalue()} {error!r}"
print(json.dumps(found))
"""


PROGRAMS = ("nano", "musicgen.rendering", "musicgen.evaluation", "musicgen.finetuning")


def blocks(path: Path, *languages: str) -> list[str]:
    """The code of a document's blocks in some languages."""
    return [code for language, code in FENCE.findall(path.read_text(encoding="utf-8")) if language in languages]


def commands(path: Path) -> list[str]:
    """Command lines: those of blocks, those that stand alone as indented lines, and those within the text."""
    text = path.read_text(encoding="utf-8")
    lines = [line.strip() for code in blocks(path, "sh") for line in code.splitlines()]
    lines += re.findall(r"^    (python .*)$", text, re.MULTILINE)
    lines += named(text)
    return [line for line in lines if line and not line.startswith("#")]


def named(text: str) -> list[str]:
    """Commands within the text, in backticks, which may name a program and leave out what it requires."""
    outside = FENCE.sub("", text)
    return [" ".join(line.split()) for line in re.findall(r"`((?:python|pip)\s[^`]*)`", outside)]


def words_of(line: str) -> list[str]:
    """The words of a command line; a placeholder like <this folder> is one word."""
    return shlex.split(re.sub(r"<[^>]*>", "PLACEHOLDER", line), comments=True)


COMMANDS = sorted({(path.relative_to(ROOT).as_posix(), line) for path in PATHS for line in commands(path)})


@pytest.fixture(scope="module")
def refusals() -> dict[str, str | None]:
    """For each line that runs a program with a parser of its own: the parser's refusal, None if it accepts."""
    programs = {}
    for _, line in COMMANDS:
        words = words_of(line)
        if words[:2] == ["python", "-m"] and words[2].startswith(PROGRAMS):
            programs[line] = words[2:]
        elif words[0] == "python" and words[1].startswith("benchmarks/"):
            programs[line] = words[1:]
    done = subprocess.run(
        [sys.executable, "-c", PARSE], input=json.dumps(programs), capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_code_block_names_a_language_that_this_test_knows(path):
    languages = [language for language, _ in FENCE.findall(path.read_text(encoding="utf-8"))]
    assert set(languages) <= {"python", "sh", "text"}


@pytest.mark.parametrize(("document", "line"), COMMANDS)
def test_the_program_of_every_command_exists_and_takes_its_arguments(document, line, refusals):
    words = words_of(line)
    if line in refusals:
        text = (ROOT / document).read_text(encoding="utf-8")
        refusal = refusals[line]
        assert refusal is None or (line in named(text) and "arguments are required" in refusal), refusal
    elif words[:3] == ["python", "quickstart.py", "test"]:
        assert all((ROOT / word.partition("::")[0]).exists() for word in words[3:] if not word.startswith("-"))
    elif words[:2] == ["python", "quickstart.py"]:
        parse_arguments([word for word in words[2:] if word != "FILE"])
    elif words[0] == "pip":
        check_pip(words[1:])
    elif words[0] == "git":
        assert words[1] in ("clone", "config")
    elif words[0] == "pre-commit":
        assert words[1] == "install"
    elif words[:2] == ["python", "-m"]:
        known = [check.split()[0] for check in CHECKS]
        assert words[2] in known or (ROOT / (words[2].replace(".", "/") + ".py")).is_file()
        assert all((ROOT / word.partition("::")[0]).exists() for word in words[3:] if "/" in word)
    else:
        assert words[0] == "python" and (ROOT / words[1]).is_file() and len(words) == 2


def check_pip(words: list[str]) -> None:
    """Requirement files and extras that exist."""
    if words[:2] == ["install", "-r"]:
        assert (ROOT / words[2].rpartition("/")[2]).is_file()
        return
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    extras = re.findall(r"^(\w+) = ", section.partition("\n[")[0], re.MULTILINE)
    if words == ["wheel", "."]:
        return
    assert words[0] == "install" and words[1] in (".", "pre-commit", *(f".[{name}]" for name in extras))


@pytest.mark.parametrize("path", [path for path in PATHS if blocks(path, "python")], ids=lambda p: p.name)
def test_the_python_of_a_document_runs(path, tmp_path):
    for name in ("models", "songs"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    script = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n" + "\n".join(blocks(path, "python"))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_readme_ends_in_a_line_for_each_folder():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.endswith("\n```\n")
    listed = {line.split()[0].rstrip("/") for line in blocks(ROOT / "README.md", "text")[-1].splitlines()}
    made = {"build", "dist"}
    there = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name[0] not in "._" and p.suffix != ".egg-info"}
    assert listed == (there - made) | {"quickstart.py"}
