"""The pictures that come with the pack: cards of the templates, the README's graph, and a film of a run."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from dev.comfy_server import ComfyServer, describe_failure

from .cards import ROOM, film_strip, piano_roll, read_sound, spectrogram, stack, write_card
from .frontend import Frontend, read_json
from .make_workflows import ROOT, WORKFLOWS, api_file
from .templates import Template

GRAPH, GRAPH_OF = ROOT / "docs" / "graph.png", "melody_to_music"
FILM, FILM_OF = ROOT / "docs" / "run.webp", "long_piece"


def write_pictures(frontend: Frontend, template: Template, server: ComfyServer) -> None:
    """Run the open workflow and write the pictures that belong to it."""
    card = WORKFLOWS / f"{template.file}.jpg"
    if template.release:
        # Its weights are not here; the picture is the graph itself.
        picture = Image.open(io.BytesIO(frontend.shot())).convert("RGB")
        write_card(picture, template.title, f"downloads {template.release}", card)
        return
    if template.slug == FILM_OF:
        write_film(frontend, FILM)
    if template.slug == GRAPH_OF:
        frontend.run()
        frontend.picture(GRAPH, 24)
    write_card(draw_result(template, server), template.title, "", card)


def draw_result(template: Template, server: ComfyServer) -> Image.Image:
    """Run a template as an API client and draw its result in the template's own kind of picture."""
    prompt = read_json(api_file(template.slug))
    for node in prompt.values():
        if node["class_type"] == "RecordAudio":
            node["inputs"]["audio"] = "melody.wav"
    entry = server.run(prompt)
    failure = describe_failure(entry)
    assert failure is None, failure
    files: list[tuple[str, Path]] = []
    for key in template.outputs:
        shown = entry["outputs"][str(key)]
        items = [item for kind in shown.values() for item in kind if isinstance(item, dict)]
        files += [
            (prompt[str(key)]["_meta"]["title"], server.base / item["type"] / item["subfolder"] / item["filename"])
            for item in items
        ]
    width, height = ROOM
    if template.card == "poster":
        return Image.open(files[-1][1]).convert("RGB")
    if template.card == "film":
        part = height * 3 // 4
        sound = spectrogram(*read_sound(files[0][1]), width, height - part)
        whole = Image.new("RGB", ROOM)
        whole.paste(film_strip(files[0][1], width, part), (0, 0))
        whole.paste(sound, (0, part))
        return whole
    drawn = piano_roll if template.card == "piano roll" else spectrogram
    labels = [title.removeprefix("Sound of ") if len(files) > 1 else "" for title, _ in files]
    pictures = [drawn(*read_sound(path), width, height // len(files)) for _, path in files]
    return stack(list(zip(labels, pictures, strict=True)), width, height)


def frame(frontend: Frontend, width: int) -> Image.Image:
    """The window as it is now, smaller."""
    picture = Image.open(io.BytesIO(frontend.page.screenshot())).convert("RGB")
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


def write_film(frontend: Frontend, path: Path, width: int = 960, every: int = 350, most: int = 24) -> None:
    """Write an animated picture of a run: the graph while it samples, and the players at the end."""
    frames = [frame(frontend, width)]
    with frontend.running() as done:
        while not done():
            frames.append(frame(frontend, width))
    frontend.page.wait_for_timeout(1500)
    frames += [frame(frontend, width)]
    if len(frames) > most:  # of a slow machine, evenly
        frames = [frames[round(i * (len(frames) - 1) / (most - 1))] for i in range(most)]
    durations = [1200, *[every] * (len(frames) - 2), 2500]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=55, method=6)
