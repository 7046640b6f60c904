"""Count English that the house rules do not allow, file by file: `python tests/english.py`.

Read are the docstrings, comments and messages of Python files, Markdown outside code, and the notes on
the canvas of the workflows. Counted are sentences that begin with What, That, Those or Of, every use of
"what" after the first in a file, and "shall". Names in backticks are code, not English.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("musicgen", "nodes", "nano", "dev", "benchmarks")
DOCUMENTS = ("*.md", "docs/**/*.md", "web/docs/**/*.md", "models/*/README.md")

SENTENCE_START = r"(?:\A|\n\n|[.!?:;]\s+|\n)[\s\"'(*_]*"
BAD_START = re.compile(SENTENCE_START + r"(?:What|That|Those|Of)\b")
WHAT = re.compile(r"\bwhat\b", re.IGNORECASE)
SHALL = re.compile(r"\bshall\b", re.IGNORECASE)


@dataclass(frozen=True)
class Count:
    """The findings of one file, by kind."""

    starts: int
    whats: int
    shalls: int

    @property
    def total(self) -> int:
        """The number of places to rewrite."""
        return self.starts + max(0, self.whats - 1) + self.shalls


def count(pieces: list[str]) -> Count:
    """The counts over pieces of prose, each of which begins a sentence."""
    pieces = [re.sub(r"``?[^`]+``?", "`code`", piece) for piece in pieces]
    found = (sum(len(pattern.findall(piece)) for piece in pieces) for pattern in (BAD_START, WHAT, SHALL))
    return Count(*found)


def comments(source: str) -> list[str]:
    """Comments, those on following lines joined into one."""
    found: list[str] = []
    last = (-2, -1)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text, place = token.string.lstrip("#! "), token.start
        if place == (last[0] + 1, last[1]):
            found[-1] += " " + text
        else:
            found.append(text)
        last = place
    return found


def messages(tree: ast.Module) -> list[str]:
    """Docstrings and every other string that holds a sentence or a part of one: two words or more."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            texts = [part.value if isinstance(part, ast.Constant) else "`x`" for part in node.values]
            found.append("".join(texts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            found.append(node.value)
    return [text for text in found if len(re.findall(r"[A-Za-z]{2,}", text)) > 1]


def python_prose(path: Path) -> list[str]:
    """The prose of a Python file: docstrings, messages, comments."""
    source = path.read_text(encoding="utf-8")
    unwrapped = [re.sub(r"(?<![.:\n])\n(?!\n)", " ", text) for text in messages(ast.parse(source))]
    return unwrapped + comments(source)


def markdown_prose(text: str) -> list[str]:
    """The prose of a Markdown text: paragraphs, headings, items and cells, without code."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^    .*\n(?=(    |\n))", "", text, flags=re.MULTILINE)
    pieces: list[str] = []
    for line in text.splitlines():
        starts_new = not line.strip() or re.match(r"\s*([-*#>|]|\d+\.)", line)
        words = re.sub(r"^\s*([-*#>]+|\d+\.)\s*", "", line)
        if starts_new or not pieces:
            pieces += [cell.strip() for cell in words.split("|")]
        else:
            pieces[-1] += " " + words.strip()
    return [piece for piece in pieces if piece]


def note_prose(path: Path) -> list[str]:
    """The notes on the canvas of a workflow."""
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    notes = [node for node in nodes if node["type"] in ("Note", "MarkdownNote")]
    return [piece for node in notes for text in node["widgets_values"] for piece in markdown_prose(text)]


def counts() -> dict[str, Count]:
    """The counts of every file that is read."""
    python = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
    found = {path: count(python_prose(path)) for path in python}
    for pattern in DOCUMENTS:
        found |= {path: count(markdown_prose(path.read_text(encoding="utf-8"))) for path in ROOT.glob(pattern)}
    found |= {path: count(note_prose(path)) for path in (ROOT / "workflows").glob("*.json")}
    return {path.relative_to(ROOT).as_posix(): number for path, number in sorted(found.items())}


def main() -> None:
    """Print the files that have something to rewrite, the worst first."""
    found = counts()
    lines = [f"{'file':50} {'starts':>6} {'what':>5} {'shall':>5} {'total':>5}"]
    for name, number in sorted(found.items(), key=lambda item: -item[1].total):
        if number.total:
            lines.append(f"{name:50} {number.starts:6} {number.whats:5} {number.shalls:5} {number.total:5}")
    lines.append(f"{'all':50} {'':18} {sum(number.total for number in found.values()):5}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
