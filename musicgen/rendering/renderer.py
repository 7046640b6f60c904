"""Makes the sound of pieces: loads each model once, encodes each text once, samples batches and decodes piece by piece.

A renderer writes no files and knows nothing of other workers. Two threads may call it at once: one samples while the
other decodes, which gains time on a GPU.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..conditioning.condition import TextCondition
from ..conditioning.melody import extract_melody
from ..environment import torch_defaults
from ..generation.generate import generate
from ..generation.request import Request
from ..lora.apply import read_lora
from ..loudness import apply_gain, loudness_gain, unclipped_gain
from ..model import MusicGen, load_model
from .batches import even_parts
from .free_memory import free_memory, is_out_of_memory
from .pieces import AS_IT_IS, UNCLIPPED, Piece
from .sounds import read_sound

logger = logging.getLogger("musicgen")

TRIES = 3
"""Times that a piece is tried by itself before it is reported as failed."""
_SHARE = 0.5
"""Share of the free memory that one batch may take by the estimate."""
_MODELS, _TEXTS, _RECORDINGS = 2, 1024, 64
_LM_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}


@dataclass(frozen=True)
class Sound:
    """A finished piece: codes int64 `[K, T]` and audio float32 `[C, L]` on the CPU; took: its seconds of work."""

    piece: Piece
    codes: Tensor
    audio: Tensor
    sample_rate: int
    took: float


@dataclass(frozen=True)
class Failure:
    """A piece that could not be made; error: one sentence."""

    piece: Piece
    error: str


class Renderer:
    """Makes pieces on one device."""

    def __init__(self, device: str | None = None, workers_here: int = 1) -> None:
        """Load nothing yet.

        Args:
            device: where to compute; None takes a CUDA device if there is one, else the CPU.
            workers_here: number of workers that share the memory of this device.
        """
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._workers_here = workers_here
        self._models: OrderedDict[Any, MusicGen] = OrderedDict()
        self._texts: OrderedDict[Any, TextCondition] = OrderedDict()
        self._recordings: OrderedDict[Any, Any] = OrderedDict()
        self._most: dict[Any, int] = {}
        self._sampling, self._decoding = threading.Lock(), threading.Lock()
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    @property
    def overlaps(self) -> bool:
        """Whether a second thread gains time: where decoding and sampling do not share the cores."""
        return self.device.type != "cpu"

    @torch.no_grad()
    def render(self, pieces: Sequence[Piece]) -> Iterator[Sound | Failure]:
        """Make pieces of one group (:meth:`Piece.group`).

        A batch that fails is halved until the piece at fault is alone; this one is tried :data:`TRIES` times. A batch
        for which memory runs out is halved too, and later ones of its group are made as small from the start.
        """
        waiting = [list(pieces)]
        while waiting:
            batch, failed = waiting.pop(0), True
            try:
                parts = self._parts(batch)
                if len(parts) > 1:
                    waiting[:0] = parts
                else:
                    yield from self._attempt(batch)
                failed = False
            except Exception as error:
                if len(batch) == 1:
                    yield Failure(batch[0], _sentence(error))
                    continue
                if is_out_of_memory(error):
                    self._most[batch[0].group()] = len(batch) // 2
                logger.warning("A batch of %d pieces failed and is halved: %s", len(batch), _sentence(error))
                middle = len(batch) // 2
                waiting[:0] = [batch[:middle], batch[middle:]]
            if failed:  # the error is gone here, and all that it held
                self._tidy()

    def _attempt(self, batch: list[Piece]) -> list[Sound]:
        """Make a batch; a single piece is tried several times."""
        for left in range(TRIES if len(batch) == 1 else 1, 0, -1):
            try:
                return self._make(batch)
            except Exception:
                if left == 1:
                    raise
        raise AssertionError("unreachable")

    def _make(self, batch: list[Piece]) -> list[Sound]:
        with self._sampling:
            model = self._model(batch[0])
            began = time.perf_counter()
            codes = self.sample(model, batch)
        sampled = (time.perf_counter() - began) / len(batch)
        sounds = []
        with self._decoding, nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            for piece, item in zip(batch, codes, strict=True):
                began = time.perf_counter()
                audio = self.decode(model, piece, item)
                took = sampled + time.perf_counter() - began
                sounds.append(Sound(piece, item, audio, model.sample_rate, took))
        return sounds

    def load(self, piece: Piece) -> MusicGen:
        """Load the model of a piece, without its LoRAs."""
        dtype = _LM_DTYPES.get(piece.dtype)
        if piece.dtype == "auto" and self.device.type == "cuda":
            dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return load_model(piece.model, device=self.device, dtype=dtype)

    def sample(self, model: MusicGen, batch: Sequence[Piece]) -> Tensor:
        """Sample the codes int64 `[B, K, T]` of pieces that share their group."""
        request = self._request(model, batch)
        return generate(model.lm, model.config, request, device=model.device)

    def decode(self, model: MusicGen, piece: Piece, codes: Tensor) -> Tensor:
        """Decode codes `[K, T]` to audio `[C, L]` at the piece's level."""
        audio = model.decode(codes[None])  # [1, C, L]
        if piece.level == UNCLIPPED:
            audio = apply_gain(audio, unclipped_gain(audio))
        elif piece.level != AS_IT_IS:
            audio = apply_gain(audio, loudness_gain(audio, model.sample_rate, float(piece.level)))
        return audio[0]

    def _request(self, model: MusicGen, batch: Sequence[Piece]) -> Request:
        first, config = batch[0], model.config
        texts = [[self._text(model, first, piece.description) for piece in batch]]
        if first.negative:
            texts.append([self._text(model, first, piece.negative) for piece in batch])
        positive, *negative = map(_stacked, texts)
        melodies, styles, prompt = [], [], None
        if first.melody and config.chroma is not None:
            chroma = config.chroma
            melodies = [
                self._recording(piece.melody, first, lambda sound: extract_melody(*sound, chroma)) for piece in batch
            ]
        if first.style:
            styles = [self._recording(piece.style, first, lambda sound: model.encode_style(*sound)) for piece in batch]
        if first.prompt:
            prompts = [
                self._recording(piece.prompt, first, lambda sound: model.encode(sound[0][None], sound[1]))
                for piece in batch
            ]
            prompt = torch.cat(prompts)
        return Request(
            params=first.params,
            positive=[positive],
            negative=negative,
            batch_size=len(batch),
            seeds=[piece.params.seed for piece in batch],
            melodies=melodies,
            styles=styles,
            prompt=prompt,
        )

    def _parts(self, batch: list[Piece]) -> list[list[Piece]]:
        """Split a batch so that each part fits into the memory."""
        if len(batch) == 1:
            return [batch]
        key = batch[0].group()
        with self._sampling:
            if key not in self._most:
                self._most[key] = max(1, self.capacity(self._model(batch[0]), batch[0]))
        return even_parts(batch, self._most[key]) if len(batch) > self._most[key] else [batch]

    def capacity(self, model: MusicGen, piece: Piece) -> int:
        """Return the number of pieces like this one for which the memory is enough, by the estimate."""
        one = self._request(model, [piece])
        free = free_memory(self.device) // self._workers_here
        return int(_SHARE * free) // one.bytes(model.config, model.lm.dtype.itemsize)

    def _model(self, piece: Piece) -> MusicGen:
        """The model of a piece with its LoRAs; the last few are kept, and variants share unchanged weights."""
        base = _kept(self._models, (piece.model, piece.dtype), _MODELS, lambda: self.load(piece))
        if not piece.loras:
            return base

        def merge() -> MusicGen:
            model = base
            for path, strength in piece.loras:
                model = model.with_lora(read_lora(path, model.config), strength)
            return model

        return _kept(self._models, (piece.model, piece.dtype, piece.loras), _MODELS, merge)

    def _text(self, model: MusicGen, piece: Piece, text: str) -> TextCondition:
        key = (piece.model, piece.dtype, piece.loras, text)
        return _kept(self._texts, key, _TEXTS, lambda: model.text_encoder.encode([text]))

    def _recording(self, path: str, piece: Piece, convert: Callable[[tuple[Tensor, int]], Any]) -> Any:
        key = (piece.model, path, bool(piece.melody), bool(piece.style))
        return _kept(self._recordings, key, _RECORDINGS, lambda: convert(read_sound(path)))

    def _tidy(self) -> None:
        """After a failure: let go of everything that its batch held."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@torch_defaults()
def _stacked(conditions: Sequence[TextCondition]) -> TextCondition:
    """Conditions of one text each as one of `[B, n, C]`, padded to the longest."""
    states = nn.utils.rnn.pad_sequence([condition.states[0] for condition in conditions], batch_first=True)
    masks = nn.utils.rnn.pad_sequence([condition.mask[0] for condition in conditions], batch_first=True)
    return TextCondition(states, masks)


def _kept(kept: OrderedDict[Any, Any], key: Any, most: int, make: Callable[[], Any]) -> Any:
    """The value of a key, made if it is not there; the values that were used last are kept."""
    if key not in kept:
        kept[key] = make()
        if len(kept) > most:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
