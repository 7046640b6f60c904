"""Train on a machine that is lent for some minutes: `python -m nano.loan --minutes 13 --work FOLDER --out FOLDER`.

It renders songs with all processors, encodes them, trains a larger codec and larger language models,
and writes the models and their checkpoints, in parts of at most 15 MB, into `--out`. Each training
is timed over some steps first and then gets as many as its share of the time allows. Each stage writes
its results whole, so that a machine taken back early loses only the stage under way.

`python -m nano.loan --pack FILE` writes the bank of notes as one file (FLAC, lossless), for machines
without fluidsynth; `--bank FILE` reads it there.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import time
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from musicgen.config import LMConfig
from musicgen.training.codec import CodecTraining
from musicgen.training.decoder import DecoderTraining
from musicgen.writing import write_file

from . import recipes
from .corpus.bank import SAMPLE_RATE, bank_folder, open_bank
from .corpus.captions import vocabulary
from .lm import LMTraining
from .train import MODELS, Workshop
from .vocabulary import Vocabulary

PART = 15_000_000
SHARES = {"codec": 0.22, "decoder": 0.08, "text": 0.45, "melody": 0.25}
"""Shares of the time that is left after the songs are rendered."""
_SPARE = 0.85
"""The share of its time that a training is planned to take: judging, writing and encoding need the rest."""


def large(seconds_a_step: dict[str, float], minutes: float, plan: recipes.Plan) -> recipes.Plan:
    """The plan whose trainings take their shares of so many minutes.

    Args:
        seconds_a_step: of each training, as :data:`SHARES` names them; trainings that are missing keep their steps.
        minutes: for all of them together.
        plan: the sizes, and the recipes whose numbers of steps change.
    """
    steps = {
        name: max(20, int(_SPARE * 60 * minutes * SHARES[name] / seconds)) for name, seconds in seconds_a_step.items()
    }
    courses = dict(plan.lm_recipes)
    for kind in set(MODELS) & steps.keys():
        share = steps[kind] / sum(recipe.steps for recipe in courses[kind])
        courses[kind] = tuple(
            replace(each, steps=max(10, round(each.steps * share)), stop=None) for each in courses[kind]
        )
    changed: dict[str, Any] = {"lm_recipes": courses}
    if "codec" in steps:
        begins = max(2, min(plan.codec_recipe.autoencoder_steps, steps["codec"] // 10))
        changed["codec_recipe"] = replace(plan.codec_recipe, steps=steps["codec"], autoencoder_steps=begins)
    if "decoder" in steps:
        changed["decoder_recipe"] = replace(plan.decoder_recipe, steps=steps["decoder"], stop=None)
    return replace(plan, **changed)


def wider(config: LMConfig, dim: int = 256, layers: int = 6) -> LMConfig:
    """A language model of another width; its heads keep their size."""
    size = config.dim // config.num_heads
    return replace(config, dim=dim, num_layers=layers, num_heads=dim // size, ffn_dim=4 * dim)


def _large_sizes() -> recipes.Plan:
    plan = recipes.NANO
    return replace(
        plan,
        songs=12000,
        codec_songs=12000,
        codec=replace(plan.codec, n_filters=32, card=1024),
        codec_recipe=replace(plan.codec_recipe, batch=32, frames=100),
        codec_begins=None,
        decoder_recipe=replace(plan.decoder_recipe, n_filters=32, batch=32, frames=100),
        lms={name: replace(wider(lm), card=1024) for name, lm in plan.lms.items()},
        lm_recipes={
            name: tuple(
                replace(each, phases=tuple((until, frames, 8 * batch) for until, frames, batch in each.phases))
                for each in courses
            )
            for name, courses in plan.lm_recipes.items()
        },
    )


def _seconds_a_step(training: CodecTraining | DecoderTraining | LMTraining, count: int = 12) -> float:
    """Seconds of the later ones of some steps; the training is thrown away afterwards."""
    times = []
    for _ in range(count):
        began = time.monotonic()
        float(torch.as_tensor(training.step()).sum())  # waits for the device
        times.append(time.monotonic() - began)
    return float(np.median(times[count // 3 :]))


def train(shop: Workshop, minutes: float, out: Path) -> None:
    """All stages within so many minutes, each measured as it comes, and everything brought to `out`."""
    end = time.monotonic() + 60 * minutes
    songs = shop.songs("train")
    shop.songs("valid")
    left, spent = (end - time.monotonic()) / 60, dict[str, float]()
    for name in SHARES:
        if name == "codec":
            spent[name] = _seconds_a_step(CodecTraining(shop.plan.codec, shop.plan.codec_recipe, songs, shop.device))
        elif name == "decoder":
            codes = shop.tokens("train").codes
            decoder = DecoderTraining(shop.codec().codec, shop.plan.decoder_recipe, songs, codes, shop.device)
            spent[name] = _seconds_a_step(decoder)
        else:
            recipe, words, store = shop.plan.lm_recipes[name][-1], Vocabulary(vocabulary()), shop.tokens("train")
            lm = LMTraining(shop.plan.lms[name], shop.plan.text, recipe, store, words, shop.device)
            spent[name] = _seconds_a_step(lm)
        shop = replace(shop, plan=large({name: spent[name]}, left, shop.plan))
        _say(f"{name}: {1000 * spent[name]:.0f} ms a step, {(end - time.monotonic()) / 60:.1f} minutes left")
        if name == "codec":
            shop.codec()
            shop.tokens("train")
            shop.tokens("valid")
        elif name == "decoder":
            shop.decoder()
        else:
            shop.lm(name)
            shop.export(name)
        bring(shop.folder, out)
    write_file(out / "seconds_a_step.json", lambda file: file.write(json.dumps(spent, indent=1).encode()))


def bring(work: Path, out: Path) -> None:
    """Put models and decoder of a work folder into numbered parts, `weights.zip.000` and so on, of one archive."""
    out.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted([*work.glob("models/**/*"), *work.glob("decoder.pt")]):
            if path.is_file():
                archive.write(path, path.relative_to(work))
    data = packed.getvalue()
    for number in range(-(-len(data) // PART)):
        part = data[number * PART : (number + 1) * PART]
        write_file(out / f"weights.zip.{number:03d}", partial(_put, part))


def _put(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def pack_bank(target: Path) -> None:
    """Write the bank of this user as one file: its index, and all notes as one FLAC of 16 bits a sample."""
    import soundfile  # type: ignore[import-untyped]

    folder = bank_folder()
    open_bank()
    notes = np.load(folder / "notes.npy", mmap_mode="r")
    sound = io.BytesIO()
    peak = max(1.0, float(np.abs(notes).max()))
    soundfile.write(sound, (np.asarray(notes, dtype=np.float32) / peak).ravel(), SAMPLE_RATE, "PCM_16", format="FLAC")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("notes.flac", sound.getvalue())
        archive.writestr("peak.json", json.dumps([peak, *notes.shape]))
        archive.write(folder / "notes.json", "notes.json")
    write_file(target, lambda file: file.write(packed.getvalue()))


def unpack_bank(source: Path) -> None:
    """Put a bank of :func:`pack_bank` where this user's bank lies; one that is there already stays."""
    import soundfile

    folder = bank_folder()
    if (folder / "notes.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(source) as archive:
        peak, rows, length = json.loads(archive.read("peak.json"))
        sound, _ = soundfile.read(io.BytesIO(archive.read("notes.flac")), dtype="float32")
        notes = (sound.reshape(rows, length) * peak).astype(np.float16)
        index = archive.read("notes.json")
    write_file(folder / "notes.npy", lambda file: np.save(file, notes))
    write_file(folder / "notes.json", lambda file: file.write(index))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m nano.loan", description=__doc__)
    parser.add_argument("--minutes", type=float, default=13.0, help="time for everything")
    parser.add_argument("--work", type=Path, help="folder for songs and checkpoints (10 GB)")
    parser.add_argument("--out", type=Path, help="folder for the weights that are brought back")
    parser.add_argument("--pack", type=Path, help="only write the bank of notes into this file")
    parser.add_argument("--bank", type=Path, help="a bank that --pack wrote")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--miniature", action="store_true", help="everything tiny")
    options = parser.parse_args(arguments)
    if options.pack:
        pack_bank(options.pack)
        return
    if not options.work or not options.out:
        parser.error("--work and --out are needed; or --pack alone")
    if options.bank:
        unpack_bank(options.bank)
    if options.miniature:
        torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    plan = recipes.MINIATURE if options.miniature else _large_sizes()
    workers = 0 if options.miniature else (os.cpu_count() or 1) - 1
    shutil.rmtree(options.out, ignore_errors=True)
    train(Workshop(options.work, plan, options.device, workers), options.minutes, options.out)


if __name__ == "__main__":
    main()
