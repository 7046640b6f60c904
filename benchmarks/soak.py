"""A long series of mixed jobs on one real server, with cancels and errors: memory stays flat and no job is lost.

Theory. Everything that a job takes (caches of the language model, sound, pictures, players) is freed when it ends or
when ComfyUI's cache of results drops it. So the resident memory of the server rises while each kind of job runs for
the first times, and then stays. Jobs that are cancelled or refused leave nothing behind either. ComfyUI by itself
keeps the results of all jobs until memory runs short, which would hide a leak; so this server keeps those of the last
job alone (--cache-classic).

A server is started with this pack in it, and jobs are drawn by a seed: music from text, from a melody and from a
recording, batches, all patterns, plots, saved tokens, sound while sampling, Cancel that stops and Cancel that keeps,
and four kinds of error. Each job has an outcome that is expected, and is counted by the one that it had. Memory is
read after each job; growth compares the median of the last tenth of the jobs with that of the tenth that ends at the
third of the way. Linux only.

    python benchmarks/soak.py --jobs 300

prints a table, and one line of JSON for machines.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
import wave
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import ROOT, finish

from dev.comfy_server import ComfyError, ComfyServer, describe_failure, prepare_base

MODELS = ("bundled/musicgen-nano", "bundled/musicgen-nano-melody")
PATTERNS = ("auto", "delay", "parallel", "flatten", "partial_flatten", "coarse_first", "musiclm")
DONE, STOPPED, FAILED, REFUSED = OUTCOMES = ("done", "stopped", "failed", "refused")
Prompt = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A prompt, the outcome that is right for it, and the share of the sampling at which Cancel is pressed."""

    kind: str
    prompt: Prompt
    expected: str = DONE
    cancel_at: float | None = None


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node in the API's form."""
    return {"class_type": class_type, "inputs": inputs}


def music(draw: random.Random, number: int, *, model: str = MODELS[0], **changes: Any) -> Prompt:
    """Music from text; its seed is that of no other job."""
    widgets: dict[str, Any] = {
        "duration": draw.choice((0.5, 1.0, 2.0)),
        "batch_size": 1,
        "seed": number,
        "cfg_coef": 3.0,
    }
    widgets |= {"temperature": 1.0, "top_k": 250, "top_p": 0.0, "pattern": "auto"}
    return {
        "1": node("MusicGenLoader", model=model, dtype="auto"),
        "2": node("MusicGenTextEncode", text_encoder=["1", 1], text=draw.choice(("jazz", "calm piano", "techno"))),
        "3": node("MusicGenSampleTokens", model=["1", 0], positive=["2", 0], **(widgets | changes)),
        "4": node("MusicGenEnCodecDecode", codec=["1", 2], tokens=["3", 0]),
    }


def jobs_of_each_kind(draw: random.Random, number: int) -> dict[str, Callable[[], Job]]:
    """Each kind of job by its name."""

    def job(kind: str, prompt: Prompt, **rest: Any) -> Job:
        return Job(kind, prompt, **rest)

    def with_nodes(prompt: Prompt, **nodes: Any) -> Prompt:
        return prompt | {name.removeprefix("n"): value for name, value in nodes.items()}

    sound = node("LoadAudio", audio="tune.wav")
    chroma = node("MusicGenMelodyChroma", audio=["6", 0])
    encoded = node("MusicGenEnCodecEncode", codec=["1", 2], audio=["6", 0])
    long: dict[str, Any] = {"duration": 20.0}
    keep: dict[str, Any] = {"on_cancel": "keep the music so far"}
    plot = node("MusicGenPlot", plot=draw.choice(("spectrogram", "waveform", "loudness")), theme="dark", audio=["4", 0])
    saver = node("MusicGenSaveTokens", tokens=["3", 0], filename_prefix="tokens/soak")
    melody = music(draw, number, model=MODELS[1], melody=["7", 0])
    picker = node("MusicGenPick", index=9, tokens=["3", 0])
    return {
        "text": lambda: job("text", music(draw, number)),
        "batch": lambda: job("batch", music(draw, number, batch_size=3)),
        "pattern": lambda: job("pattern", music(draw, number, pattern=draw.choice(PATTERNS))),
        "melody": lambda: job("melody", with_nodes(melody, n6=sound, n7=chroma)),
        "recording": lambda: job(
            "recording", with_nodes(music(draw, number, duration=3.0, prompt=["7", 0]), n6=sound, n7=encoded)
        ),
        "plot": lambda: job("plot", with_nodes(music(draw, number), n8=plot)),
        "tokens": lambda: job("tokens", with_nodes(music(draw, number), n8=saver)),
        "heard": lambda: job("heard", music(draw, number, codec=["1", 2], **long)),
        "cancel": lambda: job("cancel", music(draw, number, **long), expected=STOPPED, cancel_at=draw.random() * 0.6),
        "keep": lambda: job("keep", music(draw, number, **long, **keep), cancel_at=0.1 + draw.random() * 0.5),
        "text model and melody": lambda: job(
            "text model and melody",
            with_nodes(music(draw, number, melody=["7", 0]), n6=sound, n7=chroma),
            expected=FAILED,
        ),
        "long prompt": lambda: job(
            "long prompt",
            with_nodes(music(draw, number, duration=0.5, prompt=["7", 0]), n6=sound, n7=encoded),
            expected=FAILED,
        ),
        "piece out of range": lambda: job(
            "piece out of range",
            with_nodes(
                music(draw, number), n8=picker, n9=node("MusicGenSaveTokens", tokens=["8", 0], filename_prefix="x")
            ),
            expected=FAILED,
        ),
        "unknown model": lambda: job("unknown model", music(draw, number, model="nobody"), expected=REFUSED),
    }


