"""Rendering through running ComfyUI servers: one prompt of a graph for each piece, through each server's own queue.

The graph is a file in the API's format with a MusicGen Catalogue node. For each piece this node's links are replaced by
the piece's values, so the catalogue need not be on the servers. Nothing of ComfyUI is imported here: a server is asked
over HTTP.
"""

from __future__ import annotations

import copy
import hashlib
import json
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..generation.params import GenerationParams
from ..writing import write_file
from .jobs import Engine, Lines
from .outputs import AUDIO, failed_line
from .pieces import Piece
from .renderer import TRIES, Failure
from .rows import Fault, Row

NODE = "MusicGenCatalogue"
_COLUMNS = ("id", "description", "negative", "duration", "seed", "seeds")
_AHEAD = 2
"""Prompts that wait or run in each server's queue, so that it never waits for this program."""
_POLL = 0.3
_TIMEOUT = 60.0
_GONE_AFTER = 60.0
"""Seconds without an answer from any server after which the run ends."""


class ServerError(OSError):
    """No server answers any more."""


def read_graph(path: str | Path) -> dict[str, Any]:
    """Read a graph in the API's format.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no such graph, or none with exactly one catalogue node.
    """
    try:
        graph = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); allowed is a graph saved with Export (API).") from error
    is_graph = isinstance(graph, dict) and all(
        isinstance(node, dict) and "class_type" in node for node in graph.values()
    )
    if not is_graph:
        raise ValueError(f"{path} holds no graph in the API's format; save it with Export (API) in ComfyUI.")
    found = [key for key, node in graph.items() if node["class_type"] == NODE]
    if len(found) != 1:
        raise ValueError(f"{path} has {len(found)} nodes of the kind {NODE}; allowed is one, whose rows are rendered.")
    return graph


def graph_pieces(rows: Sequence[Row], graph: Mapping[str, Any]) -> tuple[list[Piece], list[Fault]]:
    """Return the pieces of rows for a graph, which is part of their recipe, and the faults of the others.

    Args:
        rows: good rows of a catalogue, each with a duration.
        graph: from :func:`read_graph`; it has the model.
    """
    same = {key: node.get("inputs") for key, node in graph.items() if node["class_type"] != NODE}
    digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:32]
    pieces: list[Piece] = []
    faults: list[Fault] = []
    taken: dict[str, int] = {}
    for row in rows:
        allowed = f"none: the graph decides on it; columns for a graph are {', '.join(_COLUMNS)}"
        unused = [name for name in row.values if name not in _COLUMNS]
        faults += [Fault(row.line, name, row.values[name], allowed) for name in unused]
        for name, seed in row.pieces(row.values.get("id") or f"row-{row.line}"):
            if taken.setdefault(name.casefold(), row.line) != row.line:
                faults.append(Fault(row.line, "id", name, f"an id of its own; line {taken[name.casefold()]} has it"))
                break
            if not unused:
                pieces.append(
                    Piece(
                        id=name,
                        line=row.line,
                        model="",
                        dtype="auto",
                        description=row.values.get("description", ""),
                        negative=row.values.get("negative", ""),
                        params=GenerationParams(row.values["duration"], seed=seed),
                        sources={"graph": digest},
                        columns=row.columns,
                    )
                )
    return pieces, faults


def prompt_of(graph: Mapping[str, Any], piece: Piece) -> dict[str, Any]:
    """Return the graph for one piece: values in the place of links to the catalogue node, which is left out."""
    columns = json.dumps(dict(piece.columns), ensure_ascii=False)
    values = [piece.description, piece.negative, piece.seconds, piece.params.seed, f"catalogue/{piece.id}", columns]
    prompt = {key: copy.deepcopy(node) for key, node in graph.items() if node["class_type"] != NODE}
    for node in prompt.values():
        for name, value in node.get("inputs", {}).items():
            if isinstance(value, list) and len(value) == 2 and value[0] in graph and value[0] not in prompt:
                node["inputs"][name] = values[value[1]]
    return prompt


