"""Run a real ComfyUI as a child process: start it, queue prompts, follow them, stop it.

``quickstart.py``, the host and browser tests and one benchmark use it. It is not part of the node
pack and knows nothing about music. Only ``run`` needs a package (aiohttp, which every ComfyUI
environment has); the rest is standard library.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

OnEvent = Callable[[str, dict], None]
Prompt = dict  # ComfyUI's API format: node id -> {"class_type", "inputs"}

SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else the first visit opens a dialog over everything
    "Comfy.OnboardingCoachmarks.Seen": ["appMode", "firstRun"],  # else App mode does so from frontend 1.48 on
    "Comfy.InstalledVersion": "1.47.12",
    "Comfy.Locale": "en",
}
PREVIEW_IMAGE, PREVIEW_TEXT, PREVIEW_IMAGE_WITH_METADATA = 1, 3, 4  # binary message types


class ComfyError(RuntimeError):
    """ComfyUI could not start, refused a prompt, or failed in a node. The message is one sentence."""


def prepare_base(base: Path, pack: Path, name: str = "musicgen") -> None:
    """Make ``base`` a ComfyUI base directory with ``pack`` linked in under custom_nodes."""
    for folder in ("input", "output", "models/musicgen", "custom_nodes", "user/default"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    settings = base / "user" / "default" / "comfy.settings.json"
    if not settings.exists():
        settings.write_text(json.dumps(SETTINGS, indent=2), encoding="utf-8")
    link_folder(base / "custom_nodes" / name, pack)


def link_folder(link: Path, target: Path) -> None:
    """Make ``link`` a symbolic link to ``target``, or on Windows a junction."""
    if os.path.realpath(link) == os.path.realpath(target):
        return
    if link.is_symlink():
        link.unlink()
    elif os.path.lexists(link):
        try:
            os.rmdir(link)  # removes a Windows junction or an empty folder, nothing else
        except OSError:
            raise ComfyError(f"{link} is in the way of the link to {target}; remove it.") from None
    if os.name == "nt":
        command = ["cmd", "/c", "mklink", "/J", str(link), str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    else:
        link.symlink_to(target, target_is_directory=True)


def describe_failure(entry: dict) -> str | None:
    """Describe the failure in a history entry in one sentence; None if the prompt succeeded."""
    status = entry.get("status") or {}
    if status.get("status_str") == "success":
        return None
    for kind, data in status.get("messages", []):
        if kind == "execution_error":
            message = " ".join(str(data.get("exception_message", "")).split())
            return f"{data.get('node_type')}: {message or data.get('exception_type')}"
        if kind == "execution_interrupted":
            return f"{data.get('node_type')}: interrupted"
    return "ComfyUI reports an error without a message; see its log"


def describe_refusal(answer: dict) -> str:
    """Describe in one sentence why POST /prompt refused a prompt."""
    parts = []
    for node in (answer.get("node_errors") or {}).values():
        for error in node.get("errors", []):
            text = " ".join(f"{error.get('message')}: {error.get('details')}".split())
            parts.append(f"{node.get('class_type')}: {text}")
    error = answer.get("error") or {}
    if not parts and isinstance(error, dict):
        parts.append(" ".join(f"{error.get('message')}: {error.get('details')}".split()))
    return "; ".join(parts) or str(error)


def _parse_binary(message: bytes) -> tuple[str, dict]:
    """Split one binary websocket message into the event's name and its data."""
    (kind,) = struct.unpack(">I", message[:4])
    body = message[4:]
    if kind == PREVIEW_IMAGE:
        return "preview", {"image": body[4:]}
    (length,) = struct.unpack(">I", body[:4])
    head, tail = body[4 : 4 + length], body[4 + length :]
    if kind == PREVIEW_IMAGE_WITH_METADATA:
        return "preview", {**json.loads(head), "image": tail}
    if kind == PREVIEW_TEXT:
        return "text", {"node": head.decode(), "text": tail.decode(errors="replace")}
    return "binary", {"kind": kind, "body": body}


