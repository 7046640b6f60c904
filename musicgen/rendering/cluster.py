"""Rendering on a Ray cluster: Ray Data's batch inference, with one renderer in each of its actors.

Ray places the actors, moves the batches, and starts an actor again when it or its machine is lost. Ray is an optional
package, imported only when one of these functions is called.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .batches import MOST, make_batches
from .jobs import Engine, Lines
from .journal import FOLDER, Journal, remove_journals
from .outputs import Output, failed_line
from .pieces import Piece
from .renderer import TRIES, Failure, Renderer, Sound

AUTO, LOCAL = "auto", "local"
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Workers:
    """The workers of a cluster.

    Args:
        number: how many; None for as many as the cluster has GPUs, or cores where it has none.
        cpus: cores for each.
        gpus: GPUs for each; None for one where the cluster has any.
    """

    number: int | None = None
    cpus: float = 1
    gpus: float | None = None


def connect(address: str = AUTO) -> Any:
    """Connect this program to Ray, unless it is connected, and return the package.

    Args:
        address: `auto` for the cluster that runs on this machine or that RAY_ADDRESS names, `local` to start one
            here for this program alone, else the cluster's address, such as `10.0.0.1:6379`.

    Raises:
        ConnectionError: no cluster answers at the address.
        ImportError: Ray is not installed.
    """
    ray = _imported()
    if not ray.is_initialized():
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if address == LOCAL:
            options |= {"address": "local", "include_dashboard": False}
        else:
            options |= {"address": address}
        # Workers import this library from where this program has it, or from a shared path on other machines.
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        ray.init(runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}, **options)
    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray.data._internal"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


def _imported() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(
            f"rendering on a cluster needs Ray with its data library, which cannot be imported ({error}); install "
            'it with: pip install "ray[data]", or leave --ray out to render on this machine alone.'
        ) from error
    return ray


def ray_engine(
    output: Output,
    *,
    address: str = AUTO,
    workers: Workers | None = None,
    most: int = MOST,
    make_renderer: Callable[..., Renderer] = Renderer,
) -> Engine:
    """Return an engine that renders on a cluster, whose workers write into the output folder, which all must reach.

    Args:
        output: where the pieces go.
        address: see :func:`connect`.
        workers: how many, and of which size.
        most: pieces in one batch at most.
        make_renderer: makes the renderer of a worker; its argument `workers_here` is the number of workers that share
            a machine.

    Raises:
        ImportError: Ray is not installed.
    """
    _imported()

    def engine(pieces: Sequence[Piece]) -> Iterator[Lines]:
        connect(address)
        remove_journals(output.folder)
        run = output.folder / FOLDER / secrets.token_hex(4)
        try:
            found = _dataset(pieces, workers or Workers(), most, _Writing, (make_renderer, output, run))
            for block in found.iter_batches(batch_size=None):
                for text in block["lines"]:
                    answer = json.loads(text)
                    if "stop" in answer:
                        raise OSError(answer["stop"])
                    yield answer["lines"]
        finally:
            remove_journals(output.folder)

    return engine


def catalogue_dataset(
    pieces: Sequence[Piece],
    *,
    address: str = AUTO,
    workers: Workers | None = None,
    most: int = MOST,
    make_renderer: Callable[..., Renderer] = Renderer,
) -> Any:
    """Return a Ray Dataset with one row for each piece, which is made when the dataset is read.

    Its columns are `id`, `description`, `codes` (int32 `[K, T]`), `audio` (float32 `[C, L]`), `sample_rate`, `recipe`
    and `columns` (JSON), and `error`, empty for a piece that was made; a failed piece has no codes and no sound.
    `dataset.write_parquet(path)` and `dataset.write_webdataset(path)` write it. Nothing is resumed here.

    Args:
        pieces: `read_catalogue(path).pieces`.
        address: see :func:`connect`.
        workers: how many, and of which size.
        most: pieces in one batch at most.
        make_renderer: see :func:`ray_engine`.

    Raises:
        ConnectionError: no cluster answers at the address.
        ImportError: Ray is not installed.
    """
    connect(address)
    return _dataset(pieces, workers or Workers(), most, _Returning, (make_renderer,))


def _dataset(
    pieces: Sequence[Piece], workers: Workers, most: int, kind: type[_Writing | _Returning], arguments: tuple[Any, ...]
) -> Any:
    ray = _imported()
    resources = ray.cluster_resources()
    gpus = workers.gpus if workers.gpus is not None else min(1, resources.get("GPU", 0))
    fit = resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 1) / workers.cpus
    number = workers.number or max(1, int(fit))
    batches = make_batches(pieces, most, number)
    number = min(number, len(batches))
    machines = sum(node["Alive"] for node in ray.nodes())
    sharing = max(1, int(1 / gpus)) if gpus else -(-number // machines)  # workers with one memory
    items = [{"number": index, "pieces": pickle.dumps(batch)} for index, batch in enumerate(batches)]
    calls = 2 if gpus else 1  # one samples while the other decodes
    return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        kind,
        batch_size=1,
        fn_constructor_args=(sharing, *arguments),
        num_cpus=workers.cpus,
        num_gpus=gpus or None,
        compute=ray.data.ActorPoolStrategy(
            size=number,
            max_tasks_in_flight_per_actor=calls + 1,
            max_concurrent_calls_per_actor=calls,
            enable_true_multi_threading=calls > 1,
        ),
    )


class _Writing:
    """An actor that writes its pieces and returns their lines for the manifest."""

    def __init__(self, workers_here: int, make_renderer: Callable[..., Renderer], output: Output, run: Path) -> None:
        self._renderer = make_renderer(workers_here=workers_here)
        self._output, self._run = output, run

    def __call__(self, items: dict[str, Any]) -> dict[str, list[str]]:
        batch: list[Piece] = pickle.loads(items["pieces"][0])
        journal = Journal(self._run / f"{items['number'][0]}.jsonl")
        try:
            lines = self._lines(batch, journal)
        except OSError as error:
            return {"lines": [json.dumps({"stop": str(error)})]}
        with suppress(OSError):
            journal.remove()
        return {"lines": [json.dumps({"lines": lines})]}

    def _lines(self, batch: list[Piece], journal: Journal) -> Lines:
        if not journal.deaths and not journal.finished:
            journal.begin([piece.id for piece in batch])
            return self._output.write(list(self._renderer.render(batch)))
        lines = list(journal.finished.values())
        for piece in batch:
            if piece.id in journal.finished:
                continue
            if journal.deaths[piece.id] >= TRIES:
                error = f"{TRIES} workers ended while they made it (killed, out of memory, or a crash)"
                new = [failed_line(Failure(piece, error))]
            else:
                journal.begin([piece.id])
                new = self._output.write(list(self._renderer.render([piece])))
            journal.finish(new)
            lines += new
        return lines


class _Returning:
    """An actor that returns codes and sound."""

    def __init__(self, workers_here: int, make_renderer: Callable[..., Renderer]) -> None:
        self._renderer = make_renderer(workers_here=workers_here)

    def __call__(self, items: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        for result in self._renderer.render(pickle.loads(items["pieces"][0])):
            yield {name: [value] for name, value in _row(result).items()}


def _row(result: Sound | Failure) -> dict[str, Any]:
    import numpy as np

    piece, made = result.piece, result if isinstance(result, Sound) else None
    return {
        "id": piece.id,
        "description": piece.description,
        "codes": np.zeros((1, 0), "int32") if made is None else made.codes.numpy().astype("int32"),
        "audio": np.zeros((1, 0), "float32") if made is None else made.audio.numpy(),
        "sample_rate": 0 if made is None else made.sample_rate,
        "recipe": json.dumps(piece.recipe(), ensure_ascii=False),
        "columns": json.dumps(dict(piece.columns), ensure_ascii=False),
        "error": result.error if isinstance(result, Failure) else "",
    }
