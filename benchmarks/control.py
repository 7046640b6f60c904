"""Does the music do as it is told? Measures of control over a model's own music, with and without each feature.

Most figures come from an ear (`hearing.py`) that learns to tell two descriptions apart from pieces that follow one of
them throughout; the share of slices that it tells right in other pieces stands beside, and no figure can exceed it by
more than chance.

Theory. Every feature is a mixture of predictions, so it can move the music only between and a little beyond the
descriptions that are mixed, and only as far as the model trusts them more than the music before.

    python benchmarks/control.py --pieces 32
    python benchmarks/control.py --only timeline negative --pieces 16

prints the rows of docs/control.md as they are measured, and one line of JSON for machines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from hearing import HOP, SLICE, Ear, train_ear
from measuring import finish
from torch import Tensor

from musicgen.conditioning.condition import TextCondition
from musicgen.conditioning.melody import extract_melody
from musicgen.conditioning.timeline import parse_timeline
from musicgen.conditioning.weighted import read_weights
from musicgen.config import RELEASED_CHROMA
from musicgen.evaluation.tonality import chroma_similarity
from musicgen.generation.generate import generate
from musicgen.generation.params import GenerationParams
from musicgen.generation.request import Request
from musicgen.generation.schedule import Schedules, parse_schedule
from musicgen.model import MusicGen, load_model

CHANGE, SECONDS = 4.0, 8.0


def song(lead: str = "guitar", drums: str = ", rock drums") -> str:
    """A caption of the bundled models' corpus."""
    return f"pop song with {lead} melody, warm pads, bass guitar{drums}, 100 bpm, key of c major"


STILL, UNSAID = ", no drums", ""


@dataclass(frozen=True)
class Studio:
    """A model, and how many pieces each figure takes."""

    model: MusicGen
    pieces: int

    def conditions(self, text: str, **options: Any) -> list[TextCondition]:
        """Encode a description with weighted words."""
        encode = self.model.text_encoder.encode
        return [replace(encode([part.text]), weight=part.weight, **options) for part in read_weights(text)]

    def timeline(self, text: str, carry: float | None) -> list[TextCondition]:
        """Encode a timeline; a section hears the last `carry` seconds before it, or everything for None."""
        conditions: list[TextCondition] = []
        for index, section in enumerate(parse_timeline(text)):
            conditions += self.conditions(section.text, span=replace(section.span, carry=carry if index else None))
        return conditions

    def codes(
        self, positive: Sequence[TextCondition], *, seed: int = 0, seconds: float = SECONDS, **options: Any
    ) -> Tensor:
        """Sample pieces: codes `[N, K, T]`."""
        params = GenerationParams(seconds, seed=seed, cfg_coef=options.pop("cfg_coef", 3.0))
        request = Request(params=params, positive=positive, batch_size=options.pop("pieces", self.pieces), **options)
        return generate(self.model.lm, self.model.config, request)

    def play(self, positive: Sequence[TextCondition], **options: Any) -> Tensor:
        """Sample pieces and decode them: `[N, L]`."""
        return self.model.decode(self.codes(positive, **options))[:, 0]

    def ear(self, first: Sequence[str], second: Sequence[str]) -> Ear:
        """An ear for two sides, each of several descriptions, from pieces of other seeds than the measured ones."""
        sides = [
            torch.cat([self.play(self.conditions(text), seed=1000 * (1 + side), seconds=5.0) for text in texts])
            for side, texts in enumerate((first, second))
        ]
        return train_ear(sides[0], sides[1], self.model.sample_rate)

    def share(self, ear: Ear, audio: Tensor, first: float = 0.0, last: float = SECONDS) -> float:
        """The share of slices between two times that follow the ear's second side."""
        heard = ear.hears(audio, self.model.sample_rate).float()
        starts = torch.arange(heard.shape[1]) * HOP
        return float(heard[:, (starts >= first - 1e-6) & (starts + SLICE <= last + 1e-6)].mean())


ROWS: list[dict[str, Any]] = []
"""The figures so far."""


