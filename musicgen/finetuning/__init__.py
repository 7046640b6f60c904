"""Training on one's own music: a folder of songs, a LoRA or a whole model from it.

Nothing here is imported to generate music. `python -m musicgen.finetuning recipe.toml` trains from a file.
"""

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
