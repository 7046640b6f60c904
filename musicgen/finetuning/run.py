"""Train a loaded model on a dataset: a LoRA, or the whole language model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..environment import torch_defaults
from ..model import MusicGen
from .adapter_folder import licence_of
from .adapters import AdaptedLM, TrainedLora, trainable_copy
from .batches import Batches, encode_captions
from .dataset import SongDataset
from .memory import dtype_of
from .recipe import Recipe
from .training import OnStep, Reduce, Trained, Training, train


@dataclass(frozen=True)
class Company:
    """This process among those that train together.

    Args:
        rank: its number.
        ranks: how many there are.
        reduce: takes the mean of tensors over all of them; None where it is alone.
    """

    rank: int = 0
    ranks: int = 1
    reduce: Reduce | None = None


ALONE = Company()


def check_trainable(model: MusicGen, dataset: SongDataset) -> None:
    """Refuse a style model, and songs that were encoded for another model.

    Raises:
        ValueError: the model and the songs do not go together.
    """
    if model.config.style is not None:
        raise ValueError(f"{model.config.name} is a style model, which is not trained; choose a text or melody model.")
    if dataset.codec != model.codec.fingerprint or dataset.melody != (model.config.chroma is not None):
        raise ValueError(
            f"the songs {dataset.name} were encoded for another model ({dataset.codec} is not "
            f"{model.codec.fingerprint}); make the dataset with the codec and the config of {model.config.name}."
        )


@torch_defaults()
def train_lora(
    model: MusicGen,
    dataset: SongDataset,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    company: Company = ALONE,
) -> tuple[TrainedLora, Trained]:
    """Train a LoRA; the model does not change.

    Args:
        model: the base model.
        dataset: songs that were encoded by its codec.
        recipe: the numbers of the training.
        checkpoint: file to go on from, and to write; see :func:`train`.
        on_step: called after every step.
        company: the processes that train together.

    Raises:
        ValueError: model, songs and recipe do not go together.
    """
    check_trainable(model, dataset)
    lm = trainable_copy(model.lm, model.lm.state_dict(), dtype_of(recipe), model.device)
    generator = torch.Generator().manual_seed(recipe.seed)
    adapted = AdaptedLM(
        lm, model.config, rank=recipe.rank, alpha=recipe.scale, targets=recipe.targets, generator=generator
    )
    training = _training(model, lm, adapted.parameters(), dataset, recipe, company)
    result = train(training, checkpoint, on_step=on_step, writes=company.rank == 0)
    return adapted.trained(result.state, _about(model, dataset, recipe, result)), result


@torch_defaults()
def train_whole(
    model: MusicGen,
    dataset: SongDataset,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    company: Company = ALONE,
) -> tuple[dict[str, Tensor], Trained]:
    """Train all weights of a language model, and return them by name, on the CPU; the model does not change.

    The arguments are those of :func:`train_lora`.
    """
    check_trainable(model, dataset)
    lm = trainable_copy(model.lm, model.lm.state_dict(), torch.float32, model.device).requires_grad_(True)
    training = _training(model, lm, dict(lm.named_parameters()), dataset, recipe, company)
    result = train(training, checkpoint, on_step=on_step, writes=company.rank == 0)
    return result.state, result


def _training(
    model: MusicGen, lm: Any, parameters: Any, dataset: SongDataset, recipe: Recipe, company: Company
) -> Training:
    texts = encode_captions(model.text_encoder, dataset.captions)
    batches = Batches(dataset, texts, recipe, company.rank, company.ranks)
    base = model.lm.fingerprint()
    return Training(lm, model.config, parameters, batches, recipe, base=base, reduce=company.reduce)


def _about(model: MusicGen, dataset: SongDataset, recipe: Recipe, result: Trained) -> dict[str, Any]:
    captions = [song.caption for song in dataset.songs]
    return {
        "dataset": dataset.name,
        "caption": max(set(captions), key=captions.count),
        "base_model": model.config.name,
        "base_weights": model.lm.fingerprint(),
        "base_licence": licence_of(model.config.name),
        "recipe": recipe.settings(),
        "result": result.text().replace("\n", "; "),
    }
