"""Faults of disk, network and memory over the real code, at random: files lost, damaged and left behind are counted.

Theory. A file that a save or a download reports is there, whole and under a name of its own, whatever happens to
other processes. A process that is killed leaves nothing under a finished name, and the next writer in the folder
removes its remains. A loader gives one model or a sentence, never a mixture. A lack of memory or of room is an error
in a sentence: the process lives on. So four counts must be 0:

- lost: files that a save or a download reported and that are not there;
- damaged: files under a finished name that are not whole, and loads or pieces that are not those of one model;
- left: files besides the finished ones after the last save or download into a folder;
- ended: processes that a signal ended which nobody sent, or errors that are no sentence.

Each trial forks children of this process, so that none imports torch anew: saves that are killed after a random time,
saves of one name at once, downloads from a faulty hub that are killed and run again, loads of a file that is
being replaced, saves with a limit on the size of files, and loads and pieces with a limit on memory. Linux only.

    python benchmarks/faults.py --seconds 60
    python benchmarks/faults.py --seconds 600 --seed 2

prints a table and one line of JSON for machines; the exit code is 1 unless all four counts are 0.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import logging
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("HF_HUB_OFFLINE", None)

import torch
from faulty_hub import REPOSITORY
from measuring import ROOT, finish

from musicgen import GenerationParams, MusicGen, load_model, save_checkpoint
from musicgen.writing import Numbered

MODEL = ROOT / "models" / "musicgen-nano"
PARAMS = GenerationParams(duration=0.1, use_sampling=False)
SAVE_SECONDS, FETCH_SECONDS = 0.4, 1.5
_LONGEST = 120


@dataclass
class Child:
    """A forked process and the pipe that its result comes through."""

    pid: int
    pipe: int

    def result(self) -> Any:
        """Wait for its end: the value that the work gave, an exception of it, or the number of a signal as an int."""
        data = b""
        while block := os.read(self.pipe, 1 << 16):
            data += block
        os.close(self.pipe)
        status = os.waitpid(self.pid, 0)[1]
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else pickle.loads(data)

    def kill_after(self, seconds: float) -> None:
        """Kill it after a time, unless it ended before."""
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGKILL)


def fork(work: Callable[[], Any]) -> Child:
    """Run a work in a process of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Child(pid, reading)
    try:
        os.close(reading)
        signal.alarm(_LONGEST)
        try:
            value = work()
        except BaseException as error:
            value = RuntimeError(
                f"{type(error).__name__}: {error}", _is_sentence(error), traceback.format_exc()[-1500:]
            )
        resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
        data = pickle.dumps(value)
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)


def _is_sentence(error: BaseException) -> bool:
    return isinstance(error, ValueError | FileNotFoundError | MemoryError | ImportError) and len(str(error)) > 20


