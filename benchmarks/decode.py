"""Steps per second of the language model, compared with transformers, audiocraft-like code and the memory's speed.

Theory. At batch 1 a step multiplies two rows (guidance has two) by every weight: 14 d^2 numbers a
layer, with keys and values of the condition kept, and the heads; and it reads the keys and values
of all positions before it. Each number read is multiplied twice, so a step lasts as
long as the reading. The limit is the memory's bytes per second, which is measured here first (on
a CPU as a sum over 1 GiB), and `limit` is the share of it that a contender's own bytes come to.

A piece of 30 s has 1,503 steps, and a step late in the piece reads a longer cache. Contenders are
measured at seven positions, in turns, round after round, and the mean over the piece is that of the
straight lines between them. A ratio is taken within each round, so that a disturbance of the
machine affects both. Each step embeds, runs all layers, guides and draws; a generation's preparation and
progress reports are left out. On a CPU `ours` runs compiled steps where it can, `ours fp16 cache` keeps
keys and values in float16, and `ordinary` is a step without compilation. Where OpenVINO is installed
it is measured too. `--phases` tells where the time of a compiled step goes. `--whole
SECONDS` runs whole generations as well, on a GPU with steps recorded as CUDA graphs and step by step, and
compares the memory taken with the estimate for the host.

    python benchmarks/decode.py small --rounds 10
    python benchmarks/decode.py small --device cuda --whole 30

prints a table and one line of JSON for machines.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import openvino_peer
import torch
from measuring import bandwidth, finish, seconds, spread
from peers import Audiocraft, Setting, Transformers
from torch import Tensor

from models import NAMES, build_lm, random_codec, random_weights, released_config, text_condition
from musicgen.codec.encodec import EnCodec
from musicgen.conditioning.fuser import fuse
from musicgen.config import ModelConfig
from musicgen.decoding.engine import CachedDecoder
from musicgen.decoding.sampling import exponential_noise, sample_codes
from musicgen.generation.generate import generate
from musicgen.generation.guidance import guide
from musicgen.generation.params import GenerationParams
from musicgen.generation.request import Request
from musicgen.lm import cpu_plan as at
from musicgen.lm.cpu_compiler import build
from musicgen.lm.cpu_step import CACHE_VARIABLE, why_ordinary
from musicgen.lm.cpu_team import Team
from musicgen.lm.language_model import LMModel

STEPS = 1503
POSITIONS = (4, 250, 500, 750, 1000, 1250, 1480)
CPU = {
    "ours": None,
    "ours fp16 cache": None,
    "ours fp32": torch.float32,
    "ours int8": torch.int8,
    "ordinary": None,
    "ordinary fp32": torch.float32,
    "ordinary int8": torch.int8,
}
CUDA = {"ours bf16": torch.bfloat16, "ours fp16": torch.float16}
BYTES = {None: 2, torch.int8: 1, torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}


class Ours:
    """The step of this library."""

    def __init__(
        self, lm: LMModel, config: ModelConfig, batch: int, cache: list[Tensor], device: str, compiled: bool = True
    ) -> None:
        self.lm, self.config, self.batch, self.device = lm, config, batch, torch.device(device)
        self.compiled = compiled and why_ordinary(lm, self.device) is None
        self.team = Team(torch.get_num_threads()) if self.compiled else None
        conditions = fuse(lm, [text_condition(dim=config.lm.text_dim), None], batch, self.device, led=[False, False])
        self.decoder = CachedDecoder(lm, conditions, batch, STEPS + 1, self.device, self.team)
        for own, given in zip(self.decoder.caches, cache, strict=True):
            own.keys.copy_(given[0])
            own.values.copy_(given[1])
        self.sequence = torch.zeros(batch, config.num_codebooks, STEPS + 2, dtype=torch.long, device=self.device)
        self.generators = [torch.Generator().manual_seed(i) for i in range(batch)]

    def reset(self, position: int) -> None:
        """Set the number of positions that count as decoded."""
        if self.team is not None:
            torch.set_num_threads(1)
        for cache in self.decoder.caches:
            cache.length = position
        self.decoder.columns = position

    def step(self) -> None:
        """Decode one column."""
        column = self.decoder.columns + 1
        logits = self.decoder.next_logits(self.sequence, column)
        noise = exponential_noise(self.generators, self.config.num_codebooks, self.config.card).to(self.device)
        self.sequence[:, :, column] = sample_codes(guide(logits[0], logits[1], 3.0), noise, top_k=250)


@contextmanager
def cache_kind(kind: str) -> Iterator[None]:
    """Let compiled steps keep their cache in fp16 or fp32; "" for their own choice."""
    before = os.environ.pop(CACHE_VARIABLE, "")
    os.environ[CACHE_VARIABLE] = kind
    yield
    os.environ[CACHE_VARIABLE] = before


def random_cache(config: ModelConfig, batch: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    """Make random keys and values `[2, rows, heads, STEPS + 1, head_dim]` for every layer."""
    shape = (2, 2 * batch, config.lm.num_heads, STEPS + 1, config.lm.dim // config.lm.num_heads)
    return [torch.randn(shape, dtype=dtype, device=device) for _ in range(config.lm.num_layers)]


def contenders(options: argparse.Namespace, config: ModelConfig, weights: dict[str, Tensor]) -> dict[str, Any]:
    """Build all contenders, by name."""
    dtypes = CPU if options.device == "cpu" else CUDA
    peer_dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    cache = random_cache(config, options.batch, peer_dtype, options.device)
    made: dict[str, Any] = {}
    models: dict[Any, LMModel] = {}
    only = options.only.split(",") if options.only else None
    for name, dtype in dtypes.items():
        if only is not None and name not in only:
            continue
        lm = models.setdefault(dtype, models.get(dtype) or build_lm(options.size, weights, dtype, options.device))
        with cache_kind("fp16" if name == "ours fp16 cache" else ""):
            made[name] = Ours(lm, config, options.batch, cache, options.device, not name.startswith("ordinary"))
    if not options.without_peers:
        setting = Setting(config, weights, options.batch, cache, peer_dtype, options.device)
        peers: dict[str, Callable[[], Any]] = {
            "transformers": partial(Transformers, setting),
            "audiocraft-like": partial(Audiocraft, setting),
        }
        if options.device == "cpu" and openvino_peer.is_installed():
            peers |= {
                f"OpenVINO {kind}": partial(openvino_peer.OpenVino, setting, kind) for kind in openvino_peer.KINDS
            }
        made |= {name: peer() for name, peer in peers.items() if only is None or name in only}
    return made


def measure(made: dict[str, Any], rounds: int, device: str) -> dict[str, list[list[float]]]:
    """Measure the seconds of a step, by contender, round and position, after one uncounted round."""
    samples: dict[str, list[list[float]]] = {name: [] for name in made}
    threads = torch.get_num_threads()
    for _ in range(rounds + 1):
        for name in made:
            samples[name].append([])
        for position in POSITIONS:
            for name, contender in made.items():
                torch.set_num_threads(threads)
                contender.reset(position)
                contender.step()
                samples[name][-1].append(min(seconds(contender.step, device) for _ in range(2)))
    torch.set_num_threads(threads)
    return {name: found[1:] for name, found in samples.items()}


def mean_over_piece(row: list[float]) -> float:
    """Return the mean time of a step over a piece, interpolated linearly between the measured positions."""
    at = [0, *POSITIONS[1:-1], STEPS]
    return sum((b - a) * (s + t) / 2 for a, b, s, t in zip(at, at[1:], row, row[1:], strict=False)) / STEPS


def bytes_per_step(config: ModelConfig, weight: int, number: int, batch: int) -> float:
    """Bytes that a step reads on average: weights and cache."""
    lm = config.lm
    weights = weight * (14 * lm.dim**2 * lm.num_layers + lm.num_codebooks * lm.card * lm.dim)
    return weights + number * 2 * lm.num_layers * 2 * batch * lm.dim * STEPS / 2


def report(
    options: argparse.Namespace, config: ModelConfig, samples: dict[str, list[list[float]]]
) -> list[dict[str, Any]]:
    """Print the table and return its rows."""
    limit = bandwidth(options.device)
    dtypes = CPU | CUDA
    means = {name: [mean_over_piece(row) for row in found] for name, found in samples.items()}
    print(f"memory {limit / 1e9:.1f} GB/s; {options.size}, batch {options.batch}, mean over 30 s\n")
    headings = f"{'ms/step: least, middle, largest':>34}{'steps/s':>9}{'x real':>8}{'limit':>7}"
    print(f"{'':16}{headings}  times transformers, times audiocraft")
    rows = []
    for name, found in means.items():
        middle = statistics.median(found)
        number = 4 if options.device == "cpu" else 2
        weight = BYTES[dtypes[name]] if name in dtypes else number
        if name.startswith("OpenVINO"):
            weight, number = 2 if name.endswith("fp16") else 1, 1
        elif name in ("ours fp16 cache", "ours int8"):
            number = 2
        share = bytes_per_step(config, weight, number, options.batch) / limit / middle
        row = {"contender": name, "ms": [1e3 * s for s in found], "limit": share, "steps_per_second": 1 / middle}
        text = ""
        for peer in ("transformers", "audiocraft-like"):
            if peer in means and name not in ("transformers", "audiocraft-like"):
                ratios = [theirs / ours for theirs, ours in zip(means[peer], found, strict=True)]
                row[f"times_{peer}"] = ratios
                text += f"  {spread(ratios)}"
        rows.append(row)
        rate = options.batch / middle / config.frame_rate
        print(f"{name:16}{spread(found, 1e3):>34}{1 / middle:9.1f}{rate:8.2f}{share:7.0%}{text}", flush=True)
    print("\nms/step at position " + " ".join(f"{p:>7}" for p in POSITIONS))
    for name, turns in samples.items():
        middles = [1e3 * statistics.median(column) for column in zip(*turns, strict=True)]
        print(f"{name:20}" + " ".join(f"{m:7.1f}" for m in middles))
    return rows


def whole(options: argparse.Namespace, config: ModelConfig, made: dict[str, Any]) -> list[dict[str, Any]]:
    """Whole generations, preparation and progress reports included, and the GPU memory that they take."""
    codec, rows = random_codec(options.size, options.device), []
    for name, contender in made.items():
        if not isinstance(contender, Ours):
            runs: dict[str, Callable[[], Any]] = {name: partial(peer_piece, contender, config, options.whole)}
        elif options.device == "cpu":
            runs = {name: partial(piece, contender.lm, config, options, options.whole, None, contender.compiled)}
        else:
            ways = {"recorded": True, "step by step": False}
            runs = {
                f"{name}, {way}": partial(piece, contender.lm, config, options, options.whole, graphs)
                for way, graphs in ways.items()
            }
        for label, run in runs.items():
            run()
            taken = seconds(run, options.device)
            row: dict[str, Any] = {"contender": label, "whole": options.whole, "seconds": taken}
            row["real_time"] = options.batch * options.whole / taken
            text = f"{label:24} {options.whole:g} s in {taken:.2f} s, {row['real_time']:.2f} x real time"
            if isinstance(contender, Ours):
                graphs = None if options.device == "cpu" else label.endswith("recorded")
                begin = partial(first_second, contender.lm, codec, config, options, graphs)
                row["first_second"] = seconds(begin, options.device)
                text += f"; first second after {row['first_second']:.2f} s"
                if options.device != "cpu":
                    row |= memory_beside_estimate(run, config, options, contender.lm.dtype.itemsize)
                    text += f"; {row['peak'] / 1e9:.2f} GB beside weights, {row['estimate'] / 1e9:.2f} estimated"
            print(text, flush=True)
            rows.append(row)
    return rows


def phases(options: argparse.Namespace, made: dict[str, Any]) -> list[dict[str, Any]]:
    """Where the time of a compiled step goes, by contender and position: the quickest of several steps."""
    step, found = build(measured=True), []
    times = (ctypes.c_int64 * len(at.PHASES))()
    for name, contender in made.items():
        compiled = contender.decoder._compiled if isinstance(contender, Ours) else None
        if compiled is None:
            continue
        for position in POSITIONS[:: len(POSITIONS) // 2]:
            compiled._step, compiled._plan[at.TIMES] = step, ctypes.addressof(times)
            samples = []
            for _ in range(2 * options.rounds):
                contender.reset(position)
                ctypes.memset(times, 0, ctypes.sizeof(times))
                samples.append((seconds(contender.step), list(times)))
            taken, ticks = min(samples[1:])
            shares = {phase: count / sum(ticks) for phase, count in zip(at.PHASES, ticks, strict=True)}
            found.append({"contender": name, "position": position, "seconds": taken, "shares": shares})
            parts = ", ".join(f"{phase} {1e3 * taken * share:.2f}" for phase, share in shares.items())
            print(f"{name} at {position}: {1e3 * taken:.2f} ms; {parts}", flush=True)
    return found


def request_of(config: ModelConfig, duration: float, batch: int = 1) -> Request:
    """Build a request for a number of seconds with a description."""
    condition = text_condition(dim=config.lm.text_dim)
    return Request(params=GenerationParams(duration), positive=[condition], batch_size=batch)


def piece(
    lm: LMModel,
    config: ModelConfig,
    options: argparse.Namespace,
    duration: float,
    graphs: bool | None,
    compiled: bool | None = None,
) -> Tensor:
    """Sample the codes of a piece with this library."""
    return generate(
        lm,
        config,
        request_of(config, duration, options.batch),
        device=options.device,
        on_step=ignore,
        use_cuda_graphs=graphs,
        use_compiled_steps=compiled,
    )


def peer_piece(peer: Any, config: ModelConfig, duration: float) -> None:
    """Run as many steps of a peer as a piece has."""
    peer.reset(0)
    for _ in range(request_of(config, duration).steps(config)):
        peer.step()


def first_second(
    lm: LMModel, codec: EnCodec, config: ModelConfig, options: argparse.Namespace, graphs: bool | None
) -> None:
    """Sample and decode a second of sound."""
    codec.decode(piece(lm, config, options, 1.0, graphs).to(options.device))


def memory_beside_estimate(
    run: Callable[[], Any], config: ModelConfig, options: argparse.Namespace, itemsize: int
) -> dict[str, int]:
    """Bytes of the GPU that a generation takes beside the weights, and the estimate for the host."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    estimate = request_of(config, options.whole, options.batch).bytes(config, itemsize)
    return {"peak": torch.cuda.max_memory_allocated() - before, "estimate": estimate}


def ignore(_: Any) -> None:
    """Ignore a progress report."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", choices=NAMES, default="small")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch", type=int, default=1, help="pieces at once")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each position")
    parser.add_argument("--threads", type=int, help="threads of torch; its own choice by default")
    parser.add_argument("--without-peers", action="store_true", help="measure only this library")
    parser.add_argument("--only", help="contenders to measure, by name, with commas between; all by default")
    parser.add_argument("--phases", action="store_true", help="also tell where the time of compiled steps goes")
    parser.add_argument("--whole", type=float, default=0.0, help="also run whole generations of this many seconds")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    config = released_config(options.size)
    with torch.inference_mode():
        made = contenders(options, config, random_weights(options.size))
        samples = measure(made, options.rounds, options.device)
        rows = report(options, config, samples)
        rows += phases(options, made) if options.phases else []
        rows += whole(options, config, made) if options.whole else []
    finish("decode", rows, size=options.size, batch=options.batch, device=options.device)


if __name__ == "__main__":
    main()
