"""The library's main interface: load a model, sample codes, decode them to audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .audio import as_audio, as_tensor, shown
from .checkpoints.loading import Components, load_components
from .checkpoints.saving import save_checkpoint
from .conditioning.melody import Melody, RecordedMelody, extract_melody
from .conditioning.written_melody import WrittenMelody
from .config import RELEASED_CHROMA
from .generation.generate import OnStep, generate
from .generation.guard import Guard
from .generation.params import GenerationParams
from .generation.request import Request
from .lora.apply import LoRA, merged_lm, merged_text_encoder


class MusicGen:
    """A whole model on one device. It is immutable; no call changes it."""

    def __init__(self, components: Components, device: torch.device) -> None:
        self.config = components.config
        self.lm = components.lm
        self.text_encoder = components.text_encoder
        self.codec = components.codec
        self.style = components.style
        self.device = device

    @property
    def sample_rate(self) -> int:
        """Samples per second of decoded audio."""
        return self.config.sample_rate

    @property
    def frame_rate(self) -> int:
        """Frames of codes per second."""
        return self.config.frame_rate

    @property
    def num_codebooks(self) -> int:
        """K, the number of codebooks of all channels together."""
        return self.config.num_codebooks

    @property
    def audio_channels(self) -> int:
        """1, or 2 for stereo models."""
        return self.config.audio_channels

    def generate(
        self,
        descriptions: list[str | None],
        params: GenerationParams,
        *,
        melody: Tensor | Melody | list[Tensor | Melody | None] | None = None,
        melody_sample_rate: int | None = None,
        style: Tensor | list[Tensor] | None = None,
        prompt: Tensor | None = None,
        on_step: OnStep | None = None,
        guard: Guard | None = None,
    ) -> Tensor:
        """Sample codes, one item per description. Item i equals the same request alone with seed + i.

        Args:
            descriptions: one text per item; None or "" samples the item without a description.
            params: length, guidance, sampling, seed and pattern.
            melody: for melody models: audio `[B or 1, C, L]`, or `[C, L]` or `[L]` for all items; or a
                list with one `[C, L]`, `[L]`, `[1, C, L]` or None for each item, or one for all. A :class:`Melody`,
                recorded or written, may stand in the place of a sound.
            melody_sample_rate: samples per second of the melody; the model's rate by default.
            style: for style models: tokens from :meth:`encode_style` for all items, or one for each.
            prompt: codes `[B or 1, K, T0]` to continue; the output begins with them.
            on_step: called with a :class:`StepProgress` after every step; an exception from it cancels.
            guard: for long pieces: judges each window, which may be drawn again; see `DriftGuard`.

        Returns:
            Codes int64 `[B, K, T]` on the CPU, T frames for `params.duration` seconds.

        Raises:
            ValueError: an argument is out of range or does not fit the model.
        """
        _check_descriptions(descriptions)
        batch = len(descriptions)
        request = Request(
            params=params,
            positive=[self.text_encoder.encode(descriptions)],
            batch_size=batch,
            melodies=self._melodies(melody, melody_sample_rate, batch),
            styles=_styles(style, batch),
            prompt=None if prompt is None else as_tensor(prompt, "prompt", "codes int64 [batch, codebooks, frames]"),
        )
        return generate(self.lm, self.config, request, on_step=on_step, device=self.device, guard=guard)

    def with_lora(self, lora: LoRA, strength: float = 1.0) -> MusicGen:
        """Return this model with a LoRA from `read_lora` merged in; `self` does not change, and both share weights."""
        lm, text = merged_lm(self.lm, lora, strength), merged_text_encoder(self.text_encoder, lora, strength)
        return MusicGen(Components(self.config, lm, text, self.codec, self.style), self.device)

    def save(
        self,
        path: str | Path,
        dtype: torch.dtype = torch.float32,
        *,
        on_bytes: Callable[[int, int], None] | None = None,
    ) -> None:
        """Write this model to one `.safetensors` file; see :func:`save_checkpoint`."""
        save_checkpoint(self, path, dtype, on_bytes=on_bytes)

    def encode_style(
        self,
        audio: Tensor,
        sample_rate: int,
        *,
        excerpt_length: float | None = None,
        seed: int | None = None,
        eval_q: int | None = None,
    ) -> Tensor:
        """Encode the style of a recording as tokens; see :meth:`StyleConditioner.encode`.

        Args:
            audio: `[C, L]` or `[L]`.
            sample_rate: samples per second of the audio.
            excerpt_length: seconds to take the style from; the model's default if None.
            seed: chooses the excerpt at random; None takes the middle.
            eval_q: number of codebooks of the quantiser; the model's default if None.

        Returns:
            Tokens `[n, dim]` on the CPU.

        Raises:
            FileNotFoundError: the model's feature model is missing.
            ValueError: the model has no style condition, or an argument is out of range.
        """
        if self.style is None:
            raise ValueError(f"model {self.config.name!r} has no style condition; load a style model.")
        return self.style.encode(audio, sample_rate, excerpt_length=excerpt_length, seed=seed, eval_q=eval_q).cpu()

    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Encode audio `[B, C, L]` with any rate and number of channels to codes `[B, K, T]` on the CPU."""
        return self.codec.encode(audio, sample_rate).cpu()

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes `[B, K, T]` to float32 audio `[B, C, L]` on the CPU, L = T x hop_length."""
        return self.codec.decode(as_tensor(codes, "codes", "int64 [batch, codebooks, frames]")).cpu()

    def _melodies(
        self, melody: Tensor | Melody | Sequence[Tensor | Melody | None] | None, sample_rate: int | None, batch: int
    ) -> list[Melody | None]:
        if melody is None:
            return []
        rate = self.sample_rate if sample_rate is None else sample_rate
        config = self.config.chroma or RELEASED_CHROMA

        def extracted(item: Any) -> Melody | None:
            if item is None or isinstance(item, RecordedMelody | WrittenMelody):
                return item
            sound = as_audio(item, "melody")
            return extract_melody(sound[0] if sound.dim() == 3 and len(sound) == 1 else sound, rate, config)

        if isinstance(melody, list | tuple):
            items = [extracted(item) for item in melody]
        elif isinstance(melody, RecordedMelody | WrittenMelody):
            items = [melody]
        else:
            whole = as_audio(melody, "melody")
            items = [extracted(item) for item in (whole if whole.dim() == 3 else [whole])]
        return items * batch if len(items) == 1 else items


def _check_descriptions(descriptions: object) -> None:
    items = descriptions if isinstance(descriptions, list | tuple) else [descriptions]
    if items is not descriptions or not all(item is None or isinstance(item, str) for item in items):
        raise ValueError(f"descriptions is {shown(descriptions)}; allowed is a list with one str or None per item.")


def _styles(style: Tensor | Sequence[Tensor] | None, batch: int) -> list[Tensor]:
    allowed = "tokens [n, dim] of encode_style, or a list of them"
    if style is None:
        return []
    if isinstance(style, list | tuple):
        return [as_tensor(tokens, "style", allowed) for tokens in style]
    return [as_tensor(style, "style", allowed)] * batch


def load_model(
    path: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    codec_from: str | Path | None = None,
    text_encoder_from: str | Path | None = None,
    search: Sequence[str | Path] = (),
) -> MusicGen:
    """Load a model onto a device.

    Args:
        path: a model in the layout of Hugging Face or audiocraft, or a file of :meth:`MusicGen.save`.
        device: where to put the weights.
        dtype: dtype of the language model: float32, bfloat16, float16, or int8 to round the weights on
            a CPU. None computes in float32, and stores a matrix in float16 if that is exact. The text
            encoder is bfloat16 with bfloat16, else float32; the codec is always float32.
        codec_from: a model to take the codec from.
        text_encoder_from: a model to take the text encoder from.
        search: folders to search for parts that the model lacks; see :func:`load_components`.

    Raises:
        FileNotFoundError: a file is missing; the message names it.
        ImportError: a package is missing or broken.
        ValueError: a file is damaged or is no model; the message names the file and the fault.
    """
    components = load_components(
        path,
        dtype=dtype,
        text_dtype=torch.bfloat16 if dtype == torch.bfloat16 else torch.float32,
        device=device,
        codec_from=codec_from,
        text_encoder_from=text_encoder_from,
        search=search,
    )
    return MusicGen(components, torch.device(device))
