"""Pictures and players on a node, through the files that ComfyUI's frontend reads."""

from __future__ import annotations

import secrets
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io, ui
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from torch import Tensor

from ...musicgen.codec.growing import GrowingDecoder
from ...musicgen.generation.partial import complete_frames
from .patchers import is_whole
from .progress import logger

SHARE = 0.04
"""Share of the time of sampling that a growing player may take."""
INTERVAL = 1.5
"""Least seconds between two versions of a growing sound."""
GAP = 0.5
"""Seconds of silence between the items of a batch in a player."""

_TEMPORARY = "ComfyUI_temp_musicgen_"
_PROBE_AFTER, _PROBE_FRAMES = 0.75, 10
_GROWTH = 0.2
_KEPT_FILES = 3


def pictures(images: Tensor, node: Any) -> dict[str, Any]:
    """Show images [B, H, W, 3] on a node."""
    name = f"{_TEMPORARY}{secrets.token_hex(4)}"  # core's own preview draws its name from the global generator
    files = ui.ImageSaveHelper.save_images(
        images, filename_prefix=name, folder_type=io.FolderType.temp, cls=node, compress_level=1
    )
    return {"images": files, "animated": (False,)}


def player(audio: dict[str, Any], node: Any) -> dict[str, Any]:
    """Play AUDIO on a node: the items of a batch one after another, and then each as a file of its own."""
    waveform, rate = audio["waveform"], audio["sample_rate"]
    files = _audio_files(waveform, rate, node)
    if len(waveform) > 1:
        files = [*_audio_files(in_a_row(waveform, rate)[None], rate, node), *files]
    return {"audio": files}


def _audio_files(waveform: Tensor, sample_rate: int, node: Any) -> list[Any]:
    """Write each item as a temporary file, with the workflow in it."""
    audio, name = {"waveform": waveform, "sample_rate": sample_rate}, f"{_TEMPORARY}{secrets.token_hex(4)}"
    return list(ui.AudioSaveHelper.save_audio(audio, name, io.FolderType.temp, node, "flac"))


def in_a_row(waveform: Tensor, sample_rate: int) -> Tensor:
    """Items [B, C, L] -> one sound [C, L'] with silence between them."""
    silence = waveform.new_zeros(waveform.shape[1], round(GAP * sample_rate))
    parts = [part for item in waveform for part in (silence, item)]
    return torch.cat(parts[1:], dim=1)


def starts_in_a_row(count: int, seconds: float) -> list[float]:
    """The seconds at which the items of a batch begin in its player."""
    return [index * (seconds + GAP) for index in range(count)]


class GrowingPlayer:
    """Plays a piece on its node as far as it exists, while it is sampled: the first item of a batch.

    It decodes only what is new, and only as much as a small share of the time allows. The frontend starts the player
    anew with each version, so that the time between versions grows with the time that has passed.
    """

    def __init__(self, codec: Any, node_id: str | None) -> None:
        """codec: a CodecHandle."""
        self.patcher = codec.patcher
        self._module, self._node_id = codec.patcher.model, node_id
        self._name, self._number = f"musicgen_{secrets.token_hex(4)}", 0
        self._sound: list[Tensor] = []
        self._frames = 0
        self._files: list[Path] = []
        self._spent = self._per_frame = self._sending = 0.0

    def memory_required(self) -> int:
        """Bytes that decoding takes besides the weights."""
        return int(self._module.memory_required(2 * self._module.sample_rate))

    def start(self) -> Callable[[Any], None] | None:
        """The function to call after every step; none where nobody listens or the codec does not fit on the device."""
        from server import PromptServer

        server = getattr(PromptServer, "instance", None)
        if server is None or server.client_id is None or self._node_id is None:
            return None
        if not is_whole(self.patcher):
            logger.info("The piece is not played while it is sampled: its codec does not fit beside the model.")
            return None
        self._server = server
        self._decoder = GrowingDecoder(self._module)
        self._began = time.monotonic()
        self._due = self._began + _PROBE_AFTER
        return self._watch

    def shown(self) -> dict[str, Any] | None:
        """The node's output for the frontend: the latest version, or none."""
        return {"audio": [_entry(self._files[-1])]} if self._files else None

    def _watch(self, progress: Any) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._grow(progress.codes()[:1], SHARE * (now - self._began) - self._spent)
        end = time.monotonic()
        self._spent += end - now
        # The next version comes when a second of it is affordable.
        expected = self._sending + self._per_frame * self._module.frame_rate
        interval = max(INTERVAL, _GROWTH * (end - self._began)) if self._files else 0.0
        self._due = max(now + interval, self._began + (self._spent + expected) / SHARE)

    def _grow(self, codes: Tensor, seconds: float) -> None:
        """Decode new frames of codes [1, K, T], as many as take these seconds, and show the sound."""
        new = int(complete_frames(codes)) - self._frames
        allowed = _PROBE_FRAMES
        if self._per_frame:
            allowed = max(0, int((seconds - self._sending) / self._per_frame))
        if (count := min(new, allowed)) <= 0:
            return
        began = time.monotonic()
        self._sound.append(self._decoder.push(codes[0, :, self._frames : self._frames + count]))
        self._frames += count
        decoded = time.monotonic()
        probe, self._per_frame = not self._per_frame, (decoded - began) / count
        if not probe:
            self._send()
            self._sending = time.monotonic() - decoded

    def _send(self) -> None:
        """Write the sound so far to a new file, and let the node's player open it."""
        sound = torch.cat(self._sound, dim=1)
        self._sound = [sound]
        if not sound.shape[1]:
            return
        self._number += 1
        path = _write_wave(f"{self._name}_{self._number:05}.wav", sound, self._module.sample_rate)
        self._files.append(path)
        while len(self._files) > _KEPT_FILES:
            self._files.pop(0).unlink(missing_ok=True)
        _send_output(self._server, self._node_id, {"audio": [_entry(path)]})


def play_meanwhile(sounds: list[Tensor], sample_rate: int, node_id: str | None, name: str) -> dict[str, Any] | None:
    """Play sounds [C, L] on a node while it runs, one after the other and each alone; the output that it has then,
    None where nobody listens. name: a part of the files' names."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None or server.client_id is None or node_id is None:
        return None
    start = f"musicgen_{secrets.token_hex(4)}_{name.replace(' ', '_')}"
    whole = in_a_row(torch.stack(sounds), sample_rate)
    files = [_write_wave(f"{start}_{index}.wav", each, sample_rate) for index, each in enumerate([whole, *sounds])]
    output = {"audio": [_entry(path) for path in files]}
    _send_output(server, node_id, output)
    return output


def _write_wave(name: str, sound: Tensor, sample_rate: int) -> Path:
    """Write a sound [C, L] as a temporary file of 16 bits."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with wave.open(str(path), "wb") as file:
        file.setnchannels(sound.shape[0])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((sound.clamp(-1, 1) * 32767).to(torch.int16).t().contiguous().numpy().tobytes())
    return path


def _send_output(server: Any, node_id: Any, output: dict[str, Any]) -> None:
    """Show an output on a node in the midst of its run."""
    context = get_executing_context()
    data = {
        "node": node_id,
        "display_node": _display_id(node_id),
        "output": output,
        "prompt_id": server.last_prompt_id if context is None else context.prompt_id,
    }
    server.send_sync("executed", data, server.client_id)


def _entry(path: Path) -> dict[str, str]:
    return {"filename": path.name, "subfolder": "", "type": "temp"}


def _display_id(node_id: Any) -> Any:
    """The node on the canvas that stands for a node that another one expanded into."""
    return get_progress_state().dynprompt.get_display_node_id(node_id)
