"""How well edits of codes fit: sections sampled anew, music before a piece, loops, and variations.

Theory. A seam is measured on the decoded sound in standard deviations (z) of the same piece's interior: `jump` (spectra
50 ms before and after), `timbre` (a second before and after), `pulse` (onsets against those a period before). An
ordinary place has a mean z of 0 and a spread of 1, so the aim is a mean of |z| < 1 away from 0, and not every single
seam within 1. `nats` is the cross entropy per code of the second of music behind the seam, under the model: lower is a
better fit, and `as it was` is the piece's own value. A hard cut takes the section from another piece with the same
description; `plain` is one sample that knows nothing of the music behind it.

    python benchmarks/editing.py --seeds 50

prints a table for each edit, and one line of JSON for machines.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from measuring import ROOT, finish
from torch import Tensor

from musicgen import GenerationParams, MusicGen, load_model
from musicgen.codec.cyclic import decode_cyclic
from musicgen.editing.fill import before, fill, primed_frames
from musicgen.editing.loop import LoopLength, loop
from musicgen.editing.seams import MEASURES, loop_listener, seam_of, section_listener
from musicgen.evaluation.tonality import chroma_similarity
from musicgen.generation.following import following_nats
from musicgen.generation.generate import generate
from musicgen.generation.request import Request
from musicgen.times import Meter

TEXTS = (
    ("energetic rock with electric guitar, bass and drums, 120 bpm, e minor", 120.0),
    ("slow ambient pad with soft piano, 75 bpm, c major", 75.0),
    ("electronic dance music with synth lead, bass and drums, 150 bpm, a minor", 150.0),
    ("calm lofi with electric piano and drums, 90 bpm, d minor", 90.0),
)
SECONDS, SECTION = 10.0, (4.0, 6.0)
LEFT = 2.0
BARS = 4
MARGIN = 0.1


class Bench:
    """A model, and the pieces that are edited: one for each seed."""

    def __init__(self, model: MusicGen, seeds: int, candidates: int, rounds: int) -> None:
        self.model, self.seeds = model, range(seeds)
        self.how: dict[str, Any] = {"candidates": candidates, "rounds": rounds}
        self.params = GenerationParams(SECONDS, cfg_coef=2.0)
        self.pieces, self.others = self.sampled(1000), self.sampled(5000)

    def text(self, seed: int) -> tuple[str, float]:
        """The description of a seed's piece, and its tempo."""
        return TEXTS[seed % len(TEXTS)]

    def request(self, piece: int, known: Tensor | None = None, seconds: float = SECONDS, **numbers: Any) -> Request:
        """The request for a piece."""
        seconds = seconds if known is None else known.shape[2] / self.model.frame_rate
        params = replace(self.params, duration=seconds, **numbers)
        return Request(params=params, positive=[self.model.text_encoder.encode([self.text(piece)[0]])], known=known)

    def sampled(self, number: int) -> list[Tensor]:
        """A piece for each seed, from the random numbers of `number` and the seed; one batch for each description."""
        pieces: dict[int, Tensor] = {}
        for first in range(min(len(TEXTS), len(self.seeds))):
            alike = list(self.seeds)[first :: len(TEXTS)]
            asked = self.request(first).repeated([number + seed for seed in alike])
            made = generate(self.model.lm, self.model.config, asked)
            pieces |= {seed: made[row : row + 1] for row, seed in enumerate(alike)}
        return [pieces[seed] for seed in self.seeds]

    def frames(self, seconds: float) -> int:
        """Frames in some seconds."""
        return round(seconds * self.model.frame_rate)

    def nats(self, seed: int, codes: Tensor, first: int, stop: int) -> float:
        """Cross entropy of the second behind a section."""
        known = codes.clone()
        known[:, :, first:stop] = -1
        asked = self.request(seed, known)
        return float(following_nats(self.model.lm, self.model.config, asked, codes, stop, self.frames(1.0)))

    def filled(self, seed: int, known: Tensor, **how: Any) -> Tensor:
        """Fill the unknown codes."""
        asked = self.request(seed, known, seed=9000 + seed)
        return fill(self.model.lm, self.model.config, asked, **{**self.how, **how}).codes

    def seams(self, codes: Tensor, places: tuple[float, ...], interior: list[tuple[float, float]]) -> list[list[float]]:
        """The z of the three measures at each place."""
        audio = self.model.decode(codes)[0]
        found = [seam_of(audio, self.model.sample_rate, place, interior) for place in places]
        return [[getattr(seam, name) for name in MEASURES] for seam in found]


