"""Checks that no table of held-out songs shows: prompts of people, long pieces, and the patterns of one model.

Each is a command of :mod:`nano.measure`.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from musicgen.audio import resample
from musicgen.evaluation.intervals import wilson_interval
from musicgen.evaluation.report import Figure, table
from musicgen.generation.params import GenerationParams
from musicgen.model import load_model

from . import outside
from .corpus.bank import SAMPLE_RATE
from .corpus.captions import read_caption
from .heldout import Songs, sample
from .probes import load_probe
from .scores import hear, score_requests

PROMPTS: dict[str, dict[str, tuple[object, ...]]] = {
    "80s electronic track with melodic synthesizers, catchy beat, and groovy bass": {
        "lead": ("synth", "chiptune"),
        "drums": (True,),
        "bass": (True,),
    },
    "smooth jazz, with a saxophone solo, piano chords, and snare full drums": {
        "lead": ("saxophone",),
        "chords": ("piano",),
        "drums": (True,),
    },
    "90s rock song with electric guitar and heavy drums": {
        "lead": ("electric guitar", "distorted guitar"),
        "drums": (True,),
    },
    "lofi slow bpm electro chill with organic samples": {
        "genre": ("lofi", "hip hop", "ambient", "electronic"),
    },
}
"""The prompts of the first write-up about MusicGen, and the probe's answers that are right; no caption of the corpus
is one of them."""
_SHOWN = 6


def request_of(args: argparse.Namespace) -> GenerationParams:
    """The request that a command's options make."""
    return GenerationParams(
        duration=args.seconds,
        cfg_coef=args.cfg_coef,
        temperature=args.temperature,
        top_k=args.top_k,
        seed=args.seed,
        pattern=args.pattern,
    )


def run_prompts(args: argparse.Namespace) -> None:
    """Sample each prompt, and print how often the probe finds what it names, and librosa drums in every slice."""
    model, probe = load_model(args.model), load_probe(args.probe)
    lines = ["| prompt | named | right | drums in every 2 s (librosa) |", "|---|---|---|---|"]
    for prompt, wanted in PROMPTS.items():
        codes = model.generate([prompt] * args.seeds, request_of(args))
        audio = resample(model.decode(codes).mean(dim=1), model.sample_rate, SAMPLE_RATE)
        answers = hear(audio, SAMPLE_RATE, probe).answers
        steady = sum(outside.has_drums_throughout(clip, SAMPLE_RATE) for clip in outside.rows(audio))
        for name, allowed in wanted.items():
            found = sum(answer in allowed for answer in answers[name])
            lines.append(f"| {prompt} | {name} | {found} of {args.seeds} | {steady} of {args.seeds} |")
    sys.stdout.write("\n".join(lines) + "\n")


def run_long(args: argparse.Namespace) -> None:
    """Sample captions that ask for drums at `--seconds`, and print where drums stop and how the sound drifts."""
    model = load_model(args.model)
    songs = Songs("test", 4 * args.pieces, 10.0)
    kept = [row for row, plan in enumerate(songs.labels) if plan.drums and not plan.ending][: args.pieces]
    songs.captions, songs.melody = [songs.captions[row] for row in kept], songs.melody[kept]
    songs.audio = torch.zeros(len(kept), round(args.seconds * SAMPLE_RATE))
    audio, _ = sample(model, songs, request_of(args))
    shares = [outside.percussive_shares(clip, SAMPLE_RATE) for clip in outside.rows(audio)]
    alive = [bool((each > outside.DRUM_FLOOR).all()) for each in shares]
    drifts = np.array([outside.drift(clip, SAMPLE_RATE) for clip in outside.rows(audio)])
    low, high = wilson_interval(sum(alive), len(alive))
    lines = [f"drums in every 2 s of {args.seconds:.0f} s: {np.mean(alive):.2f} ({low:.2f} to {high:.2f})"]
    lines.append(f"slices with drums: {np.mean(np.concatenate(shares) > outside.DRUM_FLOOR):.2f}")
    within = np.abs(drifts) <= (2.0, 0.15)
    for name, column, unit in (("loudness", 0, "dB"), ("centroid", 1, "")):
        middle = np.median(np.abs(drifts[:, column]))
        share = within[:, column].mean()
        lines.append(
            f"{name}, last 10 s against the first: {middle:.2f} {unit} off in the middle, within bounds {share:.2f}"
        )
    for each in shares[:_SHOWN]:
        lines.append(" ".join(f"{share:.2f}" for share in each))
    sys.stdout.write("\n".join(lines) + "\n")


def run_patterns(args: argparse.Namespace) -> None:
    """Sample the same captions by each pattern that the model knows, and print one column of figures for each."""
    model, probe, songs = load_model(args.model), load_probe(args.probe), Songs("test", args.clips, args.seconds)
    asked = [read_caption(caption) for caption in songs.captions]
    columns = {}
    for pattern in [None, *model.config.patterns]:
        began = time.process_time()
        audio, _ = sample(model, songs, replace(request_of(args), pattern=pattern))
        spent = (time.process_time() - began) / args.clips
        figures = [*outside.score_requests(audio, asked, SAMPLE_RATE)]
        figures += score_requests(hear(audio, SAMPLE_RATE, probe), asked)
        columns[pattern or "its own"] = [*figures, Figure("processor seconds a piece", "value", (spent,))]
    sys.stdout.write(table(columns) + "\n")