def tell(name: str, *figures: str) -> None:
    """Print one row, and keep it."""
    sys.stdout.write(f"| {name} | " + " | ".join(figures) + " |\n")
    sys.stdout.flush()
    ROWS.append({"measure": name, "figures": figures})


def drums_ear(studio: Studio) -> Ear:
    """An ear for drums, whichever lead plays."""
    return studio.ear([song(drums=STILL), song("organ", STILL)], [song(), song("organ")])


def lead_ear(studio: Studio) -> Ear:
    """An ear for an organ in place of a guitar, with drums or without."""
    return studio.ear([song(), song(drums=STILL)], [song("organ"), song("organ", STILL)])


def measure_timeline(studio: Studio, args: argparse.Namespace) -> None:
    """Before a change, in the second after it, and from then on; and the attribute that was not to change."""
    drums, lead = drums_ear(studio), lead_ear(studio)
    tell("ear for drums, ear for the lead: right", f"{drums.accuracy:.2f}", f"{lead.accuracy:.2f}")
    changes = {
        "drums enter": (song(drums=STILL), song(), drums, lead),
        "drums stop": (song(), song(drums=STILL), drums, lead),
        "guitar becomes organ": (song(), song("organ"), lead, drums),
    }
    for name, (first, second, changed, kept) in changes.items():
        for carry in args.carry:
            audio = studio.play(studio.timeline(f"0s {first}\n{CHANGE:g}s {second}", carry))
            spans = ((0.0, CHANGE), (CHANGE, CHANGE + 1), (CHANGE + 1, SECONDS))
            figures = [f"{studio.share(changed, audio, *span):.2f}" for span in spans]
            other = [f"{studio.share(kept, audio, *span):.2f}" for span in (spans[0], spans[2])]
            tell(f"{name}, hears {'everything' if carry is None else f'{carry:g} s'}", *figures, " to ".join(other))


def measure_morph(studio: Studio, args: argparse.Namespace) -> None:
    """The share of the second lead in each quarter of a morph of 4 s, beside a hard cut in its middle."""
    ear = lead_ear(studio)
    for name, text, carry in (
        ("morph of 4 s", f"0s {song()}\n2s ~4s {song('organ')}", None),
        ("cut at 4 s", f"0s {song()}\n4s {song('organ')}", None),
    ):
        audio = studio.play(studio.timeline(text, carry))
        tell(name, *(f"{studio.share(ear, audio, at, at + 1):.2f}" for at in (0.5, 2.0, 3.0, 4.0, 5.0, 6.5)))


def measure_schedule(studio: Studio, args: argparse.Namespace) -> None:
    """Guidance 0 (no description) until 4 s, then 6; and temperature 1, then 0.3, by the spread of codes."""
    ear = lead_ear(studio)
    audio = studio.play(studio.conditions(song("organ")), schedules=_schedules(cfg_coef="0s 0, 4s 6"))
    tell(
        "cfg_coef 0, then 6 from 4 s: organ before, after",
        *(f"{studio.share(ear, audio, *t):.2f}" for t in ((0, 4), (5, 8))),
    )
    for name, schedules in (("temperature 1", Schedules()), ("1, then 0.3 from 4 s", _schedules(temperature="4s 0.3"))):
        codes = studio.codes(studio.conditions(song()), schedules=schedules)
        halves = (codes[:, :, 50:200], codes[:, :, 250:400])
        tell(
            f"{name}: different codes of a codebook in 3 s, before and after",
            *(f"{_different(part):.0f}" for part in halves),
        )


def measure_weights(studio: Studio, args: argparse.Namespace) -> None:
    """The share of drums by the weight of their words, and of the second lead by the weight of its prompt."""
    ear = drums_ear(studio)
    for weight in (-1.0, 0.0, 0.5, 1.0, 1.5):
        audio = studio.play(studio.conditions(song(drums=f", (rock drums:{weight:g})")))
        tell(f"(rock drums:{weight:g})", f"{studio.share(ear, audio):.2f}")
    lead = lead_ear(studio)
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        both = [
            *studio.conditions(song(), strength=1 - strength),
            *studio.conditions(song("organ"), strength=strength),
        ]
        tell(f"guitar {1 - strength:g}, organ {strength:g}", f"{studio.share(lead, studio.play(both)):.2f}")


