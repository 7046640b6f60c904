"""Makes workflows/*.json (UI format) out of workflows/api/*.json, in the real frontend.

    python -m tests.browser.make_workflows              the files
    python -m tests.browser.make_workflows --pictures   and workflows/*.jpg, docs/graph.png

Needs the environment that ``python quickstart.py test`` makes. A test makes the files again
and compares them, so change an API file or the layout here, never a UI file by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from dev.comfy_server import ComfyServer, prepare_base
from quickstart import record_tunes

from .cards import write_card
from .frontend import Frontend, open_frontend, read_json

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "workflows"
NAMES = (
    "text_to_music",
    "melody_to_music",
    "continue_music",
    "codebook_patterns",
    "catalogue",
    "guidance_measured",
)
PICTURE = ROOT / "docs" / "graph.png"
PICTURE_OF = "melody_to_music"

# Position and size of the first node of each kind; others of it stand below. Below a sampler there
# is room: it grows when the picture of the codes appears on it.
LAYOUT = {
    "MusicGenLoader": ((0, 0), (330, 122)),
    "LoadAudio": ((0, 220), (330, 136)),
    "MusicGenCatalogue": ((0, 180), (330, 240)),
    "MarkdownNote": ((0, 460), (330, 170)),
    "MusicGenTextEncode": ((370, 0), (300, 160)),
    "MusicGenMelodyChroma": ((370, 260), (300, 46)),
    "MusicGenEnCodecEncode": ((370, 260), (300, 46)),
    "MusicGenSampleTokens": ((710, 0), (300, 390)),
    "MusicGenEnCodecDecode": ((1050, 0), (270, 110)),
    "SaveAudioAdvanced": ((1360, 0), (290, 140)),
    "PreviewImage": ((1050, 260), (600, 300)),
    "MusicGenMeasure": ((1050, 270), (270, 420)),
    "PreviewAny": ((1360, 270), (440, 260)),
}
ROW = 800
TITLES = {
    "text_to_music": "Text to Music",
    "melody_to_music": "Melody to Music",
    "continue_music": "Continue a Recording",
    "codebook_patterns": "Codebook Patterns",
    "guidance_measured": "Guidance, Measured",
    "catalogue": "Catalogue",
}
WORDS = {
    "text_to_music": "**Text to music.** Describe the music in *MusicGen Text Encode* and press Run; the sound appears "
    "in *Save Audio*.",
    "melody_to_music": "**Melody to music.** Choose a recording of a hummed or played melody in *Load Audio*, describe "
    "the music and press Run. The music follows the melody's chroma, which the picture shows.",
    "continue_music": "**Continue music.** Choose the beginning in *Load Audio*, describe the music and press Run. "
    "*duration* is the length of the whole piece, the beginning included.",
    "codebook_patterns": "**One prompt through four codebook patterns.** The samplers differ in *pattern* alone, and "
    "the pictures on them show the codes. The model was trained on *delay* and does not know the others, as you can "
    "hear; *flatten* takes four times as many steps. The pack's *docs/patterns.md* measures models that "
    "were trained on each pattern.",
    "guidance_measured": "**Three values of guidance, measured.** The samplers differ in *cfg_coef* alone. Choose a "
    "recording in *Load Audio*; *MusicGen Measure* gives the distance of each batch and of each piece to it, and draws "
    "their embeddings. Connect its *ranking* to *marked* of *MusicGen Pick* to sort the pieces.",
    "catalogue": "**A piece for each row of a catalogue.** Put a CSV or JSONL file with a header such as "
    "*id,description,duration,seed* into ComfyUI's input folder, choose it in *MusicGen Catalogue* and press Run: the "
    "graph runs once for each row. `python -m musicgen.rendering` spreads the rows of this graph over several servers.",
}
NOTE = """{words}

