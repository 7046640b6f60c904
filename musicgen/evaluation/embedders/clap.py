"""CLAP (Wu et al. 2023) by transformers: embeddings of sounds and of captions, for distances and for the CLAP score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...audio import resample
from ...checkpoints.files.settings import read_json
from ...checkpoints.files.weights import read_weights
from ...environment import imported, torch_defaults
from .laion import config_of, extractor_settings, read_laion
from .listener import fingerprint_of
from .weights import fill_module

_IGNORED = ("position_ids", "token_type_ids", "relative_position_index", "num_batches_tracked")
_TOKENIZERS = ("tokenizer.json", "vocab.json")
_MOST_TOKENS = 77
_FULL_SCALE = 32767.0
_BATCH = 8


class Clap:
    """A CLAP model from a folder in transformers' layout, or from one of LAION's `.pt` files.

    As a :class:`Listener` it returns one embedding for each window of 10 s that begins every `hop` seconds, the last
    ones filled up with silence, as the toolkit of Gui et al. 2024 does for its published statistics.
    """

    name = "clap"

    def __init__(self, path: str | Path, *, hop: float = 1.0, device: torch.device | str = "cpu") -> None:
        """Read the model.

        Args:
            path: a folder with config.json and weights, a `.pt` file, or a folder that holds one `.pt` file.
            hop: seconds from the start of one window to that of the next.
            device: where to compute.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged or is another kind of model, or hop is not above 0.
        """
        if not hop > 0:
            raise ValueError(f"hop is {hop}; allowed are seconds above 0.")
        self.path = Path(path)
        self._device = torch.device(device)
        self._hop = hop
        self._model, self._extractor = _read(self.path)
        self._tokenizer: Any = None
        self.sample_rate = int(self._extractor.sampling_rate)
        self.fingerprint = fingerprint_of(self._model, {"hop": hop, **_numbers(self._extractor)})
        width = self._model.config.audio_config.patch_embeds_hidden_size
        self.aliases: tuple[str, ...] = ("clap-laion-music",) if width > 96 else ("clap-laion-audio",)
        self._model.to(self._device)

    def listen(self, audio: Tensor) -> Tensor:
        """Return the embedding `[n, D]` of each window of audio `[L]` at the model's rate."""
        size, hop = self._extractor.nb_max_samples, max(1, round(self._hop * self.sample_rate))
        starts = range(0, len(audio), hop)
        rows = []
        for first in range(0, len(starts), _BATCH):
            waves = [audio[start : start + size] for start in starts[first : first + _BATCH]]
            rows.append(self._embed([F.pad(_as_stored(wave), (0, size - len(wave))) for wave in waves]))
        return torch.cat(rows)

    def embed_audio(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Embed audio `[B, L]` as unit vectors `[B, D]`.

        The first 10 s of a clip count, where LAION's code takes 10 s at random; a shorter clip is repeated.
        """
        waves = resample(audio, sample_rate, self.sample_rate)[:, : self._extractor.nb_max_samples]
        return self._embed([_as_stored(wave) for wave in waves])

    @torch.no_grad()
    @torch_defaults()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed descriptions as unit vectors `[B, D]`; only the first 77 tokens count.

        Raises:
            FileNotFoundError: the tokenizer's files are missing.
        """
        if self._tokenizer is None:
            self._tokenizer = _read_tokenizer(self.path)
        inputs = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=_MOST_TOKENS, return_tensors="pt"
        ).to(self._device)
        return F.normalize(_pooled(self._model.get_text_features(**inputs)), dim=-1).cpu()

    def score(self, audio: Tensor, sample_rate: int, texts: Sequence[str]) -> Tensor:
        """Return the cosine of each clip `[B, L]` and its description, audiocraft's text consistency: `[B]`."""
        return (self.embed_audio(audio, sample_rate) * self.embed_text(texts)).sum(dim=-1)

    @torch.no_grad()
    @torch_defaults()
    def _embed(self, waves: Sequence[Tensor]) -> Tensor:
        inputs = self._extractor([wave.numpy() for wave in waves], sampling_rate=self.sample_rate, return_tensors="pt")
        features = inputs["input_features"].to(self._device, torch.float32)
        return F.normalize(_pooled(self._model.get_audio_features(input_features=features)), dim=-1).cpu()


