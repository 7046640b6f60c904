"""Released models fetched from their hub repositories, and only when somebody asks for one.

The files that a model needs, in one layout, go to a hidden folder beside the model's own place. Each is checked
against the size and the hash that the hub states, and when all are there the folder takes the model's name. So a
model is there as a whole or not at all, and the next attempt goes on from the files that an interruption leaves.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .lock import held
from .releases import Release, expected_files, select_files
from .transfer import RefusedError, RemoteFile, Transfer, reason

TEMPORARY = ".downloads"
_CODEC = "facebook/encodec_32khz"
_POINTER_BYTES = 100_000
"""A compression_state_dict.bin below this size holds no codec, but the name of the one to take."""
_POLL = 0.1


@dataclass(frozen=True)
class DownloadProgress:
    """Bytes that are there, bytes in all (0 while that is not known), and the file being fetched."""

    done: int
    total: int
    file: str


def fetch(
    release: Release,
    models: Path,
    places: Mapping[str, Sequence[Path]],
    on_progress: Callable[[DownloadProgress], None],
) -> Path:
    """Fetch a release into `models / release.name`, and its companions into the first of their places if none has them.

    Args:
        release: the model.
        models: the folder that holds models.
        places: folders by kind, as in `release.companions`.
        on_progress: called ten times a second in the caller's thread; an exception that it raises cancels, and the next
            attempt goes on from the bytes that are there.

    Returns:
        The model's folder.

    Raises:
        FileNotFoundError: with the reason and the files, their address and their folder.
    """
    run = _Run(release, models / release.name, places)
    thread = threading.Thread(target=run.work, name=f"download of {release.repo}", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            on_progress(run.progress())
            thread.join(_POLL)
    except BaseException:
        run.transfer.cancelled.set()
        raise
    if run.error is not None:
        raise FileNotFoundError(run.explain(run.error)) from run.error
    on_progress(run.progress())
    return run.target


@dataclass(frozen=True)
class _Plan:
    """The files that make one folder."""

    target: Path
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def temporary(self) -> Path:
        """One folder per revision of the repository, so that its files belong together."""
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
    transfer: Transfer = field(default_factory=Transfer)
    error: Exception | None = None
    plans: list[_Plan] = field(default_factory=list)
    total: int = 0

    def progress(self) -> DownloadProgress:
        return DownloadProgress(self.transfer.finished + self.transfer.current, self.total, self.transfer.state)

    def work(self) -> None:
        try:
            for repo, target in self._wanted():
                self.plans.append(self.transfer.again(partial(_plan, repo, target)))
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

    def _make(self, plan: _Plan) -> None:
        plan.temporary.parent.mkdir(parents=True, exist_ok=True)
        # Another server, or a cancelled attempt that still waits for its last bytes, may be at the same folder.
        with held(plan.temporary.parent / f"{plan.target.name}.lock", self.transfer.check):
            self.transfer.check()
            if _is_there(plan.target):
                self.transfer.finished += sum(file.size for file in plan.files)
                return
            plan.temporary.mkdir(exist_ok=True)
            free, missing = shutil.disk_usage(plan.temporary).free, plan.missing_bytes()
            if missing > free:
                raise RefusedError(f"{missing / 1e9:.3g} GB are missing and {free / 1e9:.3g} GB are free on the disk")
            for file in plan.files:
                self.transfer.fetch(file, plan.temporary / file.place)
            _install(plan)

    def explain(self, error: Exception) -> str:
        """A sentence: the fault, and the way by hand."""
        from huggingface_hub import constants

        known = {plan.target: [file.place for file in plan.files] for plan in self.plans}
        parts = []
        for repo, target in self._wanted() or [(self.release.repo, self.target)]:
            files = ", ".join(known.get(target) or expected_files(repo, self.release))
            parts.append(f"put {files} of {constants.ENDPOINT}/{repo} into {target}")
        return f"{self.release.repo} could not be downloaded: {reason(error)}; by hand, {', and '.join(parts)}."


def _plan(repo: str, target: Path, folder: str = "") -> _Plan:
    """Ask the hub for the files of a repository that make a model, all of one revision, with their sizes and hashes."""
    from huggingface_hub import HfApi, constants, hf_hub_url

    try:
        info = HfApi().model_info(repo, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(
            f"{constants.ENDPOINT} answers with something else than its list of files, such as the page of a network "
            "that wants a login or of a filter; open the address in a browser, and run it again"
        ) from error
    listed = {sibling.rfilename: sibling for sibling in info.siblings or []}
    names = select_files(listed)
    if not names:
        raise RefusedError(f"{repo} holds no whole model in a layout that is known here")
    files = []
    for name in names:
        large = listed[name].lfs
        size = listed[name].size if large is None else large["size"]
        stated = str(listed[name].blob_id if large is None else large["sha256"])
        if size is None or not re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", stated):
            raise RefusedError(f"the list of the hub states no size and hash of {name}")
        files.append(RemoteFile(hf_hub_url(repo, name, revision=info.sha), folder + name, size, stated))
    if any(file.place == "compression_state_dict.bin" and file.size < _POINTER_BYTES for file in files):
        name = _CODEC.rpartition("/")[2]
        files += _plan(_CODEC, target, f"{name}/").files
    return _Plan(target, info.sha or constants.DEFAULT_REVISION, tuple(files))


def _install(plan: _Plan) -> None:
    """Let the whole folder take its name."""
    if plan.target.is_dir() and not any(plan.target.iterdir()):
        plan.target.rmdir()
    if plan.target.exists():
        raise RefusedError(f"{plan.target} is there already and holds something else, so move that away")
    os.rename(plan.temporary, plan.target)
    for stale in plan.temporary.parent.glob(f"{plan.target.name}-*"):
        if stale.name[len(plan.target.name) + 1 :].isalnum():
            shutil.rmtree(stale, ignore_errors=True)


def _is_there(target: Path) -> bool:
    return any((target / name).is_file() for name in ("config.json", "state_dict.bin"))
