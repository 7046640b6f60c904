"""Bytes from an address into a file: resumed where it stopped, tried again, hashed, and cancelled at any block.

It knows nothing of models or of repositories. Tokens, offline mode and sessions are those of the package
`huggingface_hub`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

_PAUSES = (0.5, 1.0, 2.0)
_BLOCK = 1 << 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_ERRORS = (*_DISK_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT, errno.EIO)

T = TypeVar("T")


class CancelledError(Exception):
    """The caller has cancelled; nobody waits for the rest."""


class RefusedError(Exception):
    """No further attempt would change the answer; the text is the reason."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its address, its place in the folder, and the size and hash that the hub states."""

    url: str
    place: str
    size: int
    etag: str

    def digest(self) -> Any:
        """A fresh hash of the kind that the hub states: of the file, or of git's object of it; None for neither."""
        if re.fullmatch("[0-9a-f]{64}", self.etag):
            return hashlib.sha256()
        if re.fullmatch("[0-9a-f]{40}", self.etag):
            return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        return None


class Transfer:
    """Fetches one file after another, in one thread; others may read its numbers and cancel it.

    finished: bytes of the files that are whole. current: bytes of the file that is being fetched. file: its place.
    """

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.finished = 0
        self.current = 0
        self.file = ""

    def check(self) -> None:
        """Raise CancelledError if the caller has cancelled."""
        if self.cancelled.is_set():
            raise CancelledError

    def again(self, action: Callable[[], T]) -> T:
        """Try until it works, a bounded number of times without a new byte."""
        failures = 0
        while True:
            before = self.current
            try:
                self.check()
                return action()
            except Exception as error:
                failures = 0 if self.current > before else failures
                if _is_final(error) or failures == len(_PAUSES):
                    raise
                self.cancelled.wait(_PAUSES[failures])
                failures += 1

    def fetch(self, file: RemoteFile, path: Path) -> None:
        """Bring `file` to `path`, unless it is there, and go on from a `.part` beside it."""
        self.file, self.current = file.place, 0
        if not path.is_file():
            part = path.with_name(f"{path.name}.part")
            part.parent.mkdir(parents=True, exist_ok=True)
            digest = self.again(partial(self._pull, file, part))
            if digest is not None and digest.hexdigest() != file.etag:
                part.unlink()
                raise RefusedError(f"{file.place} arrived damaged (the hub states another hash), so run it again")
            os.replace(part, path)
        self.finished, self.current = self.finished + file.size, 0

    def _pull(self, file: RemoteFile, part: Path) -> Any:
        """Bring a partial file to its full size; the hash of the whole."""
        with open(part, "a+b") as out:
            digest = self._read(out, file)
            if self.current < file.size:
                digest = self._receive(out, file, digest)
            out.flush()
            os.fsync(out.fileno())
        if self.current != file.size:
            raise ConnectionError(f"{self.current} of {file.size} bytes of {file.place} arrived")
        return digest

    def _read(self, out: Any, file: RemoteFile) -> Any:
        """Hash the bytes that are there."""
        digest, self.current = file.digest(), 0
        if os.fstat(out.fileno()).st_size > file.size:
            out.truncate(0)
        out.seek(0)
        while block := out.read(_BLOCK):
            self.check()
            self._count(block, digest)
        return digest

    def _receive(self, out: Any, file: RemoteFile, digest: Any) -> Any:
        with _get(file.url, self.current) as (resumes, blocks):
            if self.current and not resumes:
                out.truncate(0)
                digest, self.current = file.digest(), 0
            for block in blocks:
                self.check()
                if self.current + len(block) > file.size:
                    raise RefusedError(f"{file.place} is longer than the {file.size} bytes that the hub states")
                out.write(block)
                self._count(block, digest)
        return digest

    def _count(self, block: bytes, digest: Any) -> None:
        if digest is not None:
            digest.update(block)
        self.current += len(block)


@contextmanager
def _get(url: str, start: int) -> Iterator[tuple[bool, Iterator[bytes]]]:
    """Ask for a file from byte `start` on: whether the answer begins there, and its blocks as they come."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    session: Any = get_session()
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    if callable(getattr(session, "stream", None)):
        request = session.stream("GET", url, headers=headers, timeout=timeout)
    else:  # huggingface_hub before 1.0 is built on requests
        request = session.get(url, headers=headers, timeout=timeout, stream=True)
    with request as response:
        if response.status_code >= 400:
            response.read() if hasattr(response, "read") else response.content
            hf_raise_for_status(response)
        blocks = response.iter_bytes() if hasattr(response, "iter_bytes") else response.iter_content(1 << 16)
        yield response.status_code == 206, blocks


def _is_final(error: Exception) -> bool:
    """Whether no further attempt would change it."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, CancelledError | RefusedError | OfflineModeIsEnabled):
        return True
    status = _status(error)
    if status is not None:
        return status < 500 and status not in (408, 429)
    return isinstance(error, OSError) and error.errno in _DISK_ERRORS


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def reason(error: Exception) -> str:
    """Why a transfer ended, as a part of a sentence, with the remedy where there is one."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on (HF_HUB_OFFLINE)"
    status = _status(error)
    if status in (401, 403):
        return f"the hub answers {status}, no permission (accept the licence there, then `hf auth login` or HF_TOKEN)"
    if status is not None:
        return f"the hub answers {status}{', not found' if status == 404 else ''}"
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return f"it cannot be written ({error.strerror}), and goes on where it stopped once it can"
    lines = f"{type(error).__name__} {error}".splitlines()
    return f"the connection failed ({lines[0].rstrip('.')}); run it again, and it goes on where it stopped"
