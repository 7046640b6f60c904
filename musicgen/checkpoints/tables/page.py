"""The page of the documentation that lists every setting, made of the tables.

python -m musicgen.checkpoints.tables.page docs/formats.md
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from . import FORMATS, REASONS, Table

_WIDTH = 120
_BEGIN = """\
# Formats and their settings

`python -m musicgen.checkpoints.tables.page docs/formats.md` writes this page from the tables in that folder, which the
loader uses too.

A model is a folder in the layout of transformers (`config.json` and weights), a folder or file in the layout of
audiocraft (`state_dict.bin`, with `compression_state_dict.bin` for the codec), or one `.safetensors` file that this
pack wrote. The single file holds the numbers that were read from the other layouts; an unknown field in it is refused.

Each setting in the other layouts is on one of three lists. A **read** setting is one that the model is built by. A
**required** setting must have an implemented value, or be absent or null; otherwise the loader refuses the model by the
setting's name. An **unused** setting is of no matter at inference. The log reports every setting on none of the lists,
by its place, name and value.

Tables of audiocraft's `xp.cfg` that are not listed concern training. Among the tables of patterns and of conditioners,
only the chosen one counts. The tables `encoder` and `decoder` in `seanet` may repeat its settings; where the two
differ, the loader refuses the model.
"""


def page() -> str:
    """Return the page."""
    rows = ["| file | read | required | unused |", "|---|---|---|---|"]
    for title, table in FORMATS.items():
        rows.append(f"| {title} | {' | '.join(map(str, table.counts()))} |")
    parts = [_BEGIN, "\n".join(rows) + "\n"]
    for title, table in FORMATS.items():
        parts += [f"## {title}\n", *_sections(table, table.name)]
    return "\n".join(parts)


def _sections(table: Table, path: str) -> Iterator[str]:
    """A table's lists, then those of the tables within it."""
    lines = [f"### `{path}`\n"]
    if table.read:
        lines += _item("read", table.read)
    if table.only:
        lines += _item("required", [f"{name} = {_values(allowed)}" for name, allowed in table.only.items()])
    for reason in REASONS:
        if table.unused.get(reason):
            lines += _item(f"unused, {reason}", table.unused[reason])
    if len(lines) > 1:
        yield "\n".join([*lines, ""])
    for name, inner in table.tables.items():
        yield from _sections(inner, f"{path}: {name}")


def _item(title: str, names: list[str] | tuple[str, ...]) -> list[str]:
    """A list item with names, in lines of the usual width."""
    lines, line = [], f"- {title}:"
    for index, name in enumerate(names):
        word = f"`{name}`" + ("," if index < len(names) - 1 else "")
        if len(line) + 1 + len(word) > _WIDTH:
            lines.append(line)
            line = "  " + word
        else:
            line += " " + word
    return [*lines, line]


def _values(allowed: tuple[object, ...]) -> str:
    return " or ".join("null" if value is None else str(value) for value in allowed) or "null"


def main() -> None:
    """Write the page to a file."""
    parser = argparse.ArgumentParser(description="Write the page that lists every setting.")
    parser.add_argument("path", type=Path, help="the file, such as docs/formats.md")
    parser.parse_args().path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
