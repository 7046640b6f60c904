"""Training on one's own music: a folder of songs, a LoRA or a whole model from it.

Nothing here is imported to generate music. `python -m musicgen.finetuning recipe.toml` trains from a file.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapters import AdaptedLM, TrainedLora
    from .dataset import SongDataset, make_dataset
    from .recipe import Recipe
    from .run import train_lora, train_whole
    from .training import Trained, Training, train

__all__ = [
    "AdaptedLM",
    "Recipe",
    "SongDataset",
    "Trained",
    "TrainedLora",
    "Training",
    "make_dataset",
    "train",
    "train_lora",
    "train_whole",
]

_PLACES = {
    "AdaptedLM": "adapters",
    "TrainedLora": "adapters",
    "SongDataset": "dataset",
    "make_dataset": "dataset",
    "Recipe": "recipe",
    "train_lora": "run",
    "train_whole": "run",
    "Trained": "training",
    "Training": "training",
    "train": "training",
}
"""The module of each name. It is imported where the name is asked for, so that those who need one pay for one."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)
