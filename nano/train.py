"""Train musicgen-nano: `python -m nano.train STAGE --work FOLDER`.

Stages: songs, codec, tokens, decoder, lm, export, or all of them in this order. Every stage goes on where it
was stopped, and takes what the stages before it left in the work folder. `--miniature` does it all
in about a minute, at sizes that only show that it runs.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from musicgen.codec.encodec import EnCodec
from musicgen.model import load_model
from musicgen.training.codec import CodecTraining, train_codec
from musicgen.training.decoder import DecoderTraining, train_decoder

from . import recipes
from .corpus.captions import vocabulary
from .corpus.store import NANO_CHROMA, SongStore, render_songs
from .export import export_model
from .lm import LMTraining, train_lm
from .tokens import TokenStore, round_to_half, tokenise_songs
from .vocabulary import Vocabulary

STAGES = ("songs", "codec", "tokens", "decoder", "lm", "export")
MODELS = {"text": "musicgen-nano", "melody": "musicgen-nano-melody"}


@dataclass(frozen=True)
class Workshop:
    """The work folder, and how large everything is."""

    folder: Path
    plan: recipes.Plan
    device: str
    workers: int
    courses: int | None = None
    """Courses of a language model that count, the first ones; by default all."""

    def songs(self, split: str) -> SongStore:
        """Rendered songs of a part of the corpus; made where they are missing."""
        counts = {"train": self.plan.songs, "valid": self.plan.held_out}
        counts |= {"steady-train": self.plan.steady_songs, "steady-valid": self.plan.held_out}
        return render_songs(self.folder / split, split, counts[split], self.plan.seconds, self.workers)

    def codec(self) -> CodecTraining:
        """The codec, trained to the end."""
        songs, held_out = self.songs("train"), self.songs("valid")
        begin = None
        if self.plan.codec_begins is not None and not (self.folder / "codec.pt").is_file():
            begin = load_model(self.plan.codec_begins).codec
        training = CodecTraining(
            self.plan.codec, self.plan.codec_recipe, songs.first(self.plan.codec_songs), self.device, begin
        )
        judged = self._judged(held_out)
        train_codec(training, self.folder / "codec.pt", judged, judge_every=self.plan.judge_every, report=_say)
        return training

    def _judged(self, held_out: SongStore) -> np.ndarray:
        return held_out[: self.plan.judged_songs, : 4 * self.plan.codec.sample_rate]

    def tokens(self, split: str) -> TokenStore:
        """A part of the corpus as codes."""
        codec = round_to_half(self.codec().codec)
        return tokenise_songs(codec, self.songs(split), self.folder / "tokens", split)

    def decoder(self) -> EnCodec:
        """The codec as it ships: with a decoder that was trained on, on the codes that the language models know."""
        codec = round_to_half(self.codec().codec)
        songs, held_out = self.songs("train"), self.songs("valid")
        training = DecoderTraining(codec, self.plan.decoder_recipe, songs, self.tokens("train").codes, self.device)
        checkpoint = self.folder / "decoder.pt"
        return train_decoder(training, checkpoint, self._judged(held_out), judge_every=self.plan.judge_every)

    def lm(self, kind: str) -> LMTraining:
        """A language model, trained to the end."""
        words = Vocabulary(vocabulary())
        # A melody model begins with all that the text model knows of music; only its conditions are new.
        begin = self.lm("text").average if kind == "melody" else None
        for course, recipe in enumerate(self.plan.lm_recipes[kind][: self.courses], start=1):
            part = "steady-" if recipe.steady else ""
            store, held_out = (self.tokens(part + split).of_tempi(recipe.tempi) for split in ("train", "valid"))
            training = LMTraining(self.plan.lms[kind], self.plan.text, recipe, store, words, self.device, begin)
            checkpoint = self.folder / (f"lm-{kind}.pt" if course == 1 else f"lm-{kind}-{course}.pt")
            train_lm(training, checkpoint, held_out, judge_every=self.plan.judge_every, report=_say)
            begin = training.average
        return training

    def export(self, kind: str) -> None:
        """A model folder."""
        training, codec = self.lm(kind), self.decoder()
        target = self.folder / "models" / MODELS[kind]
        if target.exists():
            _say(f"{target} is there already")
            return
        chroma = NANO_CHROMA if kind == "melody" else None
        words = Vocabulary(vocabulary())
        known = {
            name: None
            for recipe in self.plan.lm_recipes[kind][: self.courses]
            for name, _ in recipe.patterns
            if name != "delay"
        }
        export_model(
            target,
            training.model.cpu(),
            codec.cpu(),
            words,
            chroma=chroma,
            seconds=self.plan.window,
            patterns=tuple(known),
        )
        _say(f"wrote {target}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m nano.train", description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "all"])
    parser.add_argument("--work", type=Path, required=True, help="folder for songs, checkpoints and models (3 GB)")
    parser.add_argument("--model", choices=[*MODELS, "both"], default="both", help="for the stages lm and export")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of this process")
    parser.add_argument("--workers", type=int, default=0, help="other processes that render songs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--courses", type=int, help="courses of a language model to train, the first ones; by default all"
    )
    parser.add_argument("--miniature", action="store_true", help="everything tiny")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    # Fading sounds end in numbers so small that processors are slow with them.
    torch.set_flush_denormal(True)
    plan = recipes.MINIATURE if options.miniature else recipes.NANO
    shop = Workshop(options.work, plan, options.device, options.workers, options.courses)
    kinds = list(MODELS) if options.model == "both" else [options.model]
    for stage in STAGES if options.stage == "all" else [options.stage]:
        if stage in ("lm", "export"):
            for kind in kinds:
                getattr(shop, stage)(kind)
        elif stage in ("codec", "decoder"):
            getattr(shop, stage)()
        else:
            for split in ("train", "valid", "steady-train", "steady-valid"):
                getattr(shop, stage)(split)


if __name__ == "__main__":
    main()
