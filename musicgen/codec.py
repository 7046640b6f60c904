"""EnCodec: audio to codes and back (Defossez et al. 2022), over the `encodec` package.

Stereo models use the mono codec once per channel and let the codebooks alternate, left before
right, as in section 3.4 of Copet et al. 2023.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from .audio import check_audio, convert_channels, resample
from .config import CodecConfig

_BYTES_PER_SAMPLE = 1600


class EnCodec(nn.Module):
    """The codec of one model. Weight normalisation is folded in, so all weights are plain."""

    def __init__(self, config: CodecConfig, audio_channels: int) -> None:
        super().__init__()
        from encodec.model import EncodecModel
        from encodec.modules import SEANetDecoder, SEANetEncoder
        from encodec.quantization import ResidualVectorQuantizer

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
        self.model = EncodecModel(
            SEANetEncoder(**shared),
            SEANetDecoder(**shared, trim_right_ratio=config.trim_right_ratio),
            ResidualVectorQuantizer(dimension=config.dimension, n_q=config.num_codebooks, bins=config.card),
            target_bandwidths=[],
            sample_rate=config.sample_rate,
            channels=config.channels,
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
        """K, codebooks of all channels together."""
        return self.config.num_codebooks * self.audio_channels

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that tell whether two codecs share their codebooks."""
        codebook: Tensor = self.model.quantizer.vq.layers[0]._codebook.embed
        # Rounded to float16, so that a copy of the file in half precision is still the same codec.
        data = codebook.detach().cpu().to(torch.float16).contiguous().view(torch.uint8).numpy().tobytes()
        return hashlib.sha256(data + repr(self.config).encode()).hexdigest()[:12]

    def memory_required(self, num_samples: int) -> int:
        """Bytes that coding one item of num_samples takes beside the weights, either way.

        The activations of the outermost layers are what counts: measured at the released width
        (64 filters), 1530 bytes a sample and channel to decode and 1200 to encode.
        """
        return _BYTES_PER_SAMPLE * num_samples * self.audio_channels * self.config.n_filters // 64

    @torch.no_grad()
    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        """Audio `[B, C, L]` of any rate and channel count -> codes int64 `[B, K, T]`, T = ceil(L' / hop_length).

        L' counts samples after resampling. Channels other than the model's are averaged, for a
        stereo model into both of its channels.
        """
        audio = check_audio(audio, sample_rate).to(self._device())
        audio = convert_channels(resample(audio, sample_rate, self.sample_rate), self.audio_channels)
        batch, channels, samples = audio.shape
        ((codes, _),) = self.model.encode(audio.reshape(batch * channels, 1, samples))
        per_channel = codes.view(batch, channels, self.config.num_codebooks, codes.shape[-1])
        return per_channel.transpose(1, 2).reshape(batch, self.num_codebooks, codes.shape[-1])

    @torch.no_grad()
    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Codes int `[B, K, T]` -> float32 audio `[B, C, L]`, L = T x hop_length or num_samples if shorter."""
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
        batch, _, frames = codes.shape
        channels = self.audio_channels
        per_channel = codes.to(self._device()).view(batch, self.config.num_codebooks, channels, frames).transpose(1, 2)
        flat = per_channel.reshape(batch * channels, self.config.num_codebooks, frames)
        audio = self.model.decode([(flat, None)]).view(batch, channels, -1)
        return audio[..., :num_samples].to(torch.float32)

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device
