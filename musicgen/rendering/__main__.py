"""Render a catalogue: `python -m musicgen.rendering catalogue.jsonl --out DIR`.

Killed or interrupted, the same command goes on where it was. It ends with 0 if every piece is there, with 1 if pieces
failed or the run broke off, and with 2 if the catalogue or an argument is bad.
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

from .batches import MOST
from .catalogue import Catalogue, read_catalogue
from .jobs import Engine, Summary, run_job
from .local import local_engine
from .outputs import FILES, Output
from .pieces import LEVELS
from .renderer import Renderer
from .report import ProgressLine, clock
from .rows import DTYPES, read_rows
from .servers import graph_pieces, read_graph, servers_engine
from .shards import KINDS
from .sounds import FORMATS

_NAMED = 20
_DEFAULTS = ("model", "duration", "dtype", "level", "format")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m musicgen.rendering", description=__doc__.partition("\n")[0])
    parser.add_argument("catalogue", type=Path, help="a JSONL or CSV file with one row for each piece")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the output folder; a second start goes on in it")
    parser.add_argument("--check", action="store_true", help="check the catalogue and render nothing")
    parser.add_argument("--skip-bad", action="store_true", help="render the good rows although others are bad")
    rows = parser.add_argument_group("values for rows that leave a column empty")
    rows.add_argument("--model", metavar="PATH", help="a model's folder or file")
    rows.add_argument("--duration", type=float, metavar="S", help="seconds of music")
    rows.add_argument("--dtype", choices=DTYPES, help="number format of the language model")
    rows.add_argument("--level", metavar="LEVEL", help=f"{', '.join(LEVELS)}, or a loudness in LUFS such as -14")
    rows.add_argument("--format", choices=FORMATS, help="kind of the sound files, flac by default")
    output = parser.add_argument_group("output")
    output.add_argument("--shards", choices=KINDS, help="write each batch as one shard with sound and tokens")
    output.add_argument("--tokens", action="store_true", help="also write the codes of each piece as a .npy file")
    work = parser.add_argument_group("work")
    work.add_argument("--batch", type=int, default=MOST, metavar="N", help=f"pieces in a batch at most ({MOST})")
    work.add_argument("--device", metavar="NAME", help="such as cuda:1 or cpu; a GPU by default where there is one")
    cluster = parser.add_argument_group("cluster (needs Ray)")
    cluster.add_argument(
        "--ray", metavar="ADDRESS", help="auto for the running cluster, local for a new one, or HOST:PORT"
    )
    cluster.add_argument("--workers", type=int, metavar="N", help="one for each GPU by default, or for each core")
    cluster.add_argument("--cpus", type=float, default=1, metavar="N", help="cores of a worker (1)")
    cluster.add_argument("--gpus", type=float, metavar="N", help="GPUs of a worker (1 where there are any)")
    servers = parser.add_argument_group("running ComfyUI servers")
    servers.add_argument("--comfyui", nargs="+", metavar="URL", help="servers to spread the rows over")
    servers.add_argument(
        "--graph", type=Path, metavar="FILE", help="a graph with MusicGen Catalogue, in the API's format"
    )
    args = parser.parse_args(arguments)
    if args.out is None and not args.check:
        parser.error("--out DIR is missing: the folder to render into (or --check to check only)")
    if args.batch < 1:
        parser.error(f"--batch is {args.batch}; allowed is at least 1")
    if (args.comfyui is None) != (args.graph is None) or (args.comfyui and args.ray):
        parser.error("--comfyui and --graph belong together, without --ray")
    if args.workers is not None and (args.workers < 1 or args.ray is None):
        parser.error(f"--workers is {args.workers}; allowed is at least 1, together with --ray")
    return args


def load_catalogue(args: argparse.Namespace) -> Catalogue | None:
    """Read and check the catalogue, and write its faults; None if nothing should be rendered."""
    defaults: dict[str, Any] = {name: value for name in _DEFAULTS if (value := getattr(args, name)) is not None}
    catalogue = read_catalogue(args.catalogue, defaults) if args.graph is None else _graph_catalogue(args, defaults)
    for fault in catalogue.faults:
        say(str(fault), sys.stderr)
    carried = sorted({name for piece in catalogue.pieces for name in piece.columns})
    say(f"{args.catalogue}: {len(catalogue.pieces)} pieces, {clock(catalogue.seconds)} of sound")
    if carried:
        say(f"columns carried into the manifest: {', '.join(carried)}")
    if catalogue.faults and not args.skip_bad:
        say(f"{len(catalogue.faults)} faults; mend them, or use --skip-bad to go on without these rows", sys.stderr)
        return None
    return catalogue


def _graph_catalogue(args: argparse.Namespace, defaults: dict[str, Any]) -> Catalogue:
    """The catalogue for a graph, which has the model and everything else that is no column of its node."""
    rows, faults = read_rows(args.catalogue, {"duration": 10.0, **defaults}, required=())
    pieces, more = graph_pieces([row for row in rows if not row.bad], read_graph(args.graph))
    return Catalogue(args.catalogue, tuple(pieces), tuple(faults + more))


def make_engine(args: argparse.Namespace, output: Output) -> Engine:
    """Return the engine that the command line asks for."""
    if args.ray is not None:
        from .cluster import Workers, ray_engine

        workers = Workers(args.workers, args.cpus, args.gpus)
        make = partial(Renderer, args.device)
        return ray_engine(output, address=args.ray, workers=workers, most=args.batch, make_renderer=make)
    if args.comfyui is not None:
        return servers_engine(output.folder, read_graph(args.graph), args.comfyui)
    return local_engine(output, most=args.batch, make_renderer=partial(Renderer, args.device))


def say(text: str, stream: Any = None) -> None:
    """Write one line."""
    (stream or sys.stdout).write(text + "\n")


def show_plan(summary: Summary, missing: int) -> None:
    """Tell how much a run has found in its folder."""
    say(f"{summary.kept} pieces are there, {missing} to make")
    if summary.redone:
        say(f"made again, since their row changed or their file is gone: {_listed(summary.redone)}")
    if summary.removed:
        say(f"not in the catalogue any more, and left as they are: {_listed(summary.removed)}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    args = parse_arguments(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        catalogue = load_catalogue(args)
        if catalogue is None:
            return 2
        if args.check:
            return 0
        output = Output(args.out.resolve(), args.shards or FILES, args.tokens)
        engine = make_engine(args, output)
    except (ValueError, OSError, ImportError) as error:
        say(f"error: {error}", sys.stderr)
        return 2
    try:
        summary = run_job(
            catalogue.pieces, output.folder, engine, on_plan=show_plan, on_progress=ProgressLine(sys.stdout)
        )
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here", sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        say(f"error: {error}\nThe finished pieces are kept; the same command goes on from here.", sys.stderr)
        return 1
    for name, reason in list(summary.failed.items())[:_NAMED]:
        say(f"failed: {name}: {reason}", sys.stderr)
    say(f"{len(summary.made)} made, {summary.kept} kept, {len(summary.failed)} failed")
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(main())
