"""A hub of model repositories on this machine, as far as huggingface_hub asks one, with faults on demand.

It answers for what a repository holds, and for its files: small ones itself, large ones (.safetensors and .bin) by a
redirect to a second path that takes ranges. Tests set its attributes between requests.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0ff"


class Hub(ThreadingHTTPServer):
    """The server, its repositories and its faults."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.address = f"http://127.0.0.1:{self.server_port}"
        # By another name, as large files come from another host.
        self.store = f"http://localhost:{self.server_port}"
        self.requests: list[tuple[str, str, str | None]] = []
        self.tokens: set[tuple[str, str | None]] = set()  # first part of the path, authorization
        self.mend()

    def mend(self) -> None:
        """No faults, and no memory of requests."""
        self.refuse: dict[str, int] = {}  # pattern of a path -> status
        self.cuts: list[int] = []  # bytes after which the next answers of large files break off
        self.rate: int | None = None  # bytes a second of large files
        self.stall_after: int | None = None  # bytes of a large file after which nothing more comes
        self.go_on = threading.Event()
        self.damage: str | None = None  # file whose last byte is wrong
        self.lengthen: str | None = None  # file that is longer than stated
        self.sizes: dict[str, int] = {}  # file -> size stated instead of its own
        self.bare = False  # the list states neither sizes nor hashes
        self.no_ranges = False  # ranges are answered with 416
        self.pages: str | None = None  # pattern of a path that is answered with a web page
        self.busy: list[str] = []  # the Retry-After of the next answers, which are 429
        self.ranges = True
        self.requests.clear()
        self.tokens.clear()

    def add(self, repo: str, folder: Path, **others: bytes) -> None:
        """Serve the files of a folder, and others by their names (dots written as two underscores)."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        self.repositories[repo] = files | {name.replace("__", "."): data for name, data in others.items()}

    def fetched(self) -> list[str]:
        """Names of the files whose contents were asked for, redirects not counted."""
        return [path.rsplit("/", 1)[1] for method, path, _ in self.requests if method == "GET" and "/api/" not in path
                and not (path.startswith("/facebook") and _is_large(path))]  # fmt: skip

    def resumed(self) -> list[str]:
        """The ranges that were asked for."""
        return [asked for _, path, asked in self.requests if asked and path.startswith("/cdn/")]


@contextmanager
def serve() -> Iterator[Hub]:
    """A running hub."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        hub.shutdown()
        hub.server_close()


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        self.server.tokens.add((path.split("/")[1], self.headers.get("Authorization")))
        status = next((code for form, code in self.server.refuse.items() if re.search(form, path)), None)
        if status is not None:
            return self._send(status, b'{"error": "refused"}', {})
        if self.server.busy:
            return self._send(429, b"", {"Retry-After": self.server.busy.pop(0)})
        if self.server.pages and re.search(self.server.pages, path):
            return self._send(200, b"<html>Please log in.</html>", {"Content-Type": "text/html; charset=utf-8"})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(/revision/\w+)?", path):
            return self._list(match[1])
        match = re.fullmatch(r"(/cdn)?/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path)
        files = self.server.repositories.get(match[2], {}) if match else {}
        if match is None or match[4] not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        self._file(path, match[4], files[match[4]], body, large=bool(match[1]))

    def _list(self, repo: str) -> None:
        if repo not in self.server.repositories:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        siblings = [self._listed(name, data) for name, data in self.server.repositories[repo].items()]
        answer = {"id": repo, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _listed(self, name: str, data: bytes) -> dict[str, object]:
        """A file in the list, as the parameter `blobs=true` asks for it."""
        if self.server.bare:
            return {"rfilename": name}
        size = self.server.sizes.get(name, len(data))
        large = {"sha256": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 130}
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {"rfilename": name, "size": size, "blobId": git} | ({"lfs": large} if _is_large(name) else {})

    def _file(self, path: str, name: str, data: bytes, body: bool, large: bool) -> None:
        size = self.server.sizes.get(name, len(data))
        if _is_large(name) and not large:
            etag = hashlib.sha256(data).hexdigest()
            headers = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(size), "X-Repo-Commit": COMMIT}
            return self._send(302, b"", {**headers, "Location": f"{self.server.store}/cdn{path}"})
        etag = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        if name == self.server.damage:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if name == self.server.lengthen:
            data += b"more"
        if self.headers.get("Range") and self.server.no_ranges:
            return self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        status, headers = 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        if (asked := self.headers.get("Range")) and self.server.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(data) - 1}/{len(data)}"
            data = data[start:]
        self._send(status, data, headers, body, large)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool = True, large: bool = False) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if body and self.command == "GET":
            self._write(data) if large else self.wfile.write(data)

    def _write(self, data: bytes) -> None:
        hub = self.server
        cut = hub.cuts.pop(0) if hub.cuts else None
        for start in range(0, len(data), 1 << 14):
            if cut is not None and start >= cut:
                self.close_connection = True
                return self.connection.close()
            if hub.stall_after is not None and start >= hub.stall_after:
                hub.go_on.wait()
            self.wfile.write(data[start : start + (1 << 14)])
            if hub.rate:
                time.sleep((1 << 14) / hub.rate)
