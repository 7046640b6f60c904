"""Catalogues: thousands of pieces from one file, on one machine, on a Ray cluster, or on several ComfyUI servers.

Read and check a catalogue with `read_catalogue`, and render it with `render_catalogue`, or from a shell with
`python -m musicgen.rendering catalogue.jsonl --out DIR`. `cluster.catalogue_dataset` returns a Ray Dataset.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catalogue import Catalogue, read_catalogue
    from .jobs import Progress, Summary, run_job
    from .local import local_engine, render_catalogue
    from .manifest import read_manifest
    from .outputs import Output
    from .pieces import Piece
    from .renderer import Renderer
    from .rows import Fault

__all__ = [
    "Catalogue",
    "Fault",
    "Output",
    "Piece",
    "Progress",
    "Renderer",
    "Summary",
    "local_engine",
    "read_catalogue",
    "read_manifest",
    "render_catalogue",
    "run_job",
]

_PLACES = {
    "Catalogue": "catalogue",
    "read_catalogue": "catalogue",
    "Progress": "jobs",
    "Summary": "jobs",
    "run_job": "jobs",
    "local_engine": "local",
    "render_catalogue": "local",
    "read_manifest": "manifest",
    "Output": "outputs",
    "Piece": "pieces",
    "Renderer": "renderer",
    "Fault": "rows",
}
"""The module of each name. It is imported where the name is asked for, so that those who need one pay for one."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)
