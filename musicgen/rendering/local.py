"""The engine for one machine: one renderer in this process, with a second thread where decoding can overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .batches import MOST, make_batches
from .catalogue import Catalogue
from .jobs import Engine, Lines, Progress, Summary, run_job
from .outputs import FILES, Output
from .pieces import Piece
from .renderer import Renderer


def local_engine(output: Output, *, most: int = MOST, make_renderer: Callable[[], Renderer] = Renderer) -> Engine:
    """Return an engine that renders in this process.

    Args:
        output: where the pieces go.
        most: pieces in one batch at most.
        make_renderer: makes the renderer, once there is a piece to make.
    """

    def engine(pieces: Sequence[Piece]) -> Iterator[Lines]:
        renderer = make_renderer()

        def make(batch: list[Piece]) -> Lines:
            return output.write(list(renderer.render(batch)))

        batches = make_batches(pieces, most)
        if not renderer.overlaps:
            yield from map(make, batches)
            return
        # Two batches are under way: while one is decoded and written, the next is sampled.
        running: deque[Future[Lines]] = deque()
        with ThreadPoolExecutor(2) as executor:
            try:
                for batch in batches:
                    running.append(executor.submit(make, batch))
                    if len(running) == 2:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for future in running:
                    future.cancel()

    return engine


def render_catalogue(
    catalogue: Catalogue,
    folder: str | Path,
    *,
    kind: str = FILES,
    tokens: bool = False,
    most: int = MOST,
    device: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Render the pieces that an output folder lacks, in this process.

    Args:
        catalogue: from `read_catalogue`; its bad rows are passed over.
        folder: the output folder.
        kind: `files`, or `parquet` or `webdataset` for shards.
        tokens: with files, also write each piece's codes.
        most: pieces in one batch at most.
        device: where to compute; None takes a CUDA device if there is one.
        on_progress: called after every batch.

    Raises:
        OSError: the disk is full, or gone.
        RuntimeError: another program renders into the folder.
    """
    output = Output(Path(folder).resolve(), kind, tokens)
    engine = local_engine(output, most=most, make_renderer=lambda: Renderer(device))
    return run_job(catalogue.pieces, output.folder, engine, on_progress=on_progress)
