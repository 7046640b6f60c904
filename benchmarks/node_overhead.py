"""The time that ComfyUI adds to a generation: the same piece through a real server and through the bare library.

Theory. A step of the language model is the same arithmetic in both. The host adds time per layer (its drop-in
layers ask each time whether a weight lies on another device or has a patch), per step (a look at the Cancel
button, a message of progress), four times a second (a picture of the codes as JPEG), and per prompt (the graph,
its cache, the websocket, writing the sound). The first two weigh the more, the smaller the model: for nano they
are the worst case, for the released models they should vanish. The mark is 5 % of the sampler's time.

A server is started with this pack in it (`--comfyui`, or the one that quickstart.py fetched), and a prompt of
loader, text encoder, sampler, decoder and saver is queued; after the first time only sampler, decoder and saver
run, since ComfyUI keeps unchanged results. The library makes the same piece in this process, with the same
weights, seed and number of threads, in turns with the server. A node's seconds are those between the server's
messages that it and its successor begin. `cpu s` is of the processor, for a whole prompt, which other work on the
machine disturbs less. Released sizes have random weights (`--model small`), which are written to a temporary
folder first. Linux only.

    python benchmarks/node_overhead.py --model nano --seconds 10 --threads 1

prints a table, and one line of JSON for machines.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measuring import ROOT, compare, finish

from dev.comfy_server import ComfyServer, describe_failure, prepare_base
from musicgen import GenerationParams, MusicGen, load_model
from musicgen.generation.generate import generate
from musicgen.generation.request import Request

TEXT = "moody lofi hip hop with an electric piano melody, deep bass and laid back drums, 83 bpm, in a minor"
NODES = {"sample": "MusicGenSampleTokens", "decode": "MusicGenEnCodecDecode"}
MARK = 1.05


def prompt(model: str, seconds: float, seed: int) -> dict[str, Any]:
    """Return the project's text workflow for a model, a duration and a seed."""
    nodes = json.loads((ROOT / "workflows" / "api" / "text_to_music.json").read_text(encoding="utf-8"))
    changes = {
        "MusicGenLoader": {"model": model, "dtype": "fp32"},
        "MusicGenTextEncode": {"text": TEXT},
        NODES["sample"]: {"duration": seconds, "seed": seed, "cfg_coef": 3.0},
    }
    for node in nodes.values():
        node["inputs"].update(changes.get(node["class_type"], {}))
    return nodes


def through_server(server: ComfyServer, nodes: dict[str, Any]) -> dict[str, float]:
    """Run a prompt; return the seconds of sampler and decoder, of the whole prompt, and of the processor."""
    began_at: list[tuple[str, float]] = []

    def on_event(name: str, data: dict[str, Any]) -> None:
        if name == "executing":
            kind = nodes.get(str(data.get("node")), {}).get("class_type", "end")
            began_at.append((kind, time.perf_counter()))

    busy, began = cpu_seconds(server.pid), time.perf_counter()
    if failure := describe_failure(server.run(nodes, on_event)):
        raise RuntimeError(failure)
    taken = {"whole": time.perf_counter() - began, "cpu": cpu_seconds(server.pid) - busy}
    ends = [moment for _, moment in began_at[1:]]
    spent = {kind: end - start for (kind, start), end in zip(began_at, ends, strict=False)}
    return taken | {name: spent[kind] for name, kind in NODES.items()}


def through_library(model: MusicGen, params: GenerationParams) -> dict[str, float]:
    """Make the same piece in this process; return the same figures."""
    # ComfyUI caches the condition, so encoding the text does not count here either.
    request = Request(params=params, positive=[model.text_encoder.encode([TEXT])])
    busy, began = time.process_time(), time.perf_counter()
    codes = generate(model.lm, model.config, request)
    sampled = time.perf_counter()
    model.decode(codes)
    ended = time.perf_counter()
    cpu = time.process_time() - busy
    return {"sample": sampled - began, "decode": ended - sampled, "whole": ended - began, "cpu": cpu}


def cpu_seconds(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def place_model(size: str, models: Path) -> tuple[str, Path]:
    """Return the loader's name of a model and its folder; a released size is written with random weights."""
    if size == "nano":
        return "bundled/musicgen-nano", ROOT / "models" / "musicgen-nano"
    import load

    load.write_hf(models / size, size)
    return size, models / size


def measure(options: argparse.Namespace, base: Path) -> dict[str, dict[str, list[float]]]:
    """Samples of seconds by contender and part, in turns, after one round that does not count."""
    prepare_base(base, ROOT)
    name, path = place_model(options.model, base / "models" / "musicgen")
    model = load_model(path)
    samples: dict[str, dict[str, list[float]]] = {"library": {}, "nodes": {}}
    began = time.perf_counter()
    with ComfyServer(base, options.comfyui, ("--cpu",)) as server:
        print(f"the server took {time.perf_counter() - began:.1f} s to start")
        for seed in range(options.rounds + 1):
            params = GenerationParams(options.seconds, seed=seed)
            nodes = prompt(name, options.seconds, seed)
            found = {"library": through_library(model, params), "nodes": through_server(server, nodes)}
            for who, row in found.items() if seed else ():
                for what, taken in row.items():
                    samples[who].setdefault(what, []).append(taken)
    return samples


def host_options(description: str | None, seconds: float) -> argparse.Namespace:
    """The command line of a benchmark on a ComfyUI server; sets the threads of this process and of the server."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("nano", "small", "medium", "large"), default="nano")
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    default = os.environ.get("COMFYUI_DIR") or ROOT / ".host" / "ComfyUI"
    parser.add_argument("--comfyui", type=Path, default=Path(default), help="the folder that holds ComfyUI's main.py")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # for the server
    torch.set_num_threads(options.threads)
    return options


def main() -> None:
    """Run the command."""
    options = host_options(__doc__, 10.0)
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(measure(options, Path(folder)))
    finish("node_overhead", rows, model=options.model, length=options.seconds, mark=MARK)


if __name__ == "__main__":
    main()
