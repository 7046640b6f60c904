"""A hub on this machine whose answers are at fault at random: cut, wrong, refused, or a page in the place of a file.

    python benchmarks/faulty_hub.py FOLDER --seed 1 --share 0.4

Theory. Whatever it answers, a download ends in the whole file or in a sentence; faults.py counts the others.

It prints its address and serves the files of a folder as the repository `facebook/musicgen-small`, until it is ended.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

REPOSITORY = "facebook/musicgen-small"
COMMIT = "c0ffee" * 6 + "c0ff"
PAGE = b"<html><body>Please log in to the network of this hotel.</body></html>"
FAULTS = ("cut", "page", "other bytes", "longer", "shorter", "no range", "busy", "broken", "gone")


class FaultyHub(ThreadingHTTPServer):
    """The server. share: of the answers that are at fault; counts: how often each fault was given."""

    daemon_threads = True

    def __init__(self, folder: Path, seed: int, share: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        self.share, self.counts = share, dict.fromkeys(FAULTS, 0)
        self._random, self._lock = random.Random(seed), threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over connections that a killed process left; other errors are shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def fault(self) -> str:
        """Choose the fault of an answer, or an empty word."""
        with self._lock:
            if self._random.random() >= self.share:
                return ""
            chosen = self._random.choice(FAULTS)
            self.counts[chosen] += 1
            return chosen

    def cut(self, size: int) -> int:
        """Choose after how many bytes an answer breaks off."""
        with self._lock:
            return self._random.randrange(size) if size else 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        """Set the share of faulty answers, `/share/0.5`, and give the counts."""
        self.server.share = float(self.path.rpartition("/")[2])
        self._send(200, json.dumps(self.server.counts).encode(), {})

    def _answer(self) -> None:
        path, fault = unquote(urlsplit(self.path).path), self.server.fault()
        if fault == "page":
            return self._send(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        if fault == "busy":
            return self._send(429, b"", {"Retry-After": "1"})
        if fault == "broken":
            return self._send(503, b"", {})
        if fault == "gone":
            self.close_connection = True
            return None
        if path.startswith("/api/models/"):
            return self._send(200, self._list(), {"Content-Type": "application/json"})
        name = path.rpartition("/")[2]
        if name not in self.server.files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self._file(self.server.files[name], fault)

    def _list(self) -> bytes:
        siblings = []
        for name, data in self.server.files.items():
            git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
            large = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            entry = {"rfilename": name, "size": len(data), "blobId": git}
            siblings.append(entry | ({"lfs": large} if name.endswith(".safetensors") else {}))
        answer = {"id": REPOSITORY, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
        return json.dumps(answer).encode()

    def _file(self, data: bytes, fault: str) -> None:
        asked = self.headers.get("Range")
        if asked and fault == "no range":
            return self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        status, headers = 200, {"ETag": '"x"', "X-Repo-Commit": COMMIT}
        if asked:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(data) - 1}/{len(data)}"
            data = data[start:]
        if fault == "other bytes" and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        elif fault == "longer":
            data += b"more"
        elif fault == "shorter":
            data = data[: len(data) // 2]
        return self._send(status, data, headers, self.server.cut(len(data)) if fault == "cut" else None)

    def _send(self, status: int, data: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        try:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data if cut is None else data[:cut])
            self.close_connection = self.close_connection or cut is not None
        except OSError:  # whoever asked was killed
            self.close_connection = True


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the files of the repository")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.4, help="share of the answers that are at fault")
    arguments = parser.parse_args()
    hub = FaultyHub(arguments.folder, arguments.seed, arguments.share)
    print(f"http://127.0.0.1:{hub.server_port}", flush=True)
    hub.serve_forever()


if __name__ == "__main__":
    main()
