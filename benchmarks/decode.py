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
progress reports are left out. On a CPU `ours` runs compiled steps where it can, and `ours ordinary`
is the same model without them. `--whole SECONDS` runs whole generations as well, on a GPU with steps
recorded as CUDA graphs and step by step, and compares the memory taken with the estimate for the host.

    python benchmarks/decode.py small --rounds 10
    python benchmarks/decode.py small --device cuda --whole 30

prints a table and one line of JSON for machines.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

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
from musicgen.lm.cpu_step import why_ordinary
from musicgen.lm.cpu_team import Team
from musicgen.lm.language_model import LMModel

STEPS = 1503
POSITIONS = (4, 250, 500, 750, 1000, 1250, 1480)
CPU = {"ours": None, "ours fp32": torch.float32, "ours int8": torch.int8, "ours ordinary": None}
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
    for name, dtype in dtypes.items():
        lm = build_lm(options.size, weights, dtype, options.device)
        made[name] = Ours(lm, config, options.batch, cache, options.device, name != "ours ordinary")
    if not options.without_peers:
        for name, kind in {"transformers": Transformers, "audiocraft-like": Audiocraft}.items():
            made[name] = kind(Setting(config, weights, options.batch, cache, peer_dtype, options.device))
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
        share = bytes_per_step(config, weight, number, options.batch) / limit / middle
        row = {"contender": name, "ms": [1e3 * s for s in found], "limit": share, "steps_per_second": 1 / middle}
        text = ""
        for peer in ("transformers", "audiocraft-like"):
            if peer in means and name in dtypes:
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
        rows += whole(options, config, made) if options.whole else []
    finish("decode", rows, size=options.size, batch=options.batch, device=options.device)


if __name__ == "__main__":
    main()