def run(server: ComfyServer, job: Job) -> str:
    """Run a job; its outcome."""
    pressed: list[float] = []

    def watch(name: str, data: dict[str, Any]) -> None:
        sampling = name == "progress" and data.get("node") == "3"
        if job.cancel_at is not None and sampling and not pressed and data["value"] >= job.cancel_at * data["max"]:
            pressed.append(time.perf_counter())
            server.interrupt()

    try:
        failure = describe_failure(server.run(job.prompt, watch, timeout=600))
    except ComfyError:
        return REFUSED
    if failure is None:
        return DONE
    return STOPPED if failure.endswith(": interrupted") else FAILED


def resident(pid: int) -> float:
    """Megabytes of memory that a process holds."""
    fields = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(options: argparse.Namespace, base: Path) -> tuple[list[float], Counter[tuple[str, str, str]]]:
    """The memory after each job, and how often each kind had which expected and which real outcome."""
    prepare_base(base, ROOT)
    with wave.open(str(base / "input" / "tune.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(32000)
        samples = torch.sin(torch.arange(32000) * 0.0864) * 16000
        file.writeframes(samples.to(torch.int16).numpy().tobytes())
    draw, memory, counts = random.Random(options.seed), [], Counter[tuple[str, str, str]]()
    kinds = sorted(jobs_of_each_kind(draw, 0))
    with ComfyServer(base, options.comfyui, ("--cpu", "--cache-classic")) as server:
        for number in range(options.jobs):
            job = jobs_of_each_kind(draw, number)[kinds[number] if number < len(kinds) else draw.choice(kinds)]()
            counts[job.kind, job.expected, run(server, job)] += 1
            memory.append(resident(server.pid))
            if number % 20 == 19:
                print(f"{number + 1:4} jobs, {memory[-1]:.0f} MB", flush=True)
    return memory, counts


def growth(memory: list[float]) -> float:
    """How much the memory of the last tenth exceeds that of the tenth that ends at the third, as a share."""
    tenth = max(1, len(memory) // 10)
    third = max(tenth, len(memory) // 3)
    return statistics.median(memory[-tenth:]) / statistics.median(memory[third - tenth : third]) - 1


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    default = os.environ.get("COMFYUI_DIR") or ROOT / ".host" / "ComfyUI"
    parser.add_argument("--comfyui", type=Path, default=Path(default), help="the folder that holds ComfyUI's main.py")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # for the server
    torch.set_num_threads(options.threads)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        memory, counts = soak(options, Path(folder))
    rows: list[dict[str, Any]] = [
        {"kind": kind, "expected": expected, "outcome": outcome, "jobs": number}
        for (kind, expected, outcome), number in sorted(counts.items())
    ]
    print(f"{'kind':24}{'expected':>10}{'outcome':>10}{'jobs':>6}")
    for row in rows:
        wrong = "" if row["expected"] == row["outcome"] else "  WRONG"
        print(f"{row['kind']:24}{row['expected']:>10}{row['outcome']:>10}{row['jobs']:6}{wrong}")
    wrong_jobs = sum(row["jobs"] for row in rows if row["expected"] != row["outcome"])
    print(f"memory {memory[0]:.0f} MB after the first job, {max(memory):.0f} at most, {memory[-1]:.0f} at the end;")
    print(f"growth {growth(memory):+.2%}; {wrong_jobs} jobs with another outcome; {time.perf_counter() - began:.0f} s")
    about = {"growth": growth(memory), "wrong": wrong_jobs, "memory": [round(value, 1) for value in memory]}
    finish("soak", rows, jobs=options.jobs, **about)


if __name__ == "__main__":
    main()
