"""The measures as commands: `score` prints one table, `pictures` draws, `train-probe` trains their probe.

`python -m nano.measure score --model models/musicgen-nano` scores held-out songs, chance (the
same songs, each against another's labels), their reconstructions by the model's codec, and the
model's samples of their captions.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from musicgen.evaluation.embedders.clap import Clap
from musicgen.evaluation.frechet import frechet_distance
from musicgen.evaluation.report import Figure, table
from musicgen.evaluation.rhythm import log_mel
from musicgen.images import spectrogram_image
from musicgen.model import MusicGen, load_model
from musicgen.training.resume import ProgressLog

from . import outside
from . import scores as score
from .checks import request_of, run_long, run_patterns, run_prompts
from .corpus.bank import SAMPLE_RATE
from .corpus.captions import Labels, read_caption
from .corpus.songs import make_songs, split_seeds
from .heldout import BATCH, HeldOutTunes, Songs, reconstruct, sample
from .probes import SHIPPED_PROBE, Probe, clip_statistics, load_probe, save_probe, train_probe
from .scores import Hearing

Columns = dict[str, list[Figure]]


def _rolled(asked: list[Labels]) -> list[Labels]:
    """Each clip's request given to the clip before it, which is chance."""
    return asked[1:] + asked[:1]


def _distance(name: str, embeddings: Tensor, reference: Tensor) -> Figure:
    return Figure(f"Frechet distance, {name}", "value", (frechet_distance(embeddings, reference),))


def _outside(audio: Tensor, asked: list[Labels], melody: Tensor | None, args: argparse.Namespace) -> list[Figure]:
    """librosa's measures, where they are wanted."""
    if args.no_librosa:
        return []
    figures = outside.score_requests(audio, asked, SAMPLE_RATE)
    return figures + (outside.score_melody(audio, melody, SAMPLE_RATE) if melody is not None else [])


def _score_songs(songs: Songs, reference: Hearing, probe: Probe, args: argparse.Namespace) -> Columns:
    heard, asked = score.hear(songs.audio, SAMPLE_RATE, probe), songs.asked()
    turned = torch.roll(songs.melody, -1, 0)
    chance = score.score_requests(heard, _rolled(asked)) + score.score_melody(songs.audio, turned, SAMPLE_RATE)
    original = score.score_requests(heard, asked) + score.score_melody(songs.audio, songs.melody, SAMPLE_RATE)
    chance += _outside(songs.audio, _rolled(asked), turned, args)
    original += _outside(songs.audio, asked, songs.melody, args)
    original.append(_distance("probe", heard.embeddings, reference.embeddings))
    return {"chance": chance, "songs": original + score.score_health(songs.audio)}


DTYPES = {"auto": None, "fp32": torch.float32, "int8": torch.int8}


def _score_codec(
    model: MusicGen, songs: Songs, reference: Hearing, probe: Probe, args: argparse.Namespace
) -> list[Figure]:
    audio, codes = reconstruct(model.codec, songs.audio)
    heard = score.hear(audio, SAMPLE_RATE, probe)
    return [
        *score.score_reconstruction(audio, songs.audio, SAMPLE_RATE),
        *score.score_requests(heard, songs.asked()),
        *score.score_melody(audio, songs.melody, SAMPLE_RATE),
        *_outside(audio, songs.asked(), songs.melody, args),
        _distance("probe", heard.embeddings, reference.embeddings),
        *score.score_health(audio, codes, model.config.card),
    ]


def _score_samples(
    name: str, model: MusicGen, songs: Songs, reference: Hearing, probe: Probe, args: argparse.Namespace
) -> Columns:
    audio, codes = sample(model, songs, request_of(args))
    heard, asked = score.hear(audio, SAMPLE_RATE, probe), [read_caption(caption) for caption in songs.captions]
    right, wrong = score.score_requests(heard, asked), score.score_requests(heard, _rolled(asked))
    melody = songs.melody if model.config.chroma else None
    right += _outside(audio, asked, melody, args)
    if model.config.chroma:
        right += score.score_melody(audio, songs.melody, SAMPLE_RATE)
        wrong += score.score_melody(audio, torch.roll(songs.melody, -1, 0), SAMPLE_RATE)
    right.append(_distance("probe", heard.embeddings, reference.embeddings))
    right += score.score_health(audio, codes, model.config.card)
    if args.clap:
        clap = Clap(args.clap)
        cosine = clap.score(audio, SAMPLE_RATE, songs.captions)
        right.append(Figure("CLAP score", "mean", tuple(cosine.tolist())))
        embedded = [clap.embed_audio(each, SAMPLE_RATE) for each in (audio, songs.audio)]
        right.append(_distance("CLAP", *embedded))
    return {name: right, f"{name}, another's prompt": wrong}


