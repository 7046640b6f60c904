"""Time and memory of pieces longer than the model's window.

Theory. A piece is sampled in windows of 30 s with a stride of 18 s (nano's are shorter), and each window continues
the 12 s that it shares with the one before it. The first window takes 1500 steps, and every further one a prefill
of 600 positions and 900 steps, at the same positions in every window. The time therefore grows by equal amounts for
equal lengths, about 8 % above the first window's rate if long caches matter, and less if they do not. A cache
holds one window and is allocated anew for each, so the memory of sampling does not depend on the length of the
piece. A codec that decodes in chunks needs the memory of one chunk and of the sound itself.

Two figures say how far that holds. `stride s` is the cost of moving on, a prefill and the steps of a whole window
after the first, and `linear` compares it with that of the shortest piece which has one: theory says 1. It
is made of lower quartiles, a quarter of the windows being quicker, so that a busy minute in a long run does not
count. `/ second` is the time that a user waited, such minutes included. Weights
are random numbers of the released shapes (`--model`); nano is the default, since 300 s of the released ones take
hours on a CPU. Peaks are of resident memory beyond the weights and all else that was there before; on a GPU of
allocated memory. Every length is measured `--rounds` times in turns with the others, and the quickest counts.
Seconds are the clock's, but for one thread of a CPU, where they are the processor's: other work disturbs these less.

    python benchmarks/longform.py --model nano --seconds 30 60 120 300

prints a table, and one line of JSON for machines.

    python benchmarks/longform.py --drift --seconds 300 --tries 4

measures something else: how far the bundled model's music moves away from its beginning, with windows as they come
and with the guard of MusicGen Long Form, in stretches of 10 s. Theory: a window continues four seconds of the one
before it and knows nothing of the first, so errors add up; if a try is near enough with probability p, the best of
n is near enough with 1 - (1 - p)^n, for n times the work at most.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from drifting import drift_line, drift_rows
from measuring import bandwidth, finish, peak_memory

from models import NAMES, random_codec, random_lm, text_condition
from musicgen.codec.encodec import EnCodec
from musicgen.config import ModelConfig
from musicgen.generation.generate import StepProgress, generate
from musicgen.generation.params import GenerationParams
from musicgen.generation.request import Request

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return a function for the processor's seconds if one CPU thread does all the work, else for the clock's."""
    return time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def request_of(config: ModelConfig, params: GenerationParams) -> Request:
    """Build a request for a piece with a description."""
    return Request(params=params, positive=[text_condition(dim=config.lm.text_dim)])


def piece(lm: Any, config: ModelConfig, params: GenerationParams, device: torch.device) -> dict[str, Any]:
    """Sample a piece; return its codes, its seconds, and the seconds of each window's prefill and of its steps.

    A window's first column is its prefill, with the preparation before it.
    """
    clock = clock_of(device)
    request, at = request_of(config, params), [clock()]

    def on_step(_: StepProgress) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        at.append(clock())

    codes = generate(lm, config, request, on_step=on_step, device=device)
    first, prefills, steps = 0, [], []
    for count in request.step_counts(config):
        prefills.append(at[first + 1] - at[first])
        steps.append((at[first + count] - at[first + 1]) / max(count - 1, 1))
        first += count
    return {"codes": codes, "seconds": at[-1] - at[0], "prefill": prefills, "step": steps}


