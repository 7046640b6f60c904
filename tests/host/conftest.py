"""One real ComfyUI server for the whole run, with this pack linked in, and what tests do with it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dev.comfy_server import ComfyServer, describe_failure, prepare_base
from tests.hub import Hub, serve

ROOT = Path(__file__).resolve().parents[2]
RATE = 32000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.host)


def blueprints(server: ComfyServer) -> dict[str, dict]:
    """The boxes of node packs that hold a graph, as workflows by their names."""
    read = server._get_json
    listed = {
        key: entry["name"] for key, entry in read("/global_subgraphs").items() if entry["source"] == "custom_node"
    }
    return {name: json.loads(read(f"/global_subgraphs/{key}")["data"]) for key, name in listed.items()}


class Host:
    """The server and the words the tests are written in."""

    def __init__(self, server: ComfyServer) -> None:
        self.server = server
        self.base = server.base
        self.models = server.base / "models" / "musicgen"
        self._runs = 0
        self._older = "SaveAudioAdvanced" not in server.object_info()

    def workflow(
        self,
        name: str,
        *,
        model: str | None = None,
        dtype: str | None = None,
        audio: str | None = None,
        text: str | None = None,
        folder: Path = ROOT / "workflows" / "api",
        **sampler: Any,
    ) -> dict:
        """A workflow of the project, 1 s short, with inputs changed; its seed is a fresh one unless given."""
        self._runs += 1
        prompt = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        changes = {
            "MusicGenLoader": {"model": model, "dtype": dtype},
            "LoadAudio": {"audio": audio},
            "MusicGenTextEncode": {"text": text},
            "MusicGenSampleTokens": {"duration": 1.0, "seed": self._runs, **sampler},
            "SaveAudioAdvanced": {"filename_prefix": f"audio/{name}_{self._runs}"},
        }
        for node in prompt.values():
            found = changes.get(node["class_type"], {})
            node["inputs"].update({key: value for key, value in found.items() if value is not None})
        return self.for_this_version(prompt)

    def for_this_version(self, prompt: dict) -> dict:
        """A prompt in the words of this ComfyUI: before 0.26 it had another saver."""
        for node in prompt.values():
            if self._older and node["class_type"] == "SaveAudioAdvanced":
                node["class_type"] = "SaveAudio"
                node["inputs"] = {key: node["inputs"][key] for key in ("audio", "filename_prefix")}
        return prompt

    def play(self, prompt: dict, on_event: Callable[[str, dict], None] | None = None) -> tuple[np.ndarray, int]:
        """Run a prompt that must succeed and save one sound: as float [C, L], and its sample rate."""
        (sound,) = self.play_batch(prompt, on_event)
        return sound

    def play_batch(
        self, prompt: dict, on_event: Callable[[str, dict], None] | None = None
    ) -> list[tuple[np.ndarray, int]]:
        """Run a prompt that must succeed; all that it saves, as :meth:`play` has it."""
        entry = self.server.run(self.for_this_version(prompt), on_event, timeout=300)
        assert describe_failure(entry) is None
        items = [item for output in entry["outputs"].values() for item in output.get("audio", [])]
        items = [item for item in items if item["type"] == "output"]  # players have files of their own
        return [decode(self.server.view(item)) for item in items]

    def fail(self, prompt: dict) -> tuple[str, str]:
        """Run a prompt that a node must refuse; the exception's type and message."""
        entry = self.server.run(self.for_this_version(prompt), timeout=300)
        errors = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
        assert len(errors) == 1, f"expected one error, history says {entry['status']}"
        return errors[0]["exception_type"], errors[0]["exception_message"].strip()

    def record(self, name: str, samples: np.ndarray, rate: int = RATE) -> str:
        """Write float samples [L] or [C, L] as a WAV file into ComfyUI's input folder; its name."""
        frames = (np.atleast_2d(samples).T * 32767).astype("<i2")
        with wave.open(str(self.base / "input" / name), "wb") as file:
            file.setnchannels(frames.shape[1])
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(frames.tobytes())
        return name

    @staticmethod
    def tune(notes: Sequence[float], seconds_each: float = 0.5) -> np.ndarray:
        """A melody of sine tones [L] at 32 kHz."""
        time = np.arange(round(seconds_each * RATE)) / RATE
        return np.concatenate([0.5 * np.sin(2 * np.pi * note * time) for note in notes])


def complaints(log: str) -> list[str]:
    """The lines in which ComfyUI says that a pack did not load; some versions miss packages for nodes of their own."""
    words = ("IMPORT FAILED", "Cannot import", "Error while calling comfy_entrypoint")
    lines = [line for line in log.splitlines() if any(word in line for word in words)]
    return [line for line in lines if "custom_nodes" in line or "comfy_entrypoint" in line]


def decode(data: bytes) -> tuple[np.ndarray, int]:
    """An audio file's samples as float [C, L], and its sample rate."""
    import av

    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp")
        frames = [out.to_ndarray() for frame in container.decode(stream) for out in resampler.resample(frame)]
        return np.concatenate(frames, axis=1), stream.rate


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    """The only hub that the server can reach."""
    with serve() as hub:
        yield hub


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory, comfyui: Path, hub: Hub) -> Iterator[Host]:
    base = tmp_path_factory.mktemp("comfyui")
    prepare_base(base, ROOT)
    elsewhere = base / "elsewhere" / "musicgen"
    shutil.copytree(ROOT / "models" / "musicgen-nano", elsewhere / "family" / "small")
    paths = base / "extra_model_paths.yaml"
    paths.write_text(json.dumps({"elsewhere": {"base_path": str(elsewhere.parent), "musicgen": "musicgen"}}))
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_ENDPOINT", hub.address)
            patch.setenv("HF_HOME", str(base / "home"))
            patch.setenv("HF_HUB_OFFLINE", "0")
            patch.setenv("NO_PROXY", "127.0.0.1,localhost")
            server = stack.enter_context(ComfyServer(base, comfyui, ("--extra-model-paths-config", str(paths))))
        host = Host(server)
        host.record("melody.wav", host.tune([440.0, 523.25, 659.25, 523.25]))
        host.record("recording.wav", host.tune([220.0, 329.63], 0.25))
        yield host
