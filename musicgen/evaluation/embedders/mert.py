"""MERT (Li et al. 2024) as a listener: the last states, 75 a second."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...checkpoints.files.settings import read_json
from ...checkpoints.loading import load_mert
from ...checkpoints.parts.mert import open_mert
from ...environment import torch_defaults
from .listener import fingerprint_of

_RATE = 24000
_PIECE = 30 * _RATE
_LEAST = 400
"""Samples of the first convolutions' reach; MERT has no state of less."""
_PREPROCESSOR = "preprocessor_config.json"


class MertStates:
    """The states of MERT's last layer, of pieces of at most 30 s. Its files are read as those of a style model."""

    name = "mert"
    sample_rate = _RATE
    aliases: tuple[str, ...] = ("MERT-v1-95M",)

    def __init__(self, folder: str | Path, *, device: torch.device | str = "cpu") -> None:
        """Read the model.

        Args:
            folder: a folder with config.json, preprocessor_config.json and weights of m-a-p/MERT-v1-95M.
            device: where to compute.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged or is another kind of model.
        """
        folder = Path(folder)
        if not (folder / _PREPROCESSOR).is_file():
            raise FileNotFoundError(
                f"{folder} holds no {_PREPROCESSOR}, which says whether MERT hears sounds at one loudness; put that "
                "file of m-a-p/MERT-v1-95M there."
            )
        self._normalise = read_json(folder / _PREPROCESSOR).flag("do_normalize")
        self._device = torch.device(device)
        self._model = load_mert(open_mert(folder), "cpu")
        self.fingerprint = fingerprint_of(self._model, {"normalise": self._normalise, "piece": _PIECE})
        self._model.to(self._device)

    @torch.no_grad()
    @torch_defaults()
    def listen(self, audio: Tensor) -> Tensor:
        """Return the states `[n, D]` of audio `[L]` at 24 kHz."""
        pieces = [piece for piece in audio.split(_PIECE) if len(piece) >= _LEAST]
        if not pieces:
            raise ValueError(f"the sound has {len(audio)} samples at 24 kHz; MERT needs at least {_LEAST}.")
        if self._normalise:  # as transformers' extractor does it
            pieces = [(piece - piece.mean()) / torch.sqrt(piece.var(correction=0) + 1e-7) for piece in pieces]
        return torch.cat([self._model(piece[None].to(self._device))[0].cpu() for piece in pieces])
