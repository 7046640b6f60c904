"""The texts of the nodes in every language of ComfyUI's frontend: `python -m tests.locales` lists what is missing.

`locales/<language>/nodeDefs.json` has the title, description, inputs and outputs of every node. The English file is
the copy that the other languages were translated from: after a text has changed in a schema, translate it again in
each file, then run `python -m tests.locales --accept`, which writes the English file from the schemas.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "locales"
ENGLISH = "en"
# All of the frontend's languages, with a script that their texts have and the share of letters in it, at least.
LANGUAGES = {
    "zh": r"[\u4e00-\u9fff]",
    "zh-TW": r"[\u4e00-\u9fff]",
    "ja": r"[\u3040-\u30ff\u4e00-\u9fff]",
    "ko": r"[\uac00-\ud7af]",
    "ru": r"[\u0400-\u04ff]",
    "fr": "",
    "es": "",
    "ar": r"[\u0600-\u06ff]",
    "tr": "",
    "pt-BR": "",
    "fa": r"[\u0600-\u06ff]",
    "he": r"[\u0590-\u05ff]",
}
ADVICE = "add it to locales/{language}/nodeDefs.json"
# Names that stay the same in languages with Latin letters, or in all of them.
SAME_ANYWHERE = re.compile(r"(MusicGen|LoRA|top_[kp]|fps|bpm)[\w ()]*")
SAME_IN_LATIN = 16


def pack_nodes(comfyui: Path) -> list[Any]:
    """Every schema of the pack, loaded beside a ComfyUI's modules in this process."""
    sys.path.insert(0, str(comfyui))
    importlib.import_module("comfy.cli_args").args.cpu = True
    spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pack"] = module
    spec.loader.exec_module(module)
    extension = asyncio.run(module.comfy_entrypoint())
    asyncio.run(extension.on_load())
    return [node.GET_SCHEMA() for node in asyncio.run(extension.get_node_list())]


def texts_of(schema: Any) -> dict[str, Any]:
    """The English texts of a node, in the form of `nodeDefs.json`."""
    shown = [part for part in schema.inputs if part.tooltip]
    entry: dict[str, Any] = {"display_name": schema.display_name, "description": schema.description}
    entry["inputs"] = {part.id: {"name": part.display_name or part.id, "tooltip": part.tooltip} for part in shown}
    entry["outputs"] = {
        str(index): {"name": part.display_name or part.id, "tooltip": part.tooltip}
        for index, part in enumerate(schema.outputs)
    }
    return {key: value for key, value in entry.items() if value}


def flatten(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Every text of nested dictionaries with its keys joined by dots."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{above}{key}.")
        else:
            yield above + key, value


def read(language: str) -> dict[str, Any]:
    """The file of a language, empty where there is none."""
    path = FOLDER / language / "nodeDefs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def complaints(english: dict[str, Any]) -> list[str]:
    """Everything that a language lacks, holds in vain, or left in English."""
    found, told = [], dict(flatten(english))
    accepted = dict(flatten(read(ENGLISH)))
    for key in [key for key in accepted if key not in told]:
        found.append(f"{ENGLISH}: {key} is of no node; run `python -m tests.locales --accept`")
    for key, text in told.items():
        if accepted.get(key) != text:
            found.append(f"{ENGLISH}: {key} is now {text!r}; translate it, then run `python -m tests.locales --accept`")
    for language in LANGUAGES:
        texts = dict(flatten(read(language)))
        found += [f"{language}: {key} is of no node; remove it" for key in texts if key not in told]
        for key, text in told.items():
            if trouble := _trouble(texts.get(key), text, language):
                found.append(f"{language}: {key} {trouble}; {ADVICE.format(language=language)}: {text!r}")
    return found


def _trouble(translated: str | None, text: str, language: str) -> str:
    """Why a translation is none, or the empty string."""
    if not translated or not translated.strip():
        return "is missing"
    script = LANGUAGES[language]
    short = len(text) <= SAME_IN_LATIN and not script
    if translated == text and not short and not SAME_ANYWHERE.fullmatch(text):
        return "is English still"
    if script and not SAME_ANYWHERE.fullmatch(text) and not re.search(script, translated):
        return "has no letter of its language"
    lost = [word for word in re.findall(r"\([a-z]+_[a-z_]+\)", text) if word not in translated]
    return f"lost {lost[0]}, which the code and the papers call it" if lost else ""


def write(language: str, tree: dict[str, Any]) -> None:
    """Write the file of a language, in the form that all of them have."""
    path = FOLDER / language / "nodeDefs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """List the complaints; with --accept write the English file."""
    parser = argparse.ArgumentParser(prog="python -m tests.locales", description=__doc__)
    parser.add_argument("--accept", action="store_true", help="write the English file from the schemas")
    args = parser.parse_args()
    comfyui = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".host" / "ComfyUI")
    english = {schema.node_id: texts_of(schema) for schema in pack_nodes(comfyui)}
    if args.accept:
        write(ENGLISH, english)
    found = complaints(english)
    print("\n".join([*found, f"{len(found)} complaints"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
