"""Catalogues of tiny pieces, and the library's own sound of each row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from musicgen import MusicGen, load_model
from musicgen.conditioning.melody import extract_melody
from musicgen.generation.generate import generate
from musicgen.generation.request import Request
from musicgen.rendering import Catalogue, Piece, read_catalogue
from musicgen.rendering.sounds import encode_sound, read_sound
from tests.conftest import GOLDEN

CHECKPOINTS = GOLDEN / "checkpoints"


@pytest.fixture
def catalogue(tmp_path: Path) -> Callable[..., Catalogue]:
    """Write rows as JSONL and read them as a catalogue of a tiny model; the rows' fields are as a user writes them."""

    def make(*rows: dict[str, Any], model: str = "hf-text", **defaults: Any) -> Catalogue:
        path = tmp_path / "catalogue.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_catalogue(path, {"model": str(CHECKPOINTS / model), "duration": 0.2, "format": "wav", **defaults})

    return make


def alone(model: MusicGen, piece: Piece) -> torch.Tensor:
    """The codes `[K, T]` that the library samples for one piece by itself."""
    texts = [model.text_encoder.encode([text]) for text in (piece.description, piece.negative)]
    prompt = None
    if piece.prompt:
        sound, rate = read_sound(piece.prompt)
        prompt = model.encode(sound[None], rate)
    request = Request(
        params=piece.params,
        positive=texts[:1],
        negative=texts[1:] if piece.negative else (),
        melodies=[extract_melody(*read_sound(piece.melody), model.config.chroma)] if piece.melody else (),
        prompt=prompt,
    )
    return generate(model.lm, model.config, request)[0]


def file_alone(model: MusicGen, piece: Piece) -> bytes:
    """The bytes of the file that the library makes of one piece by itself, at the level 'as it is'."""
    return encode_sound(model.decode(alone(model, piece)[None])[0], model.sample_rate, piece.format)


@pytest.fixture(scope="session")
def text_model() -> MusicGen:
    return load_model(CHECKPOINTS / "hf-text")


@pytest.fixture(scope="session")
def melody_model() -> MusicGen:
    return load_model(CHECKPOINTS / "hf-melody")