The bundled *musicgen-nano* is a small model trained on synthesised loops: it knows {knows}. For any music, put the
folder of a released MusicGen into *models/musicgen* and choose it in the loader. The weights that Meta released are
licensed CC-BY-NC 4.0: no commercial use."""
KNOWS = "nine genres, eight lead instruments, bass, drums, keys and tempi, and calls them by their usual names"


def project() -> tuple[str, str]:
    """Name and version out of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    name, version = (re.search(rf'^{key} = "(.+)"$', text, re.M) for key in ("name", "version"))
    assert name and version
    return name[1], version[1]


def make_workflow(frontend: Frontend, name: str) -> dict:
    """The UI workflow of the API workflow ``name``: laid out, with a note, without what changes from run to run."""
    prompt = read_json(WORKFLOWS / "api" / f"{name}.json")
    return _settled(frontend.convert(prompt, name, _edits(prompt, name)), name)


def _edits(prompt: dict, name: str) -> list[dict[str, Any]]:
    package, version = project()
    edits = []
    kinds = {int(key): node["class_type"] for key, node in prompt.items()}
    seen: Counter[str] = Counter()
    for key, kind in {**kinds, max(kinds) + 1: "MarkdownNote"}.items():
        (left, top), size = LAYOUT[kind]
        edit: dict[str, Any] = {"id": key, "type": kind, "pos": (left, top + ROW * seen[kind]), "size": size}
        seen[kind] += 1
        if kind.startswith("MusicGen"):
            edit["properties"] = {"cnr_id": package, "ver": version}
        if kind == "MusicGenSampleTokens":
            edit["widgets"] = {"control_after_generate": "fixed"}
        if kind == "MarkdownNote":
            edit["title"] = "About this workflow"
            edit["widgets"] = {"text": NOTE.format(words=WORDS[name], knows=KNOWS)}
            if "LoadAudio" not in kinds.values():
                edit["pos"] = LAYOUT["LoadAudio"][0]
        edits.append(edit)
    return edits


def _settled(graph: dict, name: str) -> dict:
    """The graph under a lasting id, its links numbered from 1, without the view of the moment."""
    number = {link[0]: i for i, link in enumerate(sorted(graph["links"]), start=1)}
    for node in graph["nodes"]:
        for slot in node.get("inputs", []):
            slot["link"] = number.get(slot.get("link"))
        for slot in node.get("outputs", []):
            slot["links"] = [number[link] for link in slot.get("links") or []]
    graph["links"] = [[number[link[0]], *link[1:]] for link in sorted(graph["links"])]
    graph["last_link_id"] = len(number)
    graph["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{project()[0]}/{name}"))
    graph["extra"] = {}
    return graph


def write_pictures(frontend: Frontend, name: str, output: Path) -> None:
    """Run the open workflow; write its template card from the sounds in `output`, and the README's picture."""
    frontend.run()
    if name == PICTURE_OF:
        frontend.picture(PICTURE, 24)
    files = sorted(output.glob(f"{name}*")) or sorted((output.parent / name).iterdir())
    labels = [re.sub(r"_\d+_?$", "", file.stem.removeprefix(f"{name}_")) for file in files]
    sounds = list(zip(labels if len(files) > 1 else [""], files, strict=True))
    write_card(sounds, TITLES[name], WORKFLOWS / f"{name}.jpg")


def main() -> None:
    """Start a ComfyUI and a browser, write the files."""
    parser = argparse.ArgumentParser(prog="make_workflows", description=__doc__)
    parser.add_argument("--pictures", action="store_true", help="also run the workflows and write the pictures")
    pictures = parser.parse_args().pictures
    comfyui = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".host" / "ComfyUI")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        prepare_base(base, ROOT)
        record_tunes(base / "input")
        with ComfyServer(base, comfyui) as server, open_frontend(server.url, "MusicGenLoader") as frontend:
            for name in NAMES:
                graph = make_workflow(frontend, name)
                text = json.dumps(graph, indent=2, ensure_ascii=False) + "\n"
                (WORKFLOWS / f"{name}.json").write_text(text, encoding="utf-8", newline="\n")
                if pictures:
                    frontend.open(graph, name)
                    write_pictures(frontend, name, base / "output" / "audio")


if __name__ == "__main__":
    main()