def row(edit: str, way: str, seam: str, zs: list[list[float]], nats: list[float] | None = None) -> dict[str, Any]:
    """A line of the table: mean z of each measure, and the share of single seams within 1."""
    found: dict[str, Any] = {"edit": edit, "way": way, "seam": seam}
    for index, name in enumerate(MEASURES):
        values = [z[index] for z in zs if math.isfinite(z[index])]
        found[name] = statistics.mean(values) if values else None
        found[f"{name}_within"] = statistics.mean(abs(value) < 1 for value in values) if values else None
    found["nats"] = None if nats is None else statistics.mean(nats)
    return found


def section(bench: Bench) -> list[dict[str, Any]]:
    """Sample two seconds in the middle of each piece anew, in three ways."""
    first, stop = (bench.frames(place) for place in SECTION)

    def cut(seed: int) -> Tensor:
        codes = bench.pieces[seed].clone()
        codes[:, :, first:stop] = bench.others[seed][:, :, first:stop]
        return codes

    def refilled(seed: int, **how: Any) -> Tensor:
        known = bench.pieces[seed].clone()
        known[:, :, first:stop] = -1
        codes = bench.filled(seed, known, **how)
        assert torch.equal(codes[known >= 0], known[known >= 0]), "codes outside the section changed"
        return codes

    ways: dict[str, Callable[[int], Tensor]] = {
        "as it was": lambda seed: bench.pieces[seed],
        "hard cut": cut,
        "plain": lambda seed: refilled(seed, candidates=1),
        "fill": lambda seed: refilled(seed, listen=section_listener(bench.model.codec, first, stop)),
    }
    interior = [(0.0, SECTION[0] - MARGIN), (SECTION[1] + MARGIN, SECONDS)]
    rows = []
    for way, make in ways.items():
        made = [make(seed) for seed in bench.seeds]
        zs = [bench.seams(codes, SECTION, interior) for codes in made]
        nats = [bench.nats(seed, codes, first, stop) for seed, codes in enumerate(made)]
        rows.append(row("section", way, "begin", [z[0] for z in zs]))
        rows.append(row("section", way, "end", [z[1] for z in zs], nats))
    return rows


def left(bench: Bench) -> list[dict[str, Any]]:
    """Cut the first two seconds off each piece, and sample others before the rest."""
    count = bench.frames(LEFT)

    def known(seed: int) -> Tensor:
        codes = bench.pieces[seed].clone()
        codes[:, :, :count] = -1
        return codes

    def cut(seed: int) -> Tensor:
        return torch.cat([bench.others[seed][:, :, :count], bench.pieces[seed][:, :, count:]], dim=2)

    def primed(seed: int) -> Tensor:
        piece, config = bench.pieces[seed][:, :, count:], bench.model.config
        asked = before(bench.request(seed, seed=9000 + seed), piece, count, config)
        listen = section_listener(bench.model.codec, primed_frames(piece, config), primed_frames(piece, config) + count)
        made = fill(bench.model.lm, config, asked, listen=listen, **bench.how).codes[
            :, :, primed_frames(piece, config) :
        ]
        assert torch.equal(made[:, :, count:], piece), "codes of the piece changed"
        return made

    ways: dict[str, Callable[[int], Tensor]] = {
        "as it was": lambda seed: bench.pieces[seed],
        "hard cut": cut,
        "plain": lambda seed: bench.filled(seed, known(seed), candidates=1),
        "fill": primed,
    }
    rows = []
    for way, make in ways.items():
        made = [make(seed) for seed in bench.seeds]
        zs = [bench.seams(codes, (LEFT,), [(LEFT + MARGIN, SECONDS)])[0] for codes in made]
        rows.append(row("left", way, "end", zs, [bench.nats(seed, each, 0, count) for seed, each in enumerate(made)]))
    return rows


def loops(bench: Bench) -> list[dict[str, Any]]:
    """Make a loop of two or four bars for each seed, and measure the seam where it plays the second time."""
    model = bench.model
    found: dict[str, list[Any]] = {way: [] for way in ("plain, cut", "plain, cyclic", "loop")}
    for seed in bench.seeds:
        meter = Meter(bench.text(seed)[1])
        bars = BARS if meter.bpm > 100 else BARS // 2
        length = LoopLength.of(bars, meter, frame_rate=model.frame_rate, sample_rate=model.sample_rate)
        asked = bench.request(seed, seconds=length.frames / model.frame_rate, seed=7000 + seed)
        plain = generate(model.lm, model.config, asked)
        how = {"listen": loop_listener(model.codec), **bench.how}
        looped = loop(model.lm, model.config, asked, length.frames, bench.frames(meter.bar), **how).codes
        cut = model.decode(plain)[0]
        cut = torch.nn.functional.pad(cut, (0, max(0, length.samples - cut.shape[1])))[:, : length.samples]
        sounds = {
            "plain, cut": (plain, cut),
            "plain, cyclic": (plain, decode_cyclic(model.codec, plain, length.samples)[0]),
            "loop": (looped, decode_cyclic(model.codec, looped, length.samples)[0]),
        }
        for way, (codes, audio) in sounds.items():
            found[way].append(turn(bench, seed, codes, audio))
    rows = []
    for way, turns in found.items():
        extra = {"click": statistics.mean(each["click"] for each in turns)}
        zs, nats = [each["z"] for each in turns], [each["nats"] for each in turns]
        rows.append({**row("loop", way, "turn", zs, nats), **extra})
    return rows


