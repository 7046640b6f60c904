"""The time that hearing a piece while it is sampled adds to the sampling, through a real server.

Theory. The codec at the sampler decodes only new frames and writes the sound so far to a file, and starts neither
before the time that passed pays for it: 4 % of it. So the ratio of the two times should stay below 1.05 for every
model, however slow its codec is; a slow codec makes fewer versions, and shorter ones.

The same prompt runs with and without the codec at the sampler, in turns, each round with a seed of its own. Seconds
are those between the server's messages that the sampler and its successor begin; `cpu` are the server's processor
seconds for the whole prompt, which other work on the machine disturbs less. `first` is the time after which the first
version arrived, `versions` their number, `heard` the seconds of music in the last one. Linux only.

    python benchmarks/preview.py --model nano --seconds 30 --rounds 5

prints a table, and one line of JSON for machines.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

from measuring import ROOT, compare, finish, spread
from node_overhead import NODES, cpu_seconds, host_options, place_model, prompt

from dev.comfy_server import ComfyServer, describe_failure, prepare_base

MARK = 1.05


def measured(server: ComfyServer, nodes: dict[str, Any]) -> dict[str, float]:
    """Run a prompt; the figures of its sampler."""
    (sampler,) = (key for key, node in nodes.items() if node["class_type"] == NODES["sample"])
    moments: list[tuple[str, float]] = []
    versions: list[tuple[float, dict[str, Any]]] = []

    def on_event(name: str, data: dict[str, Any]) -> None:
        now = time.perf_counter()
        if name == "executing":
            moments.append((str(data.get("node")), now))
        elif name == "executed" and data["node"] == sampler and moments and moments[-1][0] == sampler:
            versions.append((now, data["output"]["audio"][0]))
            if len(versions) > 1 and versions[-1][1] == versions[-2][1]:
                versions.pop()  # the node's own output, which is the last version

    busy = cpu_seconds(server.pid)
    if failure := describe_failure(server.run(nodes, on_event)):
        raise RuntimeError(failure)
    busy = cpu_seconds(server.pid) - busy
    began = next(moment for node, moment in moments if node == sampler)
    ended = next(moment for node, moment in moments if moment > began)
    found = {"sample": ended - began, "cpu": busy}
    if versions:
        with wave.open(io.BytesIO(server.view(versions[-1][1]))) as file:
            heard = file.getnframes() / file.getframerate()
        found |= {"first": versions[0][0] - began, "versions": len(versions), "heard": heard}
    return found


def measure(options: argparse.Namespace, base: Path) -> dict[str, dict[str, list[float]]]:
    """Samples by contender and figure, in turns, after one round that does not count."""
    prepare_base(base, ROOT)
    name, _ = place_model(options.model, base / "models" / "musicgen")
    samples: dict[str, dict[str, list[float]]] = {"silent": {}, "heard": {}}
    with ComfyServer(base, options.comfyui, ("--cpu",)) as server:
        for seed in range(options.rounds + 1):
            for who in samples:
                nodes = prompt(name, options.seconds, seed)
                (loader,) = (key for key, node in nodes.items() if node["class_type"] == "MusicGenLoader")
                for node in nodes.values():
                    if who == "heard" and node["class_type"] == NODES["sample"]:
                        node["inputs"]["codec"] = [loader, 2]
                for what, value in measured(server, nodes).items() if seed else ():
                    samples[who].setdefault(what, []).append(value)
    return samples


def main() -> None:
    """Run the command."""
    options = host_options(__doc__, 30.0)
    with tempfile.TemporaryDirectory() as folder:
        samples = measure(options, Path(folder))
    rows = compare(samples, ("sample", "cpu"))
    for what in ("first", "versions", "heard"):
        if found := samples["heard"].get(what):
            print(f"{what:10}{spread(found):>48}")
    finish("preview", rows, model=options.model, length=options.seconds, mark=MARK, heard=samples["heard"])


if __name__ == "__main__":
    main()