def stride_seconds(row: dict[str, Any], counts: list[int]) -> float | None:
    """Seconds of a window after the first on a quiet machine; None for pieces of one window."""
    if len(counts) == 1:
        return None
    prefill, step = (sorted(row[name][1:])[(len(counts) - 1) // 4] for name in ("prefill", "step"))
    return prefill + (max(counts[1:]) - 1) * step


def peak(action: Callable[[], Any], device: torch.device) -> int:
    """Measure the peak bytes of one call."""
    if device.type != "cuda":
        return peak_memory(action)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    action()
    return torch.cuda.max_memory_allocated(device) - before


def sample_and_decode(
    lm: Any, config: ModelConfig, codec: EnCodec, params: GenerationParams, device: torch.device
) -> dict[str, Any]:
    """Sample a piece and decode it; return the seconds and the memory of both."""
    found: dict[str, Any] = {}
    taken = peak(lambda: found.update(piece(lm, config, params, device)), device)
    codes = found.pop("codes")
    clock = clock_of(device)
    began = clock()
    decoding = peak(lambda: codec.decode(codes).cpu(), device)
    return {**found, "decode": clock() - began, "peak": taken, "decode_peak": decoding}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all lengths and return one row for each."""
    device = torch.device(options.device)
    lm, config = random_lm(options.model, DTYPES[options.dtype], device)
    codec = random_codec(options.codec or options.model, device)
    requests = {s: GenerationParams(s, window=options.window, seed=1) for s in options.seconds}
    piece(lm, config, GenerationParams(min(1.0, *options.seconds), window=options.window), device)
    rows: dict[float, dict[str, Any]] = {}
    for turn in range(options.rounds):
        for length, params in requests.items():
            found = {"length": length, **sample_and_decode(lm, config, codec, params, device)}
            if turn:
                best = rows[length]
                found["decode"] = min(found["decode"], best["decode"])
                found["peak"], found["decode_peak"] = (max(found[k], best[k]) for k in ("peak", "decode_peak"))
                found = found if found["seconds"] < best["seconds"] else {**best, **_changed(found)}
            rows[length] = found
    for length, row in rows.items():
        row["stride"] = stride_seconds(row, request_of(config, requests[length]).step_counts(config))
        first = next((other["stride"] for other in rows.values() if other.get("stride")), None)
        row |= {"per_second": row["seconds"] / length, "linear": row["stride"] and row["stride"] / first}
    return list(rows.values())


def _changed(found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("decode", "peak", "decode_peak")}


HEADINGS = ("length", "windows", "LM s", "/ second", "step ms 1st", "others", "prefill ms", "stride s", "linear",
            "LM peak MB", "decode s", "/ second", "decode peak MB")  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """Format a row as a line of the table."""
    steps, prefills = row["step"], row["prefill"][1:]
    cells = [
        f"{row['length']:g}",
        f"{len(steps)}",
        f"{row['seconds']:.2f}",
        f"{row['per_second']:.4f}",
        f"{1e3 * steps[0]:.3f}",
        f"{1e3 * statistics.median(steps[1:]):.3f}" if prefills else "-",
        f"{1e3 * statistics.median(prefills):.1f}" if prefills else "-",
        *("-" if row[name] is None else f"{row[name]:.3f}" for name in ("stride", "linear")),
        f"{row['peak'] / 1e6:.1f}",
        f"{row['decode']:.2f}",
        f"{row['decode'] / row['length']:.4f}",
        f"{row['decode_peak'] / 1e6:.1f}",
    ]
    return "".join(f"{cell:>{len(head) + 3}}" for cell, head in zip(cells, HEADINGS, strict=True))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NAMES, default="nano")
    parser.add_argument("--codec", choices=NAMES, help="the model whose codec decodes; --model by default")
    parser.add_argument("--seconds", type=float, nargs="+", default=[30.0, 60.0, 120.0, 300.0])
    parser.add_argument("--window", type=float, help="seconds; the model's by default, with a stride of three fifths")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each length; the fastest counts")
    parser.add_argument("--drift", action="store_true", help="measure the drift of the music, not time and memory")
    parser.add_argument("--pieces", type=int, default=4, help="number of pieces, for --drift")
    parser.add_argument("--tries", type=int, default=4, help="how often the guard draws a window at most, for --drift")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.drift:
        found = drift_rows(options.pieces, max(options.seconds), options.tries)
        print("\n".join(map(drift_line, found)))
        finish("longform", found, pieces=options.pieces, seconds=max(options.seconds))
        return
    rows = measure(options)
    print("".join(f"{head:>{len(head) + 3}}" for head in HEADINGS))
    for row in rows:
        print(line(row))
    speed = bandwidth(options.device)
    print(f"this machine reads {speed / 1e9:.1f} GB/s of its memory")
    names = ("model", "codec", "dtype", "window")
    finish("longform", rows, bandwidth=speed, **{name: getattr(options, name) for name in names})


if __name__ == "__main__":
    main()
