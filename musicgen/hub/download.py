"""Released models fetched from their hub repositories, and only when somebody asks for one.

The files that a model needs, in one layout, go to a hidden folder beside the place where the model shall lie. Each
is checked against the size and the hash that the hub states, and when all are there the folder takes the model's
name. So a model is there as a whole or not at all, and what an interruption leaves is what the next attempt
goes on from. Addresses, tokens, offline mode and sessions are those of the package `huggingface_hub`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from .releases import Release, expected_files, select_files

TEMPORARY = ".downloads"
_CODEC = "facebook/encodec_32khz"
_POINTER_BYTES = 100_000
"""A compression_state_dict.bin below this size holds no codec, but the name of the one to take."""
_PAUSES = (0.5, 1.0, 2.0)
_POLL = 0.1
_BLOCK = 1 << 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_ERRORS = (*_DISK_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT, errno.EIO)

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """Bytes that are there, bytes in all (0 while that is not known), and the file being fetched."""

    done: int
    total: int
    file: str


def fetch(
    release: Release,
    models: Path,
    places: Mapping[str, Sequence[Path]],
    on_progress: Callable[[Progress], None],
) -> Path:
    """Fetch a release into `models / release.name`, and its companions into the first of their places if none has them.

    places: folders by kind, as in `release.companions`.
    on_progress: called ten times a second in the caller's thread; what it raises cancels, and keeps what
    is there for the next attempt. Returns the model's folder. Raises FileNotFoundError that tells the
    reason and the files, their address and their folder.
    """
    run = _Run(release, models / release.name, places)
    thread = threading.Thread(target=run.work, name=f"download of {release.repo}", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            on_progress(run.progress())
            thread.join(_POLL)
    except BaseException:
        run.cancelled.set()
        raise
    if run.error is not None:
        raise FileNotFoundError(run.explain(run.error)) from run.error
    on_progress(run.progress())
    return run.target


class _CancelledError(Exception):
    """The caller has cancelled; nobody waits for the rest."""


class _RefusedError(Exception):
    """What no further attempt would change; the text is the reason."""


@dataclass(frozen=True)
class _File:
    """A file of a repository: where it comes from, where it goes in the model's folder, what the hub says of it."""

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


@dataclass(frozen=True)
class _Plan:
    """What makes one folder."""

    target: Path
    revision: str
    files: tuple[_File, ...]

    @property
    def temporary(self) -> Path:
        """One folder per revision of the repository, so that what is in it belongs together."""
        return self.target.parent / TEMPORARY / f"{self.target.name}-{self.revision[:12]}"

    def missing_bytes(self) -> int:
        """Bytes that are still to come."""
        there = 0
        for file in self.files:
            whole, part = self.temporary / file.place, self.temporary / f"{file.place}.part"
            there += next((min(path.stat().st_size, file.size) for path in (whole, part) if path.is_file()), 0)
        return sum(file.size for file in self.files) - there


