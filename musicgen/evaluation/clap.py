"""Embeddings and scores from CLAP (Wu et al. 2023), for users who have its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..audio import resample


class Clap:
    """A CLAP model (Wu et al. 2023) from a local folder in the transformers layout."""

    def __init__(self, folder: str | Path) -> None:
        from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

        if not Path(folder).is_dir():
            raise FileNotFoundError(f"{folder} is no folder; give one that holds a CLAP model in transformers' layout.")
        self._model = ClapModel.from_pretrained(folder, local_files_only=True).eval()
        self._extractor = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    @torch.no_grad()
    def embed_audio(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Embed audio `[B, L]` as unit vectors `[B, D]`; only the first 10 s of a clip count."""
        rate = self._extractor.sampling_rate
        # Cut to the first 10 s here, since the extractor would cut at a random position.
        waves = list(resample(audio, sample_rate, rate)[:, : self._extractor.nb_max_samples].numpy())
        inputs = self._extractor(waves, sampling_rate=rate, return_tensors="pt")
        return torch.nn.functional.normalize(_pooled(self._model.get_audio_features(**inputs)), dim=-1)

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Tensor:
        """Embed descriptions as unit vectors `[B, D]`."""
        inputs = self._tokenizer(texts, padding=True, return_tensors="pt")
        return torch.nn.functional.normalize(_pooled(self._model.get_text_features(**inputs)), dim=-1)

    def score(self, audio: Tensor, sample_rate: int, texts: list[str]) -> Tensor:
        """Return the cosine similarity of each clip and its description: `[B]`."""
        return (self.embed_audio(audio, sample_rate) * self.embed_text(texts)).sum(dim=-1)


def _pooled(features: Any) -> Tensor:
    """Return the embedding itself, which newer versions of transformers wrap in an output object."""
    return features if isinstance(features, Tensor) else features.pooler_output