def turn(bench: Bench, seed: int, codes: Tensor, audio: Tensor) -> dict[str, Any]:
    """The z of a loop's turn, the cross entropy of its beginning after its end, and the step between its ends."""
    seconds = audio.shape[1] / bench.model.sample_rate
    interior = [(MARGIN, seconds - MARGIN), (seconds + MARGIN, 2 * seconds)]
    seam = seam_of(torch.cat([audio, audio], dim=1), bench.model.sample_rate, seconds, interior)
    # The step from the last sample to the first, in standard deviations of all steps.
    click = float((audio[0, 0] - audio[0, -1]).abs() / audio[0].diff().std())
    behind, frames = torch.cat([codes, codes[:, :, : bench.frames(1.0)]], dim=2), codes.shape[2]
    nats = bench.nats(seed, behind, frames - 1, frames)
    return {"z": [getattr(seam, name) for name in MEASURES], "click": click, "nats": nats}


def variations(bench: Bench) -> list[dict[str, Any]]:
    """Keep the lower codebooks and sample the upper ones anew: how near is the result to the piece?"""
    rows = []
    for kept in range(1, bench.model.num_codebooks):
        likeness, changed = [], []
        for seed in bench.seeds:
            piece = bench.pieces[seed]
            known = piece.clone()
            known[:, kept:] = -1
            codes = bench.filled(seed, known)
            assert torch.equal(codes[:, :kept], piece[:, :kept]), "a kept codebook changed"
            before_it, after = (bench.model.decode(each)[:, 0] for each in (piece, codes))
            likeness.append(float(chroma_similarity(before_it, after, bench.model.sample_rate)))
            changed.append(float((codes != piece).float().mean()))
        found = {"chroma": statistics.mean(likeness), "changed": statistics.mean(changed)}
        rows.append({**row("variation", f"{kept} codebooks kept", "-", []), **found})
    return rows


def forks(bench: Bench) -> list[dict[str, Any]]:
    """Continue eight branches of one prompt, and eight prompts, by a few frames: seconds of the processor."""
    generator, size = torch.Generator().manual_seed(1), (8, bench.model.num_codebooks, bench.frames(9.6))
    prompts = torch.randint(0, bench.model.config.card, size, generator=generator)
    rows = []
    for way, prompt in (("one prompt", prompts[:1]), ("eight prompts", prompts)):
        asked = replace(bench.request(0).repeated(range(8)), prompt=prompt)
        asked = replace(asked, params=replace(asked.params, duration=9.62))
        taken = []
        for _ in range(4):
            began = time.process_time()
            generate(bench.model.lm, bench.model.config, asked)
            taken.append(time.process_time() - began)
        rows.append({**row("fork", way, "-", []), "seconds": min(taken[1:])})
    return rows


EDITS = {"section": section, "left": left, "loop": loops, "variation": variations, "fork": forks}


def line(found: dict[str, Any]) -> str:
    """Format a row."""
    cells = [f"{found['edit']:10}{found['way']:20}{found['seam']:7}"]
    for name in MEASURES:
        if found[name] is not None:
            cells.append(f"{name} {found[name]:+.2f} ({found[f'{name}_within']:.2f} within 1)")
    for name in ("nats", "click", "chroma", "changed", "seconds"):
        if found.get(name) is not None:
            cells.append(f"{name} {found[name]:.3f}")
    return "  ".join(cells)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="musicgen-nano", help="a folder in models/")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--edits", nargs="+", choices=EDITS, default=list(EDITS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(load_model(ROOT / "models" / options.model), options.seeds, options.candidates, options.rounds)
    rows = []
    for edit in options.edits:
        for found in EDITS[edit](bench):
            rows.append(found)
            print(line(found), flush=True)
    finish("editing", rows, model=options.model, seeds=options.seeds, candidates=options.candidates,
           rounds=options.rounds)  # fmt: skip


if __name__ == "__main__":
    main()
