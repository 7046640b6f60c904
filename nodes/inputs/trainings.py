"""A training from the values of the sockets: checks, the recipe as it fits into the memory, and the run itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...musicgen.units import size_text
from ..host import patchers, progress, song_folders, trainings
from ..sockets import ModelHandle

if TYPE_CHECKING:
    from ...musicgen.finetuning.adapters import TrainedLora
    from ...musicgen.finetuning.dataset import SongDataset
    from ...musicgen.finetuning.memory import Estimate
    from ...musicgen.finetuning.recipe import Recipe
    from ...musicgen.finetuning.training import Trained

AUTO, ON, OFF = "auto", "on", "off"
_BATCH = 4


def check_trainable(model: ModelHandle, dataset: SongDataset | None = None) -> None:
    """Refuse a model that cannot be trained here, or songs that were encoded for another one."""
    if model.config.style is not None:
        raise ValueError(f"{model.name} is a style model, which is not trained here; choose a text or a melody model.")
    if model.parts is None:
        raise ValueError(
            f"{model.name} comes without its text encoder and codec; connect the model of MusicGen Loader."
        )
    if dataset is None:
        return
    if dataset.codec != model.codec:
        raise ValueError(
            f"the songs {dataset.name} were encoded by another codec than that of {model.name} ({dataset.codec} is not "
            f"{model.codec}); connect the same model to MusicGen Dataset."
        )
    if dataset.melody != (model.config.chroma is not None):
        raise ValueError(
            f"the songs {dataset.name} were prepared {'with' if dataset.melody else 'without'} melodies, which does "
            f"not suit {model.name}; connect the same model to MusicGen Dataset."
        )


def read_recipe(dtype: str, recompute: str, batch: int, **numbers: Any) -> Recipe:
    """The widgets of the node -> a recipe; choices that are left to the memory begin with the quickest."""
    from ...musicgen.finetuning.recipe import Recipe

    chosen = trainings.auto_dtype() if dtype == AUTO else dtype
    return Recipe(dtype=chosen, recompute=recompute == ON, batch=batch or _BATCH, **numbers)


class LoraRun:
    """One training of a LoRA in the host."""

    def __init__(self, model: ModelHandle, dataset: SongDataset, node_id: str | None) -> None:
        check_trainable(model, dataset)
        assert model.parts is not None
        self.model, self.dataset, self.node_id = model, dataset, node_id
        self.text_encoder, self.codec = model.parts

    def fitted(self, recipe: Recipe, recompute: str, batch: int, texts: dict[str, Tensor]) -> tuple[Recipe, Estimate]:
        """The recipe as it fits into the memory that is free, said on the node; an error where none does."""
        from ...musicgen.finetuning.memory import fit

        config = self.model.config
        if recipe.rank > config.lm.dim:
            raise ValueError(f"rank is {recipe.rank}; allowed is 1 to {config.lm.dim}, the width of {self.model.name}.")
        longest = max(piece.codes.shape[1] for piece in self.dataset.pieces)
        tokens = max(len(states) for states in texts.values())
        _, wanted = fit(config, recipe, longest, tokens, None)
        free = trainings.free_bytes(wanted.total)
        choices = {"choose_batch": not batch, "choose_recompute": recompute == AUTO}
        found, size = fit(config, recipe, longest, tokens, free, **choices)
        how = "with" if found.recompute else "without"
        progress.show(
            self.node_id,
            f"{found.dtype}, batch {found.batch} x {found.accumulate}, {how} gradient checkpointing: "
            f"{size_text(size.total)}" + ("" if free is None else f" of {size_text(free)} that are free"),
        )
        return found, size

    def captions(self) -> dict[str, Tensor]:
        """States of every caption."""
        from ...musicgen.finetuning.batches import encode_captions

        with patchers.on_device(self.text_encoder.patcher, whole=True):
            return encode_captions(self.text_encoder.patcher.model, self.dataset.captions)

    def usual_caption(self) -> str:
        """The caption of the most songs."""
        return Counter(song.caption for song in self.dataset.songs).most_common(1)[0][0]

    def train(
        self, recipe: Recipe, size: Estimate, texts: dict[str, Tensor], *, every: int, keep: bool
    ) -> tuple[TrainedLora, Trained, dict[str, Any] | None]:
        """Train, and go on where the same training was stopped.

        Args:
            recipe: the numbers.
            size: the memory that it takes.
            texts: states of all captions.
            every: steps between two sounds of the usual caption, 0 for none.
            keep: whether Cancel ends the training alone.
        """
        from ...musicgen.finetuning.adapters import AdaptedLM
        from ...musicgen.finetuning.batches import Batches
        from ...musicgen.finetuning.listening import Listener
        from ...musicgen.finetuning.memory import dtype_of
        from ...musicgen.finetuning.training import Training, train

        config, digest = self.model.config, self._digest(recipe)
        with trainings.training_copy(self.model.patcher, dtype_of(recipe), size.trained + size.step) as lm:
            generator = torch.Generator().manual_seed(recipe.seed)
            adapted = AdaptedLM(
                lm, config, rank=recipe.rank, alpha=recipe.scale, targets=recipe.targets, generator=generator
            )
            batches = Batches(self.dataset, texts, recipe)
            training = Training(lm, config, adapted.parameters(), batches, recipe, base=self._base())
            listener = None
            if every:
                device = lm.embedding.weight.device
                states = texts[self.usual_caption()]
                listener = Listener(adapted, config, self.codec.patcher.model, states, device, recipe.seed)
            report = trainings.TrainingReporter(recipe.steps, self.node_id, listener, every)
            try:
                result = train(training, song_folders.training_file(digest), on_step=report)
            except progress.Interrupted:
                if not keep:
                    progress.say(self.node_id, f"Cancel ended the training after step {training.step_number}; the same "
                                 "settings go on from there.")  # fmt: skip
                    raise
                result = training.trained(f"Cancel ended the training after step {training.step_number}.")
            return adapted.trained(result.state, self._about(recipe, result)), result, report.shown

    def _base(self) -> str:
        return f"{self.model.weights} {list(self.model.loras)}"

    def _digest(self, recipe: Recipe) -> str:
        text = f"{self._base()} {self.dataset.fingerprint()} {recipe.settings()}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _about(self, recipe: Recipe, result: Trained) -> dict[str, Any]:
        from ...musicgen.finetuning.adapter_folder import licence_of

        return {
            "dataset": self.dataset.name,
            "caption": self.usual_caption(),
            "base_model": self.model.name,
            "base_weights": self.model.weights,
            "base_licence": licence_of(self.model.name),
            "recipe": recipe.settings(),
            "result": result.text().replace("\n", "; "),
        }
