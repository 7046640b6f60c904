"""A classifier of sound by transformers (AST on AudioSet, or any other): the probabilities of tags, piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...environment import imported, torch_defaults
from .listener import fingerprint_of

PIECE_SECONDS = 10.0
_LEAST_SECONDS = 0.15


class TagClassifier:
    """Probabilities over all tags, as audiocraft takes them for its divergence.

    A sound is split into pieces of 10 s, and a piece of at most 0.15 s is left out. The probabilities are a softmax
    over the logits, also where the classifier was trained on several tags at once.
    """

    name = "tags"
    aliases: tuple[str, ...] = ()

    def __init__(self, folder: str | Path, *, device: torch.device | str = "cpu") -> None:
        """Read the model.

        Args:
            folder: a folder with config.json, preprocessor_config.json and weights.
            device: where to compute.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or transformers knows no classifier of sound of this kind.
        """
        folder = Path(folder)
        for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder} holds no {name}; put config.json, preprocessor_config.json and model.safetensors of a "
                    "classifier of sound there."
                )
        AutoModel, AutoExtractor = imported("transformers", "AutoModelForAudioClassification", "AutoFeatureExtractor")
        self._device = torch.device(device)
        try:
            self._extractor: Any = AutoExtractor.from_pretrained(folder, local_files_only=True)
            # transformers has renamed parameters of classifiers, and translates the older names itself.
            with torch.random.fork_rng(devices=[]), torch_defaults():
                self._model, told = AutoModel.from_pretrained(
                    folder, local_files_only=True, use_safetensors=True, output_loading_info=True
                )
        except (ValueError, KeyError, OSError) as error:
            reason = str(error).splitlines()[0][:200]
            raise ValueError(f"{folder} is no classifier of sound that transformers knows ({reason}).") from error
        if lacking := sorted(told["missing_keys"]):
            raise ValueError(f"{folder} lacks {len(lacking)} tensors, first {', '.join(lacking[:5])}; fetch it again.")
        config = self._model.config
        self._model.eval().requires_grad_(False)
        self.labels = [str(config.id2label[number]) for number in range(config.num_labels)]
        self.sample_rate = int(self._extractor.sampling_rate)
        settings = {
            name: value for name, value in vars(self._extractor).items() if isinstance(value, int | float | str)
        }
        self.fingerprint = fingerprint_of(self._model, {"piece": PIECE_SECONDS, **settings})
        self._model.to(self._device)

    @torch.no_grad()
    @torch_defaults()
    def listen(self, audio: Tensor) -> Tensor:
        """Return the probabilities `[pieces, tags]` of audio `[L]`."""
        size, least = round(PIECE_SECONDS * self.sample_rate), round(_LEAST_SECONDS * self.sample_rate)
        pieces = [piece for piece in audio.split(size) if len(piece) > least]
        if not pieces:
            raise ValueError(
                f"the sound has {len(audio) / self.sample_rate:.2f} s; a classifier needs more than {_LEAST_SECONDS} s."
            )
        rows = []
        for piece in pieces:
            inputs = self._extractor(piece.numpy(), sampling_rate=self.sample_rate, return_tensors="pt").to(
                self._device
            )
            rows.append(self._model(**inputs).logits.softmax(dim=-1).cpu())
        return torch.cat(rows)