def measure_negative(studio: Studio, args: argparse.Namespace) -> None:
    """How many pieces have drums, and the share of these that lose them by a negative, the seed the same."""
    ear, rate = drums_ear(studio), studio.model.sample_rate
    for name, text in (("drums not named", song(drums=UNSAID)), ("drums asked for", song())):
        had = ear.hears(studio.play(studio.conditions(text)), rate).float().mean(dim=1) > 0.5
        for negative in ("drums", "rock drums", song()):
            if negative == text:
                continue
            audio = studio.play(studio.conditions(text), negative=studio.conditions(negative))
            lost = ear.hears(audio, rate).float().mean(dim=1)[had] <= 0.5
            shown = "the description with its drums" if negative == song() else repr(negative)
            share = f"{float(lost.float().mean()):.2f}" if len(lost) else "-"
            tell(f"{name}, negative {shown}: had drums, lost them", f"{int(had.sum())} of {len(had)}", share)


def measure_melody(studio: Studio, args: argparse.Namespace) -> None:
    """Likeness to the melody by its strength, in its range and outside; and the text's share by its weight."""
    melodic = Studio(load_model(args.melody_model), studio.pieces)
    tune = studio.play(
        studio.conditions("calm flute solo, no drums, no bass, 100 bpm, key of d minor"), seed=5, pieces=1
    )
    rate, model = studio.model.sample_rate, melodic.model
    melodies = [extract_melody(tune, rate, model.config.chroma or RELEASED_CHROMA)] * studio.pieces
    words = melodic.conditions(song(drums=STILL))

    def likeness(audio: Tensor, first: float, last: float) -> str:
        part = slice(round(first * rate), round(last * rate))
        return f"{float(chroma_similarity(audio[:, part], tune[:, part].expand(len(audio), -1), rate).mean()):.2f}"

    for strength in ("none", "0", "0.5", "1", "1.5", "0s 0, 2s 1, 5s 0"):
        options = {} if strength == "none" else {"melodies": melodies, "schedules": _schedules(lead_strength=strength)}
        audio = melodic.play(words, **options)
        tell(
            f"melody strength {strength}: likeness at 0-2, 2.5-5, 5.5-8 s",
            *(likeness(audio, *t) for t in ((0, 2), (2.5, 5), (5.5, 8))),
        )
    ear = melodic.ear([song(drums=STILL)], [song()])
    for beta in (1.0, 2.0, 4.0):
        audio = melodic.play(
            melodic.conditions(song()), melodies=melodies, schedules=_schedules(cfg_coef_beta=f"{beta:g}")
        )
        tell(f"text over melody {beta:g}: drums, likeness", f"{melodic.share(ear, audio):.2f}", likeness(audio, 0, 8))


def _schedules(**texts: str) -> Schedules:
    return Schedules(**{name: parse_schedule(text) for name, text in texts.items()})


def _different(codes: Tensor) -> float:
    """The mean number of different codes that a codebook of a piece uses."""
    return sum(len(row.unique()) for piece in codes for row in piece) / (codes.shape[0] * codes.shape[1])


MEASURES = {
    "timeline": measure_timeline,
    "morph": measure_morph,
    "schedule": measure_schedule,
    "weights": measure_weights,
    "negative": measure_negative,
    "melody": measure_melody,
}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/musicgen-nano")
    parser.add_argument("--melody-model", default="models/musicgen-nano-melody")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--pieces", type=int, default=32, help="pieces of each figure")
    parser.add_argument(
        "--carry",
        nargs="+",
        type=lambda text: None if text == "all" else float(text),
        default=[None, 0.2, 0.5, 1.0],
        help="seconds that a section hears of the music before it, or all",
    )
    args = parser.parse_args(arguments)
    studio = Studio(load_model(args.model), args.pieces)
    for name in args.only:
        MEASURES[name](studio, args)
    finish("control", ROWS, pieces=args.pieces)


if __name__ == "__main__":
    main()
