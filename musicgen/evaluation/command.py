"""The command line: two folders in, a table out; or a recipe in, and the table of a paper out.

python -m musicgen.evaluation REFERENCE CANDIDATES --measures fad:vggish kad:clap
python -m musicgen.evaluation --recipe pattern-ablation --set model=models/musicgen-nano --set reference=FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..model import load_model
from ..writing import write_file
from .comparison import Options, evaluate, save_statistics
from .embedders.weights import PLACES
from .measures import EMBEDDINGS, OF_EMBEDDINGS, OTHERS, Ears
from .recipes.recipe import RECIPES, read_recipe
from .recipes.tables import make_table
from .report import Report

WEIGHTS = Path("models", "audio_encoders")
_EVERY = 1.0


def default_cache() -> Path:
    """Return the folder that rows are kept in: MUSICGEN_CACHE, or `musicgen/embeddings` in the user's cache."""
    own = os.environ.get("MUSICGEN_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or str(Path.home() / ".cache")
    return Path(own) if own else Path(base, "musicgen", "embeddings")


class Progress:
    """Write on the error stream how many files are done, at most once a second."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet, self._next = quiet, time.monotonic() + _EVERY

    def __call__(self, name: str, done: int, total: int) -> None:
        """Report that a number of files or pieces of a set are done."""
        now = time.monotonic()
        if not self._quiet and (now >= self._next or (done == total and total > 1)):
            sys.stderr.write(f"{name}: {done} of {total}\n")
            sys.stderr.flush()
            self._next = now + _EVERY


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    kinds = ", ".join(OTHERS), ", ".join(OF_EMBEDDINGS), ", ".join(EMBEDDINGS)
    made = argparse.ArgumentParser(
        prog="python -m musicgen.evaluation",
        description="Measure the sounds of a folder as the papers do. No weights are downloaded.",
        epilog=f"Measures: {kinds[0]}; and {kinds[1]}, each with an embedding, as in fad:vggish: {kinds[2]}. "
        "docs/evaluation.md tells which files each needs.",
    )
    made.add_argument("reference", nargs="?", help="a folder of sounds, an .npz file of statistics, or - for none")
    made.add_argument("candidates", nargs="?", help="a folder of sounds")
    made.add_argument("--measures", nargs="+", default=[], metavar="MEASURE", help="by default all that can be taken")
    made.add_argument("--captions", type=Path, help="a list (.jsonl, .csv, .tsv) in place of .txt files beside sounds")
    made.add_argument("--model", type=Path, help="a MusicGen model: EnCodec's embeddings, likelihoods, stuck pieces")
    made.add_argument("--pattern", help="codebook pattern of likelihoods; by default the model's own")
    made.add_argument(
        "--weights", type=Path, action="append", default=[], help=f"a folder of models; by default {WEIGHTS.as_posix()}"
    )
    for name, place in PLACES.items():
        made.add_argument(f"--{name}", type=Path, help=f"the weights themselves, in place of WEIGHTS/{place.folder}")
    made.add_argument("--clap-hop", type=float, default=1.0, help="seconds between CLAP's windows of 10 s")
    made.add_argument("--device", default="cpu")
    made.add_argument("--cache", type=Path, default=default_cache(), help="folder that rows are kept in")
    made.add_argument("--no-cache", action="store_true", help="keep no rows")
    made.add_argument("--skip-bad", action="store_true", help="leave out files that cannot be measured, and list them")
    made.add_argument("--seed", type=int, default=0, help="of samples and intervals")
    made.add_argument("--json", type=Path, help="also write all figures into this file")
    made.add_argument("--save-statistics", type=Path, help="write the candidates' statistics as .npz, and stop")
    made.add_argument("--recipe", help=f"{', '.join(sorted(RECIPES))}, or a .json or .toml file: redo a table")
    made.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a value that the recipe asks for"
    )
    made.add_argument("--out", type=Path, help="folder for a recipe's sounds")
    made.add_argument("--quiet", action="store_true", help="no progress")
    return made


def _ears(args: argparse.Namespace) -> Ears:
    given = {name: path for name in PLACES if (path := getattr(args, name)) is not None}
    model = load_model(args.model, device=args.device) if args.model else None
    return Ears(given, args.weights or [WEIGHTS], model, args.clap_hop, args.device)


def run(args: argparse.Namespace) -> str:
    """Do as the arguments say, and return the text to print."""
    options = Options(
        measures=args.measures,
        captions=args.captions,
        pattern=args.pattern,
        cache=None if args.no_cache else args.cache,
        skip_bad=args.skip_bad,
        seed=args.seed,
        on_file=Progress(args.quiet),
    )
    if args.recipe:
        return _run_recipe(args, options)
    if args.save_statistics:
        return _run_statistics(args, options)
    if not args.reference or not args.candidates:
        raise ValueError("a reference and candidates are needed; give two folders, or - for no reference.")
    reference = None if args.reference == "-" else args.reference
    report = evaluate(reference, args.candidates, _ears(args), options)
    if args.json:
        _write_json(args.json, report.as_dict())
    return _text(report)


def _run_statistics(args: argparse.Namespace, options: Options) -> str:
    folder, names = args.candidates or args.reference, args.measures or ["clap"]
    if folder is None or not set(names) <= set(EMBEDDINGS):
        raise ValueError(
            f"statistics are of {', '.join(names)} and of the folder {folder}; give one folder, and after --measures "
            f"one or more of {', '.join(EMBEDDINGS)}."
        )
    save_statistics(folder, args.save_statistics, names, _ears(args), options)
    return f"{args.save_statistics} holds mean and covariance of {', '.join(names)} of {folder}."


def _run_recipe(args: argparse.Namespace, options: Options) -> str:
    values = {}
    for each in args.set:
        name, equals, value = each.partition("=")
        if not equals:
            raise ValueError(f"--set is {each!r}; allowed is NAME=VALUE, such as model=models/musicgen-nano.")
        values[name] = value
    recipe = read_recipe(args.recipe, values)
    folder = args.out or Path("output", "evaluation", recipe.name)
    made = make_table(recipe, folder, _ears(args), options)
    if args.json:
        _write_json(args.json, made.as_dict())
    return made.text()


def _text(report: Report) -> str:
    lines = [report.table(f"{report.counts[1]} sounds")]
    lines += ["", *report.notes] if report.notes else []
    lines += ["", f"{len(report.bad)} files were left out:", *report.bad] if report.bad else []
    return "\n".join(lines)


def _write_json(path: Path, content: object) -> None:
    text = json.dumps(content, indent=1) + "\n"
    write_file(path, lambda file: file.write(text.encode()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; bad input ends it with one sentence and status 2."""
    made = parser()
    try:
        sys.stdout.write(run(made.parse_args(arguments)) + "\n")
    except (ValueError, FileNotFoundError, ImportError) as error:
        made.exit(2, f"{error}\n")