def digest(path: Path) -> str:
    """The hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Trials:
    """The trials, their folder and their counts."""

    def __init__(self, folder: Path, seed: int, hub: str) -> None:
        self.folder, self.random, self.hub = folder, random.Random(seed), hub
        self.counts, self.tried = Counter({"lost": 0, "damaged": 0, "left": 0, "ended": 0}), Counter[str]()
        self.first: dict[str, str] = {}
        self.models = [load_model(MODEL), self._other()]
        self.files = [folder / f"{name}.safetensors" for name in ("first", "second")]
        for model, path in zip(self.models, self.files, strict=True):
            save_checkpoint(model, path)
        self.hashes = [digest(path) for path in self.files]
        self.codes = [model.generate(["calm"], PARAMS) for model in self.models]
        assert not torch.equal(*self.codes)

    def _other(self) -> MusicGen:
        """The same model with other weights in every layer."""
        model = load_model(MODEL)
        for name, parameter in model.lm.named_parameters():
            if name.endswith("weight") and parameter.dim() == 2:
                parameter.data = parameter.data.neg()
        return model

    def count(self, kind: str, why: str, number: int = 1) -> None:
        """Count a fault of the product."""
        if number:
            self.counts[kind] += number
            self.first.setdefault(kind, why)

    def _ended(self, result: Any, trial: str) -> bool:
        """Whether a child was ended by a signal, or raised an error that is no sentence."""
        if type(result) is int:
            self.count("ended", f"{trial}: {signal.Signals(result).name}")
        elif isinstance(result, RuntimeError) and not result.args[1]:
            self.count("ended", f"{trial}: {result.args[2]}")
        else:
            return False
        return True

    def _check_folder(self, folder: Path, wanted: set[str], trial: str) -> None:
        """Compare the files of a folder with those that were reported; each must be whole."""
        there = {path.name for path in folder.iterdir()}
        self.count("lost", f"{trial}: {wanted - there}", len(wanted - there))
        hidden = {name for name in there if not name.endswith(".safetensors") or name.startswith(".")}
        self.count("left", f"{trial}: {hidden}", len(hidden))
        for name in there - hidden:
            self.count("damaged", f"{trial}: {name}", digest(folder / name) not in self.hashes)

    def _new_folder(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def _save(self, which: int, target: Path | Numbered) -> str:
        return save_checkpoint(self.models[which], target).name

    def killed_saves(self) -> None:
        """Kill saves after a random time; then save once more."""
        folder, reported = self._new_folder("kills"), set()
        target = Numbered(folder, "mine_", "_.safetensors")
        for _ in range(4):
            which = self.random.randrange(2)
            child = fork(partial(self._save, which, target))
            child.kill_after(self.random.random() * SAVE_SECONDS)
            result = child.result()
            self.tried["kills of saves"] += result == signal.SIGKILL
            if result != signal.SIGKILL and not self._ended(result, "save"):
                reported.add(result)
        reported.add(save_checkpoint(self.models[0], target).name)
        self._check_folder(folder, reported, "killed saves")
        shutil.rmtree(folder)

    def races(self) -> None:
        """Save under one numbered name and under one plain name from several processes at once."""
        folder = self._new_folder("races")
        target = Numbered(folder, "mine_", "_.safetensors")

        def save_both(which: int) -> list[str]:
            numbered = [save_checkpoint(self.models[which], target).name for _ in range(2)]
            return [*numbered, save_checkpoint(self.models[which], folder / "one.safetensors").name]

        children = [fork(partial(save_both, which % 2)) for which in range(3)]
        results = [child.result() for child in children]
        names = [name for result in results if not self._ended(result, "race") for name in result]
        numbered = [name for name in names if name != "one.safetensors"]
        self.tried["races"] += 1
        self.count("lost", "two saves report one name", len(numbered) - len(set(numbered)))
        self._check_folder(folder, set(names), "races")
        shutil.rmtree(folder)

    def downloads(self) -> None:
        """Download from the faulty hub, killed now and then, until it works without faults."""
        folder = self._new_folder("downloads")
        self._post(self.random.choice((0.2, 0.4, 0.7)))
        for _ in range(2):
            child = fork(lambda: str(_fetch(folder)))
            if self.random.random() < 0.5:
                child.kill_after(self.random.random() * FETCH_SECONDS)
            result = child.result()
            self.tried["kills of downloads"] += result == signal.SIGKILL
            if result != signal.SIGKILL:
                self._ended(result, "download")
            self._check_download(folder, reported=isinstance(result, str))
        before = self._post(0.0)
        result = fork(lambda: str(_fetch(folder))).result()
        if not self._ended(result, "download"):
            self.count("lost", f"download: {result}", not isinstance(result, str))
        self._check_download(folder, reported=True)
        temporary = folder / ".downloads"
        rest = [path.name for path in temporary.rglob("*")] if temporary.is_dir() else []
        self.count("left", f"downloads: {rest}", len(rest))
        self.tried["downloads"] += 1
        self.tried["faults of the server"] = sum(before.values())
        shutil.rmtree(folder)

    def _post(self, share: float) -> dict[str, int]:
        """Set the share of faulty answers; the faults that were given."""
        request = urllib.request.Request(f"{self.hub}/share/{share}", method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            counts: dict[str, int] = json.load(answer)
            return counts

    def _check_download(self, folder: Path, *, reported: bool) -> None:
        target = folder / REPOSITORY.rpartition("/")[2]
        if not target.exists():
            self.count("lost", "download: nothing is there", reported)
            return
        for path in target.iterdir():
            self.count("damaged", f"download: {path.name}", path.read_bytes() != (MODEL / path.name).read_bytes())

    def replaced_files(self) -> None:
        """Load a file that is being replaced by another model."""
        folder = self._new_folder("replaced")
        path = folder / "mine.safetensors"
        shutil.copy(self.files[0], path)
        child = fork(lambda: load_model(path).generate(["calm"], PARAMS).tolist())
        for number in range(3):
            time.sleep(self.random.random() * 0.3)
            shutil.copy(self.files[(number + 1) % 2], folder / "next")
            os.replace(folder / "next", path)
            self.tried["files replaced"] += 1
        result = child.result()
        if not self._ended(result, "replaced") and isinstance(result, list):
            self.count(
                "damaged",
                "a mixture of two models",
                torch.tensor(result).tolist() not in [c.tolist() for c in self.codes],
            )
        shutil.rmtree(folder)

    def full_disks(self) -> None:
        """Save with a limit on the size of a file, over a file that is there."""
        folder = self._new_folder("full")
        shutil.copy(self.files[0], folder / "mine.safetensors")
        size = self.files[1].stat().st_size
        limit = self.random.randrange(size)

        def save() -> str:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return save_checkpoint(self.models[1], folder / "mine.safetensors").name

        result = fork(save).result()
        self.tried["full disks"] += 1
        if not self._ended(result, "full disk"):
            self.count("damaged", f"full disk: {result}", not isinstance(result, RuntimeError))
        self._check_folder(folder, {"mine.safetensors"}, "full disk")
        self.count("lost", "full disk: the old file", digest(folder / "mine.safetensors") != self.hashes[0])
        shutil.rmtree(folder)

    def little_memory(self) -> None:
        """Load a model and sample a piece with a limit on memory."""
        spare = int(self.random.random() ** 2 * 60e6)

        def work() -> Any:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + spare, hard))
            model = load_model(MODEL)
            codes = model.generate(["calm"], PARAMS)
            model.decode(codes)
            return codes.tolist()

        result = fork(work).result()
        self.tried["limits of memory"] += 1
        self.tried["limits that were too low"] += isinstance(result, RuntimeError)
        if not self._ended(result, f"{spare / 1e6:.0f} MB of memory") and isinstance(result, list):
            self.count("damaged", "other codes with little memory", result != self.codes[0].tolist())


def _fetch(folder: Path) -> Path:
    from musicgen.hub import fetch, find_release

    release = find_release(f"download {REPOSITORY}")
    assert release is not None
    return fetch(release, folder, {}, lambda progress: None)


def run(seconds: float, seed: int) -> Trials:
    """Run trials of every kind in turn until the time is over, each kind at least once."""
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        server = [sys.executable, str(ROOT / "benchmarks" / "faulty_hub.py"), str(MODEL), "--seed", str(seed)]
        with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as hub:
            try:
                assert hub.stdout is not None
                address = hub.stdout.readline().strip()
                os.environ["HF_ENDPOINT"] = address
                import huggingface_hub  # noqa: F401 (it reads the address once, for all children)

                trials = Trials(Path(temporary), seed, address)
                ctypes.CDLL("libc.so.6").malloc_trim(0)  # children take their memory anew
                kinds = [
                    trials.killed_saves,
                    trials.races,
                    trials.replaced_files,
                    trials.full_disks,
                    trials.little_memory,
                ]
                kinds = [trials.downloads, *kinds, trials.little_memory, trials.replaced_files]
                end, turn = time.monotonic() + seconds, 0
                while turn < len(kinds) or time.monotonic() < end:
                    kinds[turn % len(kinds)]()
                    turn += 1
                return trials
            finally:
                hub.terminate()


def main() -> None:
    """Run the trials, print the counts, and exit with 1 unless all counts of faults are 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long trials are begun")
    parser.add_argument("--seed", type=int, default=1, help="of the random times, limits and faults")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("musicgen").setLevel(logging.ERROR)
    trials = run(arguments.seconds, arguments.seed)
    for name, number in [*sorted(trials.tried.items()), *trials.counts.items()]:
        print(f"{name:28}{number:8}")
    for kind, why in trials.first.items():
        print(f"first {kind}: {why}")
    rows = [{"tried": dict(trials.tried), **trials.counts}]
    finish("faults", rows, seconds=arguments.seconds, seed=arguments.seed)
    sys.exit(1 if any(trials.counts.values()) else 0)


if __name__ == "__main__":
    main()
