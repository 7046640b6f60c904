"""The two commands of the README, for a machine that has only Python 3.10 or newer.

``python quickstart.py`` makes .venv, fetches a pinned ComfyUI into .host, starts it for
real with this pack in it, lets it play a prompt and prints where the audio file lies.
``python quickstart.py test`` runs every check of the project in the same environment, and
``python quickstart.py test --matrix`` the host tests on older and newer versions of ComfyUI.
Setting up needs only the standard library; the rest runs under .venv's Python.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036  (before the imports: they need it too)
    sys.exit(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}.")

from dev.comfy_server import ComfyError, ComfyServer, ProgressLine, describe_failure, prepare_base
from dev.matrix import run_matrix
from dev.media import make_media
from dev.newest import run_newest
from dev.setup import HOST, ROOT, VENV, SetupError, provide_chromium, provide_fluidsynth, say, set_up, venv_python

BASE = HOST / "base"
# All that has to pass, each run by `python -m`; .pre-commit-config.yaml has the same.
CHECKS = ("ruff check .", "ruff format --check .", "dev.check_types", "pytest tests")
# All tests include these once more, as they run where the optional compiler is not installed.
DECODING = "pytest -q tests/golden tests/parity tests/musicgen/decoding tests/musicgen/generation"


def reexecute() -> int:
    """Run this same command line under .venv's Python; its exit code."""
    command = [str(venv_python()), str(Path(__file__).resolve()), *sys.argv[1:]]
    if os.name != "nt":
        os.execv(command[0], command)
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 130


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
        for item in [item for item in output.get("audio", []) if item["type"] == "output"]:
            say(f"saved {BASE / item['type'] / item['subfolder'] / item['filename']}")


def command_run(args: argparse.Namespace, comfyui: Path) -> int:
    """Start ComfyUI, run the job, stop ComfyUI; with --serve leave it running."""
    prepare_base(BASE, ROOT)
    make_media(BASE / "input")
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


def command_test(pytest_args: list[str], comfyui: Path) -> int:
    """Lint, types and tests; the first failing exit code. pytest comes last."""
    provide_chromium()
    provide_fluidsynth()
    environment = {**os.environ, "COMFYUI_DIR": str(comfyui)}
    runs = [(check.split(), environment) for check in CHECKS]
    runs[-1][0].extend(pytest_args)
    if not pytest_args:
        runs.insert(-1, (DECODING.split(), {**environment, "MUSICGEN_WITHOUT_COMPILER": "1"}))
    codes = []
    for words, variables in runs:
        say("$ " + " ".join(words))
        command = [sys.executable, "-m", *words]
        codes.append(subprocess.run(command, check=False, cwd=ROOT, env=variables).returncode)
    return next((code for code in codes if code), 0)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line of the run command."""
    parser = argparse.ArgumentParser(
        prog="quickstart.py",
        description="Generate music with this pack inside a real ComfyUI.",
        epilog="python quickstart.py test [pytest arguments] runs all tests; with --matrix, the host tests on several "
        "versions of ComfyUI.",
    )
    parser.add_argument("--text", help="a description of the music")
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
    """Set up, change to .venv's Python, run the command."""
    testing = sys.argv[1:2] == ["test"]
    args = parse_arguments([] if testing else sys.argv[1:])
    try:
        comfyui = set_up(args.comfyui, testing)
        if Path(sys.prefix).resolve() != VENV.resolve():
            return reexecute()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped
        if testing and "--matrix" in sys.argv:
            return run_matrix([word for word in sys.argv[2:] if word != "--matrix"])
        if testing and "--newest" in sys.argv:
            provide_chromium()
            return run_newest([word for word in sys.argv[2:] if word != "--newest"])
        return command_test(sys.argv[2:], comfyui) if testing else command_run(args, comfyui)
    except (SetupError, ComfyError, OSError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