class ProgressLine:
    """Print which node runs and its progress: a line that is updated in place, or one line per quarter."""

    def __init__(self, prompt: dict) -> None:
        self.prompt = prompt
        self.moving = sys.stdout.isatty()
        self.shown: tuple[str, int] | None = None

    def __call__(self, name: str, data: dict) -> None:
        """Print one event from ``ComfyServer.run``, if it reports new progress."""
        if name != "progress" or not data.get("max"):
            return
        node = self.prompt.get(str(data.get("node")), {}).get("class_type", "")
        share = min(1.0, data["value"] / data["max"])
        state = (node, int(share * 100) if self.moving else int(share * 4) * 25)
        if state == self.shown:
            return
        self.shown = state
        bar = ("#" * round(share * 30)).ljust(30, ".")
        text = f"  {node} [{bar}] {state[1]:3d}%"
        if self.moving:
            text = "\r" + text + ("\n" if share == 1.0 else "")
        else:
            text += "\n"
        sys.stdout.write(text)
        sys.stdout.flush()


def _free_port(preferred: int) -> int:
    """Return the preferred port if it is free, else any free port."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _accelerator_missing() -> bool:
    import torch  # here, since the import is slow; the environment that runs ComfyUI has it

    return not torch.accelerator.is_available()


class ComfyServer:
    """A ComfyUI server on 127.0.0.1 that runs from ``__enter__`` to ``__exit__``.

    It runs under this process's Python, in its own process group, and its output goes to ``log_path``.
    """

    def __init__(
        self,
        base: Path,
        comfyui: Path,
        extra_args: tuple[str, ...] = (),
        *,
        port: int = 0,
        start_timeout: float = 300.0,
    ) -> None:
        """Choose a port; nothing starts yet.

        Args:
            base: the base directory; see ``prepare_base``.
            comfyui: the folder that holds ComfyUI's main.py.
            extra_args: further arguments for main.py.
            port: the port to use if it is free; 0 for any.
            start_timeout: seconds to wait for the server's first answer.
        """
        self.base, self.comfyui = Path(base).resolve(), Path(comfyui).resolve()
        self.extra_args = tuple(extra_args)
        self.start_timeout = start_timeout
        self.port = _free_port(port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = self.base / "server.log"
        self._process: subprocess.Popen | None = None
        # Ignore proxy settings, which are for other hosts than 127.0.0.1.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> ComfyServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self) -> list[str]:
        """Return the command line of the server."""
        database = (self.base / "user" / "comfyui.db").resolve().as_posix()
        line = [sys.executable, str(self.comfyui / "main.py"), "--listen", "127.0.0.1"]
        line += ["--port", str(self.port), "--base-directory", str(self.base)]
        line += ["--database-url", f"sqlite:///{database}"]
        line += ["--disable-auto-launch", "--disable-api-nodes"]
        line += ["--cpu"] if _accelerator_missing() and "--cpu" not in self.extra_args else []
        return [*line, *self.extra_args]

    def start(self) -> None:
        """Start the process and return once it answers.

        Raises:
            ComfyError: the process ended, or did not answer in time.
        """
        (self.base / "user").mkdir(parents=True, exist_ok=True)
        environment = {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8", **os.environ}
        options: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        command = self.command()
        with open(self.log_path, "wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.base,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **options,
            )
        deadline = time.monotonic() + self.start_timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ComfyError(f"ComfyUI ended while starting:\n{self.log_tail()}")
            try:
                self._get_json("/system_stats", timeout=2)
                return
            except OSError:
                time.sleep(0.1)
        raise ComfyError(f"ComfyUI did not answer in {self.start_timeout:.0f} s; {self.log_path}")

    def stop(self) -> None:
        """End the server and its child processes; do nothing if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        if os.name == "nt":
            tree = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
            subprocess.run(tree, check=False, capture_output=True)
            process.wait()
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(timeout=10)
                return
            except ProcessLookupError:
                process.wait()
                return
            except subprocess.TimeoutExpired:
                continue

    def wait(self) -> int:
        """Wait until the server ends by itself, and return its exit code."""
        return self._process.wait() if self._process else 0

    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of the running process."""
        if self._process is None:
            raise ComfyError("ComfyUI does not run.")
        return self._process.pid

    def log(self) -> str:
        """Return the server's output so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log().splitlines()[-lines:])

    def _request(self, path: str, data: object = None, timeout: float = 60) -> bytes:
        body = None if data is None else json.dumps(data).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=body, headers=headers)
        with self._opener.open(request, timeout=timeout) as answer:
            return answer.read()

    def _get_json(self, path: str, timeout: float = 60) -> Any:
        return json.loads(self._request(path, timeout=timeout))

    def object_info(self) -> dict:
        """Return every node's definition by node id."""
        return self._get_json("/object_info")

    def history(self, prompt_id: str) -> dict | None:
        """Return the history entry of a prompt; None until the prompt has ended."""
        return self._get_json(f"/history/{prompt_id}").get(prompt_id)

    def view(self, item: dict) -> bytes:
        """Fetch the file of an output item ``{"filename", "subfolder", "type"}``."""
        query = {key: item[key] for key in ("filename", "subfolder", "type") if key in item}
        return self._request("/view?" + urllib.parse.urlencode(query))

    def interrupt(self) -> None:
        """Ask the running prompt to stop."""
        self._request("/interrupt", {})

    def free(self) -> None:
        """Ask ComfyUI to unload its models and clear its cached results."""
        self._request("/free", {"unload_models": True, "free_memory": True})

    def queue(self, prompt: Prompt, client_id: str | None = None) -> str:
        """Queue a prompt and return its id.

        Raises:
            ComfyError: ComfyUI refused one of its nodes.
        """
        data: dict[str, Any] = {"prompt": prompt}
        if client_id:
            data["client_id"] = client_id
        try:
            answer = json.loads(self._request("/prompt", data))
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                reason = describe_refusal(json.loads(text))
            except ValueError:
                reason = f"HTTP {error.code}: {text[:200]}"
            raise ComfyError(reason) from None
        if answer["node_errors"]:  # 200 is also given when only some outputs are invalid
            raise ComfyError(describe_refusal(answer))
        return answer["prompt_id"]

    def run(self, prompt: Prompt, on_event: OnEvent | None = None, timeout: float = 3600) -> dict:
        """Queue a prompt, follow it to its end, and return its history entry.

        Args:
            prompt: nodes in ComfyUI's API format.
            on_event: called with a name and data for each event. Names come from the websocket
                ("progress", "executing", ...); "preview" has the bytes of a picture under "image".
            timeout: seconds to wait for the end.

        Returns:
            The history entry, also of a failed or interrupted prompt; see ``describe_failure``.

        Raises:
            ComfyError: ComfyUI refused the prompt or ended.
        """
        job = asyncio.wait_for(self._run(prompt, on_event), timeout)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(job)
        # This thread already runs an event loop (Playwright's, for one), so use another thread.
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            return executor.submit(asyncio.run, job).result()

    async def _run(self, prompt: Prompt, on_event: OnEvent | None) -> dict:
        import aiohttp

        client_id = uuid.uuid4().hex
        address = f"{self.url}/ws?clientId={client_id}"
        flags = {"supports_preview_metadata": True}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=0) as channel,
        ):
            await channel.send_json({"type": "feature_flags", "data": flags})
            prompt_id = self.queue(prompt, client_id)
            await self._follow(channel, prompt_id, on_event)
        entry = self.history(prompt_id)
        if entry is None:
            raise ComfyError(f"ComfyUI has no history of the prompt; see {self.log_path}")
        return entry

    async def _follow(self, channel: Any, prompt_id: str, on_event: OnEvent | None) -> None:
        """Pass events to ``on_event`` until the prompt has ended and its history is written."""
        async for message in channel:
            if isinstance(message.data, bytes):
                name, data = _parse_binary(message.data)
            else:
                content = json.loads(message.data)
                name, data = content["type"], content.get("data") or {}
            if data.get("prompt_id", prompt_id) != prompt_id:
                continue
            if on_event is not None:
                on_event(name, data)
            if name == "executing" and data.get("node") is None and "prompt_id" in data:
                return
        raise ComfyError(f"ComfyUI ended while it was working:\n{self.log_tail()}")