@dataclass
class _Run:
    """One call of :func:`fetch`: `work` runs in a thread of its own, the rest in the caller's."""

    release: Release
    target: Path
    places: Mapping[str, Sequence[Path]]
    cancelled: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    plans: list[_Plan] = field(default_factory=list)
    total: int = 0
    finished: int = 0
    current: int = 0
    file: str = ""

    def progress(self) -> Progress:
        return Progress(self.finished + self.current, self.total, self.file)

    def work(self) -> None:
        try:
            for repo, target in self._wanted():
                self.plans.append(self._again(partial(_plan, repo, target)))
            self.total = sum(file.size for plan in self.plans for file in plan.files)
            for plan in self.plans:
                self._make(plan)
        except Exception as error:
            self.error = error

    def _wanted(self) -> list[tuple[str, Path]]:
        """The repositories to fetch and their folders, the model last: it is never there without its companions."""
        wanted = []
        for kind, repo in self.release.companions:
            name, folders = repo.rpartition("/")[2], self.places[kind]
            if not any((folder / name / "config.json").is_file() for folder in folders):
                wanted.append((repo, folders[0] / name))
        if not _is_there(self.target):
            wanted.append((self.release.repo, self.target))
        return wanted

    def _again(self, action: Callable[[], T]) -> T:
        """Try until it works, a bounded number of times without a new byte."""
        failures = 0
        while True:
            before = self.current
            try:
                self._check()
                return action()
            except Exception as error:
                failures = 0 if self.current > before else failures
                if _is_final(error) or failures == len(_PAUSES):
                    raise
                self.cancelled.wait(_PAUSES[failures])
                failures += 1

    def _check(self) -> None:
        if self.cancelled.is_set():
            raise _CancelledError

    def _make(self, plan: _Plan) -> None:
        from huggingface_hub.utils import WeakFileLock

        plan.temporary.parent.mkdir(parents=True, exist_ok=True)
        # Another server, or a cancelled attempt that still waits for its last bytes, may be at the same folder.
        with WeakFileLock(plan.temporary.parent / f"{plan.target.name}.lock"):
            self._check()
            if _is_there(plan.target):
                self.finished += sum(file.size for file in plan.files)
                return
            plan.temporary.mkdir(exist_ok=True)
            free, missing = shutil.disk_usage(plan.temporary).free, plan.missing_bytes()
            if missing > free:
                raise _RefusedError(f"{missing / 1e9:.3g} GB are missing and {free / 1e9:.3g} GB are free on the disk")
            for file in plan.files:
                self._fetch_file(file, plan.temporary / file.place)
            _install(plan)

    def _fetch_file(self, file: _File, path: Path) -> None:
        self.file, self.current = file.place, 0
        if not path.is_file():
            part = path.with_name(f"{path.name}.part")
            part.parent.mkdir(parents=True, exist_ok=True)
            digest = self._again(partial(self._pull, file, part))
            if digest is not None and digest.hexdigest() != file.etag:
                part.unlink()
                raise _RefusedError(
                    f"{file.place} arrived damaged (its hash is not what the hub states), so run it again"
                )
            os.replace(part, path)
        self.finished, self.current = self.finished + file.size, 0

    def _pull(self, file: _File, part: Path) -> Any:
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

    def _read(self, out: Any, file: _File) -> Any:
        """Hash what is there."""
        digest, self.current = file.digest(), 0
        if os.fstat(out.fileno()).st_size > file.size:
            out.truncate(0)
        out.seek(0)
        while block := out.read(_BLOCK):
            self._check()
            self._count(block, digest)
        return digest

    def _receive(self, out: Any, file: _File, digest: Any) -> Any:
        with _get(file.url, self.current) as (resumes, blocks):
            if self.current and not resumes:
                out.truncate(0)
                digest, self.current = file.digest(), 0
            for block in blocks:
                self._check()
                if self.current + len(block) > file.size:
                    raise _RefusedError(f"{file.place} is longer than the {file.size} bytes that the hub states")
                out.write(block)
                self._count(block, digest)
        return digest

    def _count(self, block: bytes, digest: Any) -> None:
        if digest is not None:
            digest.update(block)
        self.current += len(block)

    def explain(self, error: Exception) -> str:
        """A sentence: what is wrong, and what to do by hand."""
        from huggingface_hub import constants

        known = {plan.target: [file.place for file in plan.files] for plan in self.plans}
        parts = []
        for repo, target in self._wanted() or [(self.release.repo, self.target)]:
            files = ", ".join(known.get(target) or expected_files(repo, self.release))
            parts.append(f"put {files} of {constants.ENDPOINT}/{repo} into {target}")
        return f"{self.release.repo} could not be downloaded: {_reason(error)}; by hand, {', and '.join(parts)}."


def _plan(repo: str, target: Path, folder: str = "") -> _Plan:
    """Ask the hub for the files of a repository that make a model, all of one revision."""
    from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url

    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    info = HfApi().model_info(repo, timeout=timeout)
    names = select_files([sibling.rfilename for sibling in info.siblings or []])
    if not names:
        raise _RefusedError(f"{repo} holds no whole model in a layout that is known here")
    files = []
    for name in names:
        url = hf_hub_url(repo, name, revision=info.sha)
        stated = get_hf_file_metadata(url, timeout=timeout)
        if stated.size is None:
            raise _RefusedError(f"the hub states no size of {name}")
        files.append(_File(url, folder + name, stated.size, stated.etag or ""))
    if any(file.place == "compression_state_dict.bin" and file.size < _POINTER_BYTES for file in files):
        name = _CODEC.rpartition("/")[2]
        files += _plan(_CODEC, target, f"{name}/").files
    return _Plan(target, info.sha or constants.DEFAULT_REVISION, tuple(files))


@contextmanager
def _get(url: str, start: int) -> Iterator[tuple[bool, Iterator[bytes]]]:
    """Ask for a file from byte `start` on: whether the answer begins there, and what it brings as it comes."""
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


def _install(plan: _Plan) -> None:
    """Let the whole folder take its name."""
    if plan.target.is_dir() and not any(plan.target.iterdir()):
        plan.target.rmdir()
    if plan.target.exists():
        raise _RefusedError(f"{plan.target} is there already and holds something else, so move that away")
    os.rename(plan.temporary, plan.target)
    for stale in plan.temporary.parent.glob(f"{plan.target.name}-*"):
        if stale.name[len(plan.target.name) + 1 :].isalnum():
            shutil.rmtree(stale, ignore_errors=True)


def _is_there(target: Path) -> bool:
    return any((target / name).is_file() for name in ("config.json", "state_dict.bin"))


def _is_final(error: Exception) -> bool:
    """Whether no further attempt would change it."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, _CancelledError | _RefusedError | OfflineModeIsEnabled):
        return True
    status = _status(error)
    if status is not None:
        return status < 500 and status not in (408, 429)
    return isinstance(error, OSError) and error.errno in _DISK_ERRORS


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, _RefusedError):
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