@dataclass(frozen=True)
class _Task:
    piece: Piece
    tries: int = 0


def servers_engine(folder: Path, graph: Mapping[str, Any], urls: Sequence[str]) -> Engine:
    """Return an engine that renders pieces of :func:`graph_pieces` on servers.

    Pieces of a server that stops answering go to the others, and it gets new ones once it answers again. A piece that
    fails three times is given up.

    Args:
        folder: the output folder; the servers keep their own copies of the sounds.
        graph: from :func:`read_graph`.
        urls: addresses such as `http://127.0.0.1:8188`.
    """

    def engine(pieces: Sequence[Piece]) -> Iterator[Lines]:
        tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        for piece in pieces:
            tasks.put(_Task(piece))
        answers: queue.SimpleQueue[Lines | BaseException] = queue.SimpleQueue()
        over = threading.Event()
        clients = [_Client(_Server(url), folder, graph, tasks, answers, over) for url in urls]
        for client in clients:
            client.start()
        left = len(pieces)
        try:
            while left:
                try:
                    answer = answers.get(timeout=_POLL)
                except queue.Empty:
                    if all(client.silent > _GONE_AFTER for client in clients):
                        reasons = "; ".join(f"{client.server.url}: {client.reason}" for client in clients)
                        raise ServerError(f"no server answers any more ({reasons}).") from None
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                left -= len(answer)
                yield answer
        finally:
            over.set()
            for client in clients:
                client.join()

    return engine


class _Server:
    """The few requests to one ComfyUI that are needed."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # Ignore proxy settings where the server is this machine.
        local = urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        self._opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))

    def ask(self, path: str, data: object = None) -> bytes:
        """Return the answer to a GET, or with data to a POST of JSON."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": "application/json"})
        with self._opener.open(request, timeout=_TIMEOUT) as answer:
            return bytes(answer.read())

    def queue(self, prompt: Mapping[str, Any]) -> str:
        """Queue a prompt and return its id; raise ValueError with the server's reason if it refuses."""
        try:
            return str(json.loads(self.ask("/prompt", {"prompt": prompt}))["prompt_id"])
        except urllib.error.HTTPError as error:
            raise ValueError(f"the server refuses the graph: {_refusal(error.read())}") from error

    def waiting(self) -> set[str]:
        """Return the ids of the prompts that wait or run."""
        found = json.loads(self.ask("/queue"))
        return {entry[1] for entry in (*found["queue_running"], *found["queue_pending"])}

    def history(self, prompt: str) -> dict[str, Any] | None:
        """Return the record of a prompt that has ended; None if the server knows none."""
        found: dict[str, Any] = json.loads(self.ask(f"/history/{prompt}"))
        return found.get(prompt)

    def view(self, item: Mapping[str, str]) -> bytes:
        """Return the bytes of a saved file."""
        names = {key: item[key] for key in ("filename", "subfolder", "type") if key in item}
        return self.ask("/view?" + urllib.parse.urlencode(names))


