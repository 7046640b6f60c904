"""The program: a file with the model, the songs and the recipe, and a LoRA or a model folder from it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..environment import imported
from ..free_memory import free_memory
from ..model import MusicGen, load_model
from ..training.resume import ProgressLog
from ..units import size_text
from .adapter_folder import save_adapter
from .dataset import SongDataset, make_dataset
from .memory import fit
from .model_folder import save_model
from .processes import company, first_alone, local_device
from .recipe import Recipe
from .run import Company, train_lora, train_whole


@dataclass(frozen=True)
class Order:
    """A training as a file describes it; see docs/finetuning.md."""

    model: Path
    songs: Path
    out: Path
    recipe: Recipe
    trigger: str = ""
    caption: str = ""
    captions: str = ""
    device: str = ""
    held_out: float = 0.1
    overlap: float = 0.25


def read_order(path: Path) -> Order:
    """Read a .toml or .json file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, lacks a key, or has an unknown one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a .toml or .json file with model, songs and out.")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            values = json.loads(text)
        elif sys.version_info >= (3, 11):
            values = imported("tomllib").loads(text)
        else:
            raise ValueError("reading TOML takes Python 3.11")
    except ValueError as error:  # both readers' own errors are kinds of it
        raise ValueError(f"{path} cannot be read ({error}); mend it, or give the same keys as .json.") from error
    known = {field.name for field in fields(Order)}
    recipe = values.pop("recipe", {})
    unknown = sorted([*(values.keys() - known), *(recipe.keys() - {field.name for field in fields(Recipe)})])
    missing = sorted({"model", "songs", "out"} - values.keys())
    if unknown or missing:
        words = [f"has unknown keys: {', '.join(unknown[:5])}"] if unknown else []
        words += [f"lacks {', '.join(missing)}"] if missing else []
        raise ValueError(f"{path} {' and '.join(words)}; allowed are {', '.join(sorted(known))}, with a table recipe.")
    places: dict[str, Any] = {name: Path(values.pop(name)) for name in ("model", "songs", "out")}
    return Order(**places, recipe=Recipe(**recipe), **values)


def run(order: Order) -> Path:
    """Train as ordered, and return the folder that was written."""
    with company() as own:
        if order.out.exists():
            raise FileExistsError(f"{order.out} exists; name another folder as out, or move it away.")
        model = load_model(order.model, device=order.device or local_device())
        with first_alone(own):
            dataset = _songs(order, model)
        recipe = _fitted(order.recipe, model, dataset)
        _say(own, dataset.text())
        return _train(order, model, dataset, recipe, own)


def _songs(order: Order, model: MusicGen) -> SongDataset:
    return make_dataset(
        order.songs,
        model.codec,
        model.config,
        caption=order.caption,
        trigger=order.trigger,
        listed=Path(order.captions) if order.captions else None,
        overlap=order.overlap,
        held_out=order.held_out,
        cache=order.out.with_name(f"{order.out.name}.encodings"),
    )


def _fitted(recipe: Recipe, model: MusicGen, dataset: SongDataset) -> Recipe:
    """The recipe, or a MemoryError with one that would fit."""
    longest = max(piece.codes.shape[1] for piece in dataset.pieces)
    tokens = max(model.text_encoder.encode([caption]).states.shape[1] for caption in dataset.captions)
    free = free_memory() if model.device.type == "cpu" else _free_on(model.device)
    return fit(model.config, recipe, longest, tokens, free, choose_batch=False, choose_recompute=False)[0]


def _free_on(device: Any) -> int | None:
    import torch

    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def _train(order: Order, model: MusicGen, dataset: SongDataset, recipe: Recipe, own: Company) -> Path:
    checkpoint = order.out.with_name(f"{order.out.name}.checkpoint")
    progress: list[ProgressLog] = []

    def report(step: Any) -> None:
        if own.rank == 0:
            if not progress:
                progress.append(ProgressLog("training", step.total, step.step))
            held = "" if step.held_out is None else f", held-out songs {step.held_out:.3f}"
            progress[0].update(step.step, f"loss {step.loss:.3f}{held}")

    settings: dict[str, Any] = {"checkpoint": checkpoint, "on_step": report, "company": own}
    if recipe.full:
        state, result = train_whole(model, dataset, recipe, **settings)
    else:
        lora, result = train_lora(model, dataset, recipe, **settings)
    _say(own, result.text())
    if own.rank == 0:
        if recipe.full:
            save_model(model, order.model, state, order.out)
        else:
            save_adapter(lora, order.out)
        size = sum(path.stat().st_size for path in order.out.iterdir())
        checkpoint.unlink(missing_ok=True)
        _say(own, f"saved {order.out}, {size_text(size)}")
    return order.out


def _say(own: Company, text: str) -> None:
    if own.rank == 0:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