def run_score(args: argparse.Namespace) -> None:
    """Measure, print the table, and write the figures where asked."""
    probe = load_probe(args.probe)
    songs = HeldOutTunes(args.tunes, args.seconds) if args.tunes else Songs("test", args.clips, args.seconds)
    reference = score.hear(Songs("valid", args.clips, args.seconds).audio, SAMPLE_RATE, probe)
    columns = _score_songs(songs, reference, probe, args)
    for path in args.model:
        model = load_model(path, dtype=DTYPES[args.dtype])
        columns[f"{path.name}, codec only"] = _score_codec(model, songs, reference, probe, args)
        if not args.codec_only:
            columns |= _score_samples(path.name, model, songs, reference, probe, args)
    sys.stdout.write(table(columns) + "\n")
    if args.json:
        figures = {
            column: {each.name: {"value": each.value, "interval": each.interval} for each in figures}
            for column, figures in columns.items()
        }
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def run_train_probe(args: argparse.Namespace) -> None:
    """Train a probe on songs, and on their reconstructions by a model's codec where one is given."""
    codec = load_model(args.model).codec if args.model else None
    statistics, labels, audio = [], [], []
    progress = ProgressLog("songs", args.songs)
    for done, song in enumerate(make_songs(split_seeds("train", args.songs), args.seconds), start=1):
        audio.append(torch.from_numpy(song.audio))
        labels.append(song.labels)
        if len(audio) == BATCH or done == args.songs:
            clips = torch.stack(audio)
            statistics.append(clip_statistics(clips, SAMPLE_RATE))
            if codec is not None:
                statistics.append(clip_statistics(reconstruct(codec, clips)[0], SAMPLE_RATE))
                labels += labels[-len(audio) :]
            audio = []
            progress.update(done)
    save_probe(train_probe(torch.cat(statistics), labels, seed=args.seed, steps=args.steps), args.out)


def run_pictures(args: argparse.Namespace) -> None:
    """Draw spectrograms of songs, of their reconstructions, and of models' samples of their captions."""
    from PIL import Image

    songs, models = Songs("test", args.clips, args.seconds), [load_model(path) for path in args.model]
    columns = [songs.audio, reconstruct(models[0].codec, songs.audio)[0]]
    columns += [sample(model, songs, request_of(args))[0] for model in models]
    rows = []
    for row, caption in enumerate(songs.captions):
        pictures = [_picture(column[row]) for column in columns]
        rows.append(torch.cat([torch.nn.functional.pad(picture, (0, 0, 4, 4, 4, 4)) for picture in pictures], dim=1))
        sys.stdout.write(f"{row + 1}. {caption}\n")
    pixels = (torch.cat(rows).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).quantize(128).save(args.out, optimize=True)


def _picture(audio: Tensor) -> Tensor:
    return spectrogram_image(log_mel(audio[None], SAMPLE_RATE, 80)[0] * (20 / math.log(10)))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m nano.measure", description=__doc__)
    commands = parser.add_subparsers(required=True)
    scores = commands.add_parser("score", help="print one table of all measures")
    scores.add_argument("--model", type=Path, action="append", default=[], help="a model folder; may be repeated")
    scores.add_argument("--dtype", choices=DTYPES, default="auto", help="the language model's number format")
    scores.add_argument("--codec-only", action="store_true", help="leave out the models' samples")
    scores.add_argument("--clips", type=int, default=128, help="clips per figure")
    scores.add_argument("--tunes", type=int, default=0, help="the held-out real tunes instead, so many times each")
    scores.add_argument("--no-librosa", action="store_true", help="leave out librosa's measures")
    scores.add_argument("--clap", type=Path, help="a CLAP model folder in transformers' layout")
    scores.add_argument("--probe", type=Path, default=SHIPPED_PROBE)
    scores.add_argument("--json", type=Path, help="also write the figures into this file")
    scores.set_defaults(run=run_score)
    trains = commands.add_parser("train-probe", help="train the probe that some measures listen with")
    trains.add_argument("--model", type=Path, help="a model folder; its codec's output is trained on as well")
    trains.add_argument("--songs", type=int, default=3000)
    trains.add_argument("--steps", type=int, default=3000)
    trains.add_argument("--out", type=Path, default=SHIPPED_PROBE)
    trains.set_defaults(run=run_train_probe)
    draws = commands.add_parser("pictures", help="draw songs, their reconstructions and samples side by side")
    draws.add_argument("--model", type=Path, action="append", required=True, help="a model folder; may be repeated")
    draws.add_argument("--clips", type=int, default=5, help="rows of the picture")
    draws.add_argument("--out", type=Path, required=True, help="the PNG file to write")
    draws.set_defaults(run=run_pictures)
    asks = commands.add_parser("prompts", help="four prompts of people: are all their instruments there?")
    asks.add_argument("--model", type=Path, required=True, help="a model folder")
    asks.add_argument("--seeds", type=int, default=8, help="pieces of each prompt")
    asks.add_argument("--probe", type=Path, default=SHIPPED_PROBE)
    asks.set_defaults(run=run_prompts)
    lengthens = commands.add_parser("long", help="pieces by windows: are they as alive at the end?")
    lengthens.add_argument("--model", type=Path, required=True, help="a model folder")
    lengthens.add_argument("--pieces", type=int, default=16)
    lengthens.set_defaults(run=run_long)
    compares = commands.add_parser("patterns", help="one model, each pattern that it knows")
    compares.add_argument("--model", type=Path, required=True, help="a model folder")
    compares.add_argument("--clips", type=int, default=128, help="pieces of each pattern")
    compares.add_argument("--probe", type=Path, default=SHIPPED_PROBE)
    compares.set_defaults(run=run_patterns)
    for command in (scores, draws, asks, lengthens, compares):
        command.add_argument("--pattern", help="the codebook pattern to sample by; by default the model's own")
        command.add_argument("--cfg-coef", type=float, default=2.0)
        command.add_argument("--temperature", type=float, default=1.0)
        command.add_argument("--top-k", type=int, default=250)
    for command in (scores, trains, draws, asks, lengthens, compares):
        command.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
        command.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