class ClapOpening:
    """The :class:`Listener` of the CLAP score: one embedding for the first 10 s of a sound."""

    name = "clap-opening"
    aliases: tuple[str, ...] = ()

    def __init__(self, clap: Clap) -> None:
        self.clap = clap
        self.sample_rate = clap.sample_rate
        self.fingerprint = f"{clap.fingerprint}-opening"

    def listen(self, audio: Tensor) -> Tensor:
        """Return one unit vector `[1, D]` of audio `[L]`."""
        return self.clap.embed_audio(audio[None], self.sample_rate)


def _as_stored(wave: Tensor) -> Tensor:
    """Round to 16 bits and back, as LAION's code does: clipped to full scale, and cut towards zero."""
    return (wave.float().clamp(-1, 1) * _FULL_SCALE).trunc() / _FULL_SCALE


def _read(path: Path) -> tuple[Any, Any]:
    """Return the model and the extractor of spectrograms."""
    ClapConfig, ClapModel, ClapFeatureExtractor = imported(
        "transformers", "ClapConfig", "ClapModel", "ClapFeatureExtractor"
    )
    if path.is_dir() and (path / "config.json").is_file():
        config = ClapConfig(**read_json(path / "config.json").values)
        records = read_weights(path).records
        extractor = ClapFeatureExtractor.from_pretrained(path, local_files_only=True)
    else:
        path = _laion_file(path)
        records = read_laion(path)
        config, extractor = ClapConfig(**config_of(records)), ClapFeatureExtractor(**extractor_settings())
    if config.audio_config.enable_fusion or extractor.truncation != "rand_trunc":
        raise ValueError(
            f"{path} is a CLAP model that fuses parts of long sounds, which this measure does not; take one without "
            "fusion, such as laion/larger_clap_music or laion/clap-htsat-unfused."
        )
    with torch.random.fork_rng(devices=[]), torch_defaults():
        model = ClapModel(config)
    fill_module(model, records, path, _IGNORED)
    return model.eval().requires_grad_(False), extractor


def _laion_file(path: Path) -> Path:
    if not path.is_dir():
        if path.is_file():
            return path
        raise FileNotFoundError(
            f"{path} does not exist; give a folder with a CLAP model in transformers' layout, or LAION's .pt file."
        )
    found = sorted(path.glob("*.pt"))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{path} holds no config.json and {len(found)} .pt files; allowed is a CLAP model in transformers' layout, "
            "or one .pt file of LAION."
        )
    return found[0]


def _read_tokenizer(path: Path) -> Any:
    folder = path if path.is_dir() else path.parent
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise FileNotFoundError(
            f"{folder} holds no tokenizer; put tokenizer.json (or vocab.json and merges.txt) of roberta-base there."
        )
    if (folder / "tokenizer_config.json").is_file():
        (tokenizer,) = imported("transformers", "AutoTokenizer")
    else:
        (tokenizer,) = imported("transformers", "RobertaTokenizerFast")
    return tokenizer.from_pretrained(folder, local_files_only=True)


def _pooled(features: Any) -> Tensor:
    """Return the embedding itself, which newer versions of transformers wrap in an output object."""
    return features if isinstance(features, Tensor) else features.pooler_output


def _numbers(extractor: Any) -> dict[str, object]:
    """The settings of an extractor that change its output."""
    plain: dict[str, object] = {name: v for name, v in vars(extractor).items() if isinstance(v, int | float | str)}
    return {**plain, "filters": float(np.sum(extractor.mel_filters_slaney))}
