"""EnCodec: encode audio to codes and decode them (Defossez et al. 2022), with the `encodec` package.

Stereo models apply the mono codec to each channel and interleave the codebooks, left before right,
as in section 3.4 of Copet et al. 2023.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..audio import check_audio, convert_channels, downmix, resample
from ..config import CodecConfig
from ..environment import imported, torch_defaults
from ..free_memory import told_shortage
from .channels_last import over_rows
from .chunked import Rolling, reach, recurrent, windows

OnProgress = Callable[[int, int], None]
"""Called after each chunk with the number of frames done and of all frames; an exception from it ends the work."""

_CHUNK_SECONDS = 2.0
_RECURRENT_FRAMES = 1500

_BYTES_PER_SAMPLE = 1600


class EnCodec(nn.Module):
    """The codec of one model. Weight normalisation is folded into the weights."""

    def __init__(self, config: CodecConfig, audio_channels: int) -> None:
        super().__init__()
        SEANetDecoder, SEANetEncoder = imported("encodec.modules", "SEANetDecoder", "SEANetEncoder")
        (ResidualVectorQuantizer,) = imported("encodec.quantization", "ResidualVectorQuantizer")

        shared: dict[str, Any] = {
            "channels": config.channels,
            "dimension": config.dimension,
            "n_filters": config.n_filters,
            "n_residual_layers": config.n_residual_layers,
            "ratios": list(config.ratios),
            "norm": "none",
            "kernel_size": config.kernel_size,
            "last_kernel_size": config.last_kernel_size,
            "residual_kernel_size": config.residual_kernel_size,
            "dilation_base": config.dilation_base,
            "causal": config.causal,
            "pad_mode": config.pad_mode,
            "true_skip": config.true_skip,
            "compress": config.compress,
            "lstm": config.lstm,
        }
        self.config = config
        self.audio_channels = audio_channels
        self.model = _Networks(
            SEANetEncoder(**shared),
            SEANetDecoder(**shared, trim_right_ratio=config.trim_right_ratio),
            ResidualVectorQuantizer(dimension=config.dimension, n_q=config.num_codebooks, bins=config.card),
        )

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.config.sample_rate

    @property
    def frame_rate(self) -> int:
        """Frames of codes per second."""
        return self.config.frame_rate

    @property
    def num_codebooks(self) -> int:
        """K, the number of codebooks of all channels together."""
        return self.config.num_codebooks * self.audio_channels

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits, equal for codecs that share their codebooks."""
        codebook: Tensor = self.model.quantizer.vq.layers[0]._codebook.embed
        # Round to float16, so that a copy of the checkpoint in half precision has the same fingerprint.
        data = codebook.detach().cpu().to(torch.float16).contiguous().view(torch.uint8).numpy().tobytes()
        return hashlib.sha256(data + repr(self.config).encode()).hexdigest()[:12]

    @torch.no_grad()
    def neutral_codes(self) -> Tensor:
        """Return the code of each codebook that adds least to the sound, the entry nearest to zero: int64 `[K]`."""
        norms = [layer._codebook.embed.norm(dim=1) for layer in self.model.quantizer.vq.layers]
        return torch.stack([norm.argmin() for norm in norms]).cpu().repeat_interleave(self.audio_channels)

    def memory_required(self, num_samples: int) -> int:
        """Estimate the most bytes that encoding or decoding one item of num_samples takes besides the weights.

        The sum counts a chunk's activations, reordered weights of one of the two networks, and the audio
        itself. At the released width (64 filters) it is about 0.2 GB from two seconds on, plus 8 bytes
        per sample and channel.
        """
        chunk = min(num_samples, self._chunk() * self.config.hop_length)
        activations = _BYTES_PER_SAMPLE * chunk * self.config.n_filters // 64
        weights = max(_bytes(self.model.encoder), _bytes(self.model.decoder))
        return weights + self.audio_channels * (activations + 8 * num_samples)

    @torch.no_grad()
    @told_shortage("sound was encoded")
    @torch_defaults()
    def encode(
        self, audio: Tensor, sample_rate: int, *, on_progress: OnProgress | None = None, whole: bool = False
    ) -> Tensor:
        """Encode audio to codes.

        Args:
            audio: `[B, C, L]`; a number of channels other than the model's is mixed, see
                :func:`convert_channels`.
            sample_rate: samples per second of the audio, which is resampled to the codec's rate.
            on_progress: called after each chunk.
            whole: encode in one pass over everything, the slow twin.

        Returns:
            Codes int64 `[B, K, T]`, T = ceil(L' / hop_length) for L' samples after resampling.

        Raises:
            ValueError: the audio is refused by :func:`check_audio`.
        """
        # Resample before moving to the device, since it takes several times the memory of the recording.
        audio = resample(downmix(check_audio(audio, sample_rate)), sample_rate, self.sample_rate)
        audio = convert_channels(audio, self.audio_channels).to(self._device())
        batch, channels, samples = audio.shape
        # The codec is mono: every channel is an item of its own.
        flat = audio.reshape(batch * channels, 1, samples)
        codes = self.model.encode(flat) if whole else self._encode(flat, on_progress)
        # [B, C, K / C, T] -> [B, K / C, C, T] -> [B, K, T]: left and right alternate.
        per_channel = codes.view(batch, channels, self.config.num_codebooks, codes.shape[-1])
        return per_channel.transpose(1, 2).reshape(batch, self.num_codebooks, codes.shape[-1])

    @torch.no_grad()
    @torch_defaults()
    def states(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Encode audio to the states before the quantiser, in mono whatever the model's channels are.

        Args:
            audio: `[B, C, L]`, whose channels are mixed to one.
            sample_rate: samples per second of the audio, which is resampled to the codec's rate.

        Returns:
            `[B, dimension, T]`.

        Raises:
            ValueError: the audio is refused by :func:`check_audio`.
        """
        audio = convert_channels(resample(downmix(check_audio(audio, sample_rate)), sample_rate, self.sample_rate), 1)
        return torch.cat(list(self._states(audio.to(self._device()), None)), dim=2)

    def _encode(self, audio: Tensor, on_progress: OnProgress | None) -> Tensor:
        """Encode audio `[B, 1, L]` to codes `[B, K, T]`, chunk by chunk."""
        return torch.cat([self.model.quantize(piece) for piece in self._states(audio, on_progress)], dim=2)

    def _states(self, audio: Tensor, on_progress: OnProgress | None) -> Iterator[Tensor]:
        """Yield the states of audio `[B, 1, L]`, piece by piece along the frames."""
        hop, chunk = self.config.hop_length, self._chunk()
        frames = -(-audio.shape[2] // hop)
        outer, lstm, inner = split_at_lstm(self.model.encoder.model)
        context = reach(outer, hop, 1)
        pieces = windows(outer, lambda low, high: audio[..., low * hop : high * hop], frames, chunk, context)
        pieces = _watched(pieces, frames, on_progress)
        if lstm is not None:
            pieces = recurrent(lstm, Rolling(pieces).pieces(frames, _RECURRENT_FRAMES))
        yield from windows(inner, Rolling(pieces), frames, _RECURRENT_FRAMES, reach(inner))

    @torch.no_grad()
    @told_shortage("codes were decoded")
    @torch_defaults()
    def decode(
        self,
        codes: Tensor,
        num_samples: int | None = None,
        *,
        on_progress: OnProgress | None = None,
        whole: bool = False,
    ) -> Tensor:
        """Decode codes to audio.

        Args:
            codes: int `[B, K, T]`.
            num_samples: length to cut the audio to, if it is longer.
            on_progress: called after each chunk.
            whole: decode in one pass over everything, the slow twin.

        Returns:
            float32 audio `[B, C, L]`, L = T x hop_length or num_samples if that is less.

        Raises:
            ValueError: the codes have another shape or type, or are out of the codebooks' range.
        """
        self._check_codes(codes)
        batch, _, frames = codes.shape
        channels = self.audio_channels
        # The codec is mono: [B, K, T] -> [B, K / C, C, T] -> [B, C, K / C, T] -> [B x C, K / C, T]
        per_channel = codes.to(self._device()).view(batch, self.config.num_codebooks, channels, frames).transpose(1, 2)
        flat = per_channel.reshape(batch * channels, self.config.num_codebooks, frames)
        samples = frames * self.config.hop_length
        samples = samples if num_samples is None else min(samples, num_samples)
        audio = self.model.decode(flat) if whole else self._decode(flat, samples, on_progress)
        return audio[..., :samples].to(torch.float32).view(batch, channels, -1)

    def _check_codes(self, codes: Tensor) -> None:
        if codes.dim() != 3 or codes.shape[1] != self.num_codebooks or codes.shape[0] == 0 or codes.shape[2] == 0:
            raise ValueError(
                f"codes have shape {list(codes.shape)}; this codec needs [B, {self.num_codebooks}, T] with at least "
                f"one frame ({self.audio_channels} channel(s) of {self.config.num_codebooks} codebooks)."
            )
        if codes.is_floating_point() or codes.is_complex():
            raise ValueError(f"codes are of type {codes.dtype}; allowed are whole numbers, such as torch.int64.")
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.config.card:
            raise ValueError(
                f"codes run from {low} to {high}; this codec's codebooks have 0 to {self.config.card - 1}."
            )

    def _decode(self, codes: Tensor, samples: int, on_progress: OnProgress | None) -> Tensor:
        """Decode codes `[B, K, T]` to the first `samples` samples of audio `[B, 1, L]`, chunk by chunk."""
        frames, hop = codes.shape[2], self.config.hop_length
        inner, lstm, outer = split_at_lstm(self.model.decoder.model)
        pieces = windows(inner, self._quantized(codes), frames, _RECURRENT_FRAMES, reach(inner))
        if lstm is not None:
            pieces = recurrent(lstm, pieces)
        layers = each_over_rows(outer) if codes.device.type == "cpu" else outer
        chunks = windows(layers, Rolling(pieces), frames, self._chunk(), reach(outer, 1, hop), hop)
        audio = torch.empty(codes.shape[0], 1, samples, device=codes.device)
        start = 0
        for piece in _watched(chunks, frames, on_progress, hop):
            stop = min(start + piece.shape[2], samples)
            audio[..., start:stop] = piece[..., : stop - start]
            start = stop
        return audio

    def _quantized(self, codes: Tensor) -> Callable[[int, int], Tensor]:
        per_codebook = codes.transpose(0, 1)
        return lambda low, high: self.model.quantizer.decode(per_codebook[..., low:high])

    def _chunk(self) -> int:
        return max(1, round(_CHUNK_SECONDS * self.frame_rate))

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


class _Networks(nn.Module):
    """The networks of the `encodec` package, for any number of codes in a codebook.

    The package's own `EncodecModel` counts in bits per second, so it takes powers of two alone.
    """

    def __init__(self, encoder: Any, decoder: Any, quantizer: Any) -> None:
        super().__init__()
        self.encoder, self.decoder, self.quantizer = encoder, decoder, quantizer

    def quantize(self, states: Tensor) -> Tensor:
        """States `[B, C, T]` -> codes `[B, K, T]`."""
        codes: Tensor = self.quantizer.vq.encode(states, n_q=self.quantizer.n_q)
        return codes.transpose(0, 1)

    def encode(self, audio: Tensor) -> Tensor:
        """Audio `[B, 1, L]` -> codes `[B, K, T]`, in one pass."""
        return self.quantize(self.encoder(audio))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes `[B, K, T]` -> audio `[B, 1, L]`, in one pass."""
        audio: Tensor = self.decoder(self.quantizer.decode(codes.transpose(0, 1)))
        return audio


def _bytes(module: nn.Module) -> int:
    return sum(weight.nbytes for weight in module.parameters())


def split_at_lstm(layers: nn.Sequential) -> tuple[nn.Sequential, Any, nn.Sequential]:
    """Return the layers before a SEANet's LSTM, the LSTM or None, and the layers after it."""
    stack = list(layers)
    kinds = [type(layer).__name__ for layer in stack]
    if "SLSTM" in kinds:
        before, after = kinds.index("SLSTM"), kinds.index("SLSTM") + 1
    else:
        # Split where an LSTM would be: after the decoder's first convolution, before the encoder's last layers.
        before = after = 1 if "SConvTranspose1d" in kinds else len(kinds) - 2
    return nn.Sequential(*stack[:before]), (stack[before] if after > before else None), nn.Sequential(*stack[after:])


def each_over_rows(layers: nn.Sequential) -> Callable[[Tensor], Tensor]:
    """Return a function that runs the layers on `[B, C, T]`, one item at a time, on copies that they may overwrite."""
    run = over_rows(layers)
    return lambda states: torch.stack(
        [run(item.t().clone(memory_format=torch.contiguous_format)).t() for item in states]
    )


def _watched(
    pieces: Iterator[Tensor], total: int, on_progress: OnProgress | None, samples: int = 1
) -> Iterator[Tensor]:
    """Yield the same pieces and report the number of frames done with each; samples: samples per frame."""
    done = 0
    for piece in pieces:
        done += piece.shape[-1] // samples
        if on_progress is not None:
            on_progress(done, total)
        yield piece
