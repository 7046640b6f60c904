"""Bytes from an address into a file: resumed where it stopped, tried again, hashed, and cancelled at any block.

It knows nothing of models or of repositories. Tokens, offline mode and sessions are those of the package
`huggingface_hub`.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

_PAUSES = (0.5, 1.0, 2.0)
_LONGEST_PAUSE = 600.0
"""Seconds that are waited where the hub asks to; where it asks for more, the user is told so."""
_PAGES = ("text/html", "application/xhtml+xml")
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
    """A file of a repository: its address, its place in the folder, and the size and hash that the hub's list states.

    hash: of the file (SHA-256), or of git's object of it (SHA-1), in hexadecimal digits.
    """

    url: str
    place: str
    size: int
    hash: str

    def digest(self) -> Any:
        """A fresh hash of the kind that the hub states."""
        if len(self.hash) == 64:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


class Transfer:
    """Fetches one file after another, in one thread; others may read its numbers and cancel it.

    finished: bytes of the files that are whole. current: bytes of the file that is being fetched.
    """

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.finished = 0
        self.current = 0
        self._file = ""
        self._waits_until = 0.0

    @property
    def state(self) -> str:
        """The place of the file that is being fetched, and how long the hub asks to wait."""
        left = math.ceil(self._waits_until - time.monotonic())
        parts = [self._file] if self._file else []
        return ", ".join([*parts, f"the hub asks to wait {left} s"] if left > 0 else parts)

    def check(self) -> None:
        """Raise CancelledError if the caller has cancelled."""
        if self.cancelled.is_set():
            raise CancelledError

    def again(self, action: Callable[[], T]) -> T:
        """Try until it works, a bounded number of times without a new byte, and wait as long as the hub asks to."""
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
                pause = max(_PAUSES[failures], asked_pause(error))
                if pause > _LONGEST_PAUSE:
                    raise
                self._waits_until = time.monotonic() + pause
                self.cancelled.wait(pause)
                failures += 1

    def fetch(self, file: RemoteFile, path: Path) -> None:
        """Bring `file` to `path`, unless it is there, and go on from a `.part` beside it."""
        self._file, self.current = file.place, 0
        if not path.is_file():
            part = path.with_name(f"{path.name}.part")
            part.parent.mkdir(parents=True, exist_ok=True)
            resumes = part.is_file() and part.stat().st_size > 0
            arrived = self._arrives(file, part)
            if not arrived and resumes:  # the beginning may be that of another file
                self.current = 0
                arrived = self._arrives(file, part)
            if not arrived:
                raise RefusedError(f"{file.place} arrived damaged (the hub states another hash), so run it again")
            os.replace(part, path)
        self.finished, self.current = self.finished + file.size, 0

    def _arrives(self, file: RemoteFile, part: Path) -> bool:
        """Bring a partial file to its full size; whether it has the stated hash. It is removed where it has not."""
        if self.again(partial(self._pull, file, part)).hexdigest() == file.hash:
            return True
        part.unlink()
        return False

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
        with _get(file.url, self.current) as answer:
            if answer.status == 416:  # the file there is shorter than the part that is here
                self.current = 0
                out.truncate(0)
                raise ConnectionError(f"the hub cannot continue {file.place}")
            start = self.current if answer.status == 206 else 0
            _check_answer(answer, file, start)
            if start < self.current:
                out.truncate(0)
                digest, self.current = file.digest(), 0
            for block in answer.blocks:
                self.check()
                if self.current + len(block) > file.size:
                    out.truncate(0)
                    raise RefusedError(_other_size(file, "longer"))
                out.write(block)
                self._count(block, digest)
        return digest

    def _count(self, block: bytes, digest: Any) -> None:
        digest.update(block)
        self.current += len(block)


@dataclass(frozen=True)
class _Answer:
    """An answer with a file's bytes, or without them (416) where none of those asked for is there."""

    status: int
    headers: Mapping[str, str]
    blocks: Iterator[bytes]


def _check_answer(answer: _Answer, file: RemoteFile, start: int) -> None:
    """Refuse an answer whose kind or length is not that of the file, before a byte of it is kept."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _PAGES:
        raise RefusedError(
            f"a web page ({kind}) came in place of {file.place}, as from a network that wants a login or from a "
            "filter; open the address in a browser, and run it again"
        )
    length = answer.headers.get("content-length", "")
    encoded = answer.headers.get("content-encoding", "identity") != "identity"
    if length.isdigit() and not encoded and int(length) != file.size - start:
        raise RefusedError(_other_size(file, "longer" if int(length) > file.size - start else "shorter"))


def _other_size(file: RemoteFile, which: str) -> str:
    return f"{file.place} is {which} than the {file.size} bytes that the hub states"


@contextmanager
def _get(url: str, start: int) -> Iterator[_Answer]:
    """Ask for a file from byte `start` on."""
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
        if response.status_code >= 400 and response.status_code != 416:
            response.read() if hasattr(response, "read") else response.content
            hf_raise_for_status(response)
        blocks = response.iter_bytes() if hasattr(response, "iter_bytes") else response.iter_content(1 << 16)
        yield _Answer(response.status_code, response.headers, blocks)


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


def asked_pause(error: Exception) -> float:
    """Return the seconds that the hub asks to wait with `Retry-After`, 0 where it asks for none."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    text = str(headers.get("retry-after", "")).strip()
    if text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, moment.timestamp() - time.time())


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
    if status == 429:
        pause = asked_pause(error)
        return f"the hub answers 429, too many requests; run it again {f'in {pause:.0f} s' if pause else 'later'}"
    if status is not None:
        return f"the hub answers {status}{', not found' if status == 404 else ''}"
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return f"it cannot be written ({error.strerror}), and goes on where it stopped once it can"
    lines = f"{type(error).__name__} {error}".splitlines()
    return f"the connection failed ({lines[0].rstrip('.')}); run it again, and it goes on where it stopped"