class _Client(threading.Thread):
    """Keeps the queue of one server filled, and collects its sounds."""

    def __init__(
        self,
        server: _Server,
        folder: Path,
        graph: Mapping[str, Any],
        tasks: queue.SimpleQueue[_Task],
        answers: queue.SimpleQueue[Lines | BaseException],
        over: threading.Event,
    ) -> None:
        super().__init__(daemon=True)
        self.server, self.reason = server, ""
        self._folder, self._graph, self._tasks, self._answers, self._over = folder, graph, tasks, answers, over
        self._queued: dict[str, _Task] = {}
        self._answered = time.monotonic()

    @property
    def silent(self) -> float:
        """Seconds since the server's last answer."""
        return time.monotonic() - self._answered

    def run(self) -> None:
        """Work until the run is over."""
        while not self._over.is_set():
            try:
                self._collect()
                self._fill()
                self._answered = time.monotonic()
            except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
                self.reason = str(getattr(error, "reason", error))
                self._hand_back(self._queued)
            except BaseException as error:  # a full disk, or a fault of this program: the run ends with it
                self._answers.put(error)
                break
            self._over.wait(_POLL)
        with suppress(OSError, ValueError):
            self.server.ask("/queue", {"delete": list(self._queued)})

    def _fill(self) -> None:
        while len(self._queued) < _AHEAD:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return
            try:
                self._queued[self.server.queue(prompt_of(self._graph, task.piece))] = task
            except ValueError as error:
                self._answers.put([failed_line(Failure(task.piece, str(error)))])
            except BaseException:
                self._tasks.put(task)
                raise

    def _collect(self) -> None:
        if not self._queued:
            return
        waiting = self.server.waiting()
        for prompt in [prompt for prompt in self._queued if prompt not in waiting]:
            record = self.server.history(prompt)
            if record is None:  # the server was started anew
                self._hand_back([prompt])
                continue
            task, began = self._queued[prompt], time.monotonic()
            failure = _failure(record)
            if failure is None:
                self._answers.put([self._finished(task.piece, record)])
            elif task.tries + 1 >= TRIES:
                self._answers.put([failed_line(Failure(task.piece, failure))])
            else:
                self._tasks.put(_Task(task.piece, task.tries + 1))
            del self._queued[prompt]
            self._answered = max(began, self._answered)

    def _hand_back(self, prompts: Collection[str]) -> None:
        for prompt in list(prompts):
            self._tasks.put(self._queued.pop(prompt))

    def _finished(self, piece: Piece, record: Mapping[str, Any]) -> dict[str, Any]:
        """Fetch the sounds of a prompt; the manifest's line of its piece, with the first one as its file."""
        items = _sounds(record)
        files = []
        for number, item in enumerate(items):
            suffix = item["filename"].rpartition(".")[2]
            folder = hashlib.sha256(piece.id.encode()).hexdigest()[:2]
            name = f"{AUDIO}/{folder}/{piece.id}{f'.{number + 1}' if number else ''}.{suffix}"
            data = self.server.view(item)
            (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_file(self._folder / name, lambda file, data=data: file.write(data))  # type: ignore[misc]
            files.append({"file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
        times = [data["timestamp"] for _, data in record["status"]["messages"] if "timestamp" in data]
        return {
            "id": piece.id,
            "status": "done",
            "line": piece.line,
            "digest": piece.digest(),
            **({"columns": dict(piece.columns)} if piece.columns else {}),
            **files[0],
            **({"more": files[1:]} if files[1:] else {}),
            "seconds": piece.seconds,
            "took": (max(times) - min(times)) / 1000 if times else 0.0,
            "worker": self.server.url,
            "recipe": piece.recipe(),
        }


def _refusal(answer: bytes) -> str:
    """The reasons in a server's refusal."""
    text = answer.decode(errors="replace")
    try:
        nodes = json.loads(text)["node_errors"].values()
        found = [
            f"{node['class_type']}: {error['message']}: {error['details']}"
            for node in nodes
            for error in node["errors"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        found = []
    return "; ".join(found) or " ".join(text.split())[:300]


def _sounds(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """The saved sounds of a prompt."""
    items = [item for output in record["outputs"].values() for item in output.get("audio", [])]
    return [item for item in items if item.get("type") == "output"]


def _failure(record: Mapping[str, Any]) -> str | None:
    """Why a prompt failed; None if it succeeded and saved a sound."""
    status = record.get("status") or {}
    if status.get("status_str") == "success":
        return None if _sounds(record) else "the graph saved no sound; end it in a node such as Save Audio."
    for kind, data in status.get("messages", []):
        if kind == "execution_error":
            return f"{data.get('node_type')}: {' '.join(str(data.get('exception_message', '')).split())[:300]}"
    return "the prompt was interrupted, or failed without a message"
