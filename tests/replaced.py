"""Small graphs of our own in the form of packs that are no longer kept up, as their users saved them."""

from __future__ import annotations

from typing import Any

# Their API form has `_meta` on every node, since the frontend writes it.
AUDIO_PACK = {
    "1": {"class_type": "MusicgenLoader", "inputs": {"model_name": "musicgen-small"}},
    "4": {"class_type": "LoadAudio", "inputs": {"audio": "recording.wav"}},
    "2": {
        "class_type": "MusicgenGenerate",
        "inputs": {
            "model": ["1", 0],
            "text": "slow jazz",
            "batch_size": 1,
            "duration": 1.0,
            "cfg": 3.0,
            "top_k": 250,
            "top_p": 0.0,
            "temperature": 1.0,
            "seed": 5,
            "audio": ["4", 0],
        },
    },
    "3": {"class_type": "PreviewAudio", "inputs": {"audio": ["2", 0]}},
}
SOUND_LAB = {
    "1": {
        "class_type": "Musicgen_",
        "inputs": {"prompt": "slow jazz", "seconds": 1.0, "guidance_scale": 4.0, "seed": 5, "device": "auto"},
    },
    "2": {"class_type": "AudioPlay", "inputs": {"audio": ["1", 0]}},
}


def with_titles(prompt: dict[str, Any]) -> dict[str, Any]:
    """A prompt as the frontend sends it: every node with its title."""
    return {key: {**node, "_meta": {"title": node["class_type"]}} for key, node in prompt.items()}


def saved_node(
    number: int, kind: str, inputs: list[tuple[str, str, int | None]], outputs: list[tuple[str, str, list[int]]],
    widgets: list[Any],
) -> dict[str, Any]:  # fmt: skip
    """A node of a saved workflow: inputs with their link, outputs with their links, values of widgets."""
    return {
        "id": number,
        "type": kind,
        "pos": [400 * number, 100],
        "size": [320, 260],
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": [{"name": name, "type": type_, "link": link} for name, type_, link in inputs],
        "outputs": [{"name": name, "type": type_, "links": links} for name, type_, links in outputs],
        "properties": {"Node name for S&R": kind},
        "widgets_values": widgets,
    }


HUGGING_FACE = {
    "last_node_id": 2,
    "last_link_id": 1,
    "nodes": [
        saved_node(
            1,
            "HuggingFaceMusicGen",
            [("conditioning_audio", "AUDIO", None)],
            [("audio", "AUDIO", [1]), ("info", "STRING", [])],
            ["small", 1.5, 4.0, True, 256, 42, "fixed", "groovy bassline with drums", 0.5, 0.0],
        ),
        saved_node(2, "PreviewAudio", [("audio", "AUDIO", 1)], [], []),
    ],
    "links": [[1, 1, 0, 2, 0, "AUDIO"]],
    "groups": [],
    "config": {},
    "extra": {},
    "version": 0.4,
}
