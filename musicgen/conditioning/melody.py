"""Convert a melody to one-hot chroma: the loudest pitch class of each frame.

Section 3.3 of Copet et al. 2023. A chromagram folds a power spectrogram onto the twelve pitch
classes (row 0 = C). Only the largest entry of each frame is kept, so that the model gets the tune
but not the recording. This module does not separate sources; give it the melody's own stem.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio import as_audio, check_audio, convert_channels, resample
from ..config import RELEASED_CHROMA, ChromaConfig
from ..environment import imported, torch_defaults
from ..free_memory import told_shortage
from ..lm.language_model import LMModel

_LOWEST_A = 27.5


class Tune(Protocol):
    """A melody as a function of time, for the chroma of any model."""

    @property
    def seconds(self) -> float:
        """Length in seconds, after which it begins again."""
        ...

    def rows(self, times: Tensor, config: ChromaConfig) -> Tensor:
        """Return the chroma `[N, num_chroma]` at times `[N]`, in seconds from 0 to below :attr:`seconds`, float64.

        A row of zeros is silence.
        """
        ...


class Melody(Protocol):
    """A melody in the chroma of one model: :class:`RecordedMelody` from sound, `WrittenMelody` from a tune."""

    @property
    def config(self) -> ChromaConfig:
        """The chroma settings of the model."""
        ...

    @property
    def chroma(self) -> Tensor:
        """The chroma `[F, num_chroma]`, once through."""
        ...

    @property
    def tune(self) -> Tune:
        """The same melody as a function of time."""
        ...

    def for_config(self, config: ChromaConfig) -> Melody:
        """Return the same melody with the chroma of another model's config."""
        ...

    def fitted(self, num_frames: int) -> Tensor:
        """Return the chroma `[num_frames, num_chroma]` from the start on; the melody repeats without end."""
        ...

    def window(self, first_sample: int, num_samples: int, num_frames: int) -> Tensor:
        """Return the chroma `[num_frames, num_chroma]` for a part of a long piece; the melody repeats without end.

        Args:
            first_sample: start of the part, in samples of the config's rate.
            num_samples: length of the part.
            num_frames: frames to return, also where the part is shorter.
        """
        ...


@dataclass(frozen=True)
class RecordedMelody:
    """The melody of a recording: its chroma `[F, 12]`, and the mono waveform `[L]` at the config's sample rate."""

    chroma: Tensor
    waveform: Tensor
    config: ChromaConfig

    @property
    def sample_rate(self) -> int:
        """Samples per second of the waveform."""
        return self.config.sample_rate

    @property
    def seconds(self) -> float:
        """Length of the waveform in seconds."""
        return self.waveform.shape[0] / self.sample_rate

    @property
    def tune(self) -> Tune:
        """The melody itself."""
        return self

    def rows(self, times: Tensor, config: ChromaConfig) -> Tensor:
        """Return the chroma frames `[N, num_chroma]` whose centres are nearest to times `[N]` in seconds."""
        chroma = self.for_config(config).chroma
        frames = torch.round(times * (config.sample_rate / config.hop_length)).long()
        return chroma[frames.clamp(0, len(chroma) - 1)]

    def for_config(self, config: ChromaConfig) -> RecordedMelody:
        """Return the same melody with the chroma of another model's config."""
        return self if config == self.config else extract_melody(self.waveform, self.sample_rate, config)

    def fitted(self, num_frames: int) -> Tensor:
        """Repeat the chroma and cut it to `[num_frames, num_chroma]`."""
        return fit_length(self.chroma, num_frames)

    def window(self, first_sample: int, num_samples: int, num_frames: int) -> Tensor:
        """Return the chroma `[num_frames, num_chroma]` of a part of the waveform, which repeats without end."""
        index = (torch.arange(num_samples) + first_sample) % self.waveform.shape[0]
        return fit_length(chroma_of(self.waveform[index], self.config), num_frames)


@dataclass(frozen=True)
class MelodyLead:
    """The :class:`Lead` of a melody model: a melody's chroma, or the null chroma if `melody` is None.

    part: first sample and number of samples of a window of a long piece; None for a piece of one window.
    """

    config: ChromaConfig
    melody: Melody | None = None
    part: tuple[int, int] | None = None
    acts_alone = False

    @property
    def is_null(self) -> bool:
        """True without a melody."""
        return self.melody is None

    @property
    def size(self) -> int:
        """Number of chroma frames in the prefix."""
        return self.config.chroma_length

    def rows(self, lm: LMModel, device: torch.device) -> Tensor:
        """Project the melody's chroma, repeated or cut, to `[chroma_length, dim]`."""
        if self.melody is None:
            return self.null_rows(lm, device)
        chroma = self.melody.fitted(self.size) if self.part is None else self.melody.window(*self.part, self.size)
        return lm.project_melody(chroma[None].to(device))[0]

    def null_rows(self, lm: LMModel, device: torch.device) -> Tensor:
        """Project the null chroma to `[chroma_length, dim]`."""
        return lm.project_melody(null_chroma(self.config)[None].to(device))[0]

    def during(self, first: int, num_frames: int, frame_rate: int) -> MelodyLead:
        """Return the lead with the melody's part during the window; the melody repeats without end."""
        rate = self.config.sample_rate
        return replace(self, part=(first * rate // frame_rate, num_frames * rate // frame_rate))


def chroma_filter_bank(config: ChromaConfig) -> Tensor:
    """Return weights `[num_chroma, n_fft // 2 + 1]` that fold FFT bins onto pitch classes, float32.

    A Gaussian around each pitch class, one semitone wide, or one bin if bins are wider. Each bin is
    normalised and weighted by a Gaussian over octaves around 880 Hz (Ellis 2007, as in librosa).

    >>> config = ChromaConfig(32000, n_fft=16384, hop_length=4096, num_chroma=12, chroma_length=235)
    >>> bank = chroma_filter_bank(config)
    >>> bank.shape, bank[:, round(440 * 16384 / 32000)].argmax()  # A is row 9
    (torch.Size([12, 8193]), tensor(9))
    """
    n = config.num_chroma
    bins = torch.arange(1, config.n_fft, dtype=torch.float64) * config.sample_rate / config.n_fft
    pitch = n * torch.log2(bins / _LOWEST_A)
    # Bin 0 has no pitch; librosa puts it one and a half octaves below bin 1.
    pitch = torch.cat([pitch[:1] - 1.5 * n, pitch])
    width = torch.cat([(pitch[1:] - pitch[:-1]).clamp_min(1.0), torch.ones(1, dtype=torch.float64)])
    # Distance of each bin from each pitch class in semitones, in the range -6 to 6: [num_chroma, bins].
    half = round(n / 2)
    distance = pitch - torch.arange(n, dtype=torch.float64)[:, None]
    distance = torch.remainder(distance + half + 10 * n, n) - half
    weights = torch.exp(-0.5 * (2 * distance / width) ** 2)
    weights = weights / weights.norm(dim=0, keepdim=True)
    weights = weights * torch.exp(-0.5 * ((pitch / n - 5.0) / 2.0) ** 2)
    # Rotate the rows, so that row 0 is C and not A.
    weights = torch.roll(weights, -3 * (n // 12), dims=0)
    return weights[:, : config.n_fft // 2 + 1].to(torch.float32).contiguous()


def chroma_of(waveform: Tensor, config: ChromaConfig) -> Tensor:
    """Return the chroma `[F, num_chroma]` of a mono waveform `[L]`, F = 1 + L // hop_length.

    Silent frames, which have no loudest pitch class, become C where the chroma is one-hot.

    >>> a440 = torch.sin(2 * torch.pi * 440 * torch.arange(32000) / 32000)
    >>> chroma_of(a440, RELEASED_CHROMA).argmax(dim=1)  # A is entry 9
    tensor([9, 9, 9, 9, 9, 9, 9, 9])
    """
    functional = imported("torchaudio.functional")
    missing = config.n_fft - waveform.shape[0]
    if missing > 0:
        waveform = F.pad(waveform, (missing // 2, missing - missing // 2))
    win_length = config.win_length or config.n_fft
    power = functional.spectrogram(
        waveform,
        pad=0,
        window=torch.hann_window(win_length, device=waveform.device),
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=win_length,
        power=2.0,
        normalized=True,
    )
    raw = chroma_filter_bank(config).to(power.device) @ power
    raw = F.normalize(raw, p=float("inf") if config.norm is None else config.norm, dim=0, eps=1e-6)
    if not config.one_hot:
        return raw.T.to(torch.float32).contiguous()
    return F.one_hot(raw.argmax(dim=0), config.num_chroma).to(torch.float32)


@told_shortage("a melody was encoded")
@torch_defaults()
def extract_melody(audio: Tensor, sample_rate: int, config: ChromaConfig = RELEASED_CHROMA) -> RecordedMelody:
    """Extract the melody of a recording.

    Args:
        audio: `[C, L]`, whose channels are mixed to one, or `[L]`.
        sample_rate: samples per second of the audio, which is resampled to the config's rate.
        config: the chroma settings of the model.

    Raises:
        ValueError: the audio has another shape, or is refused by :func:`check_audio`.
    """
    audio = as_audio(audio, "the melody's audio")
    if audio.dim() == 1:
        audio = audio[None]
    if audio.dim() != 2:
        raise ValueError(f"the melody has shape {list(audio.shape)}; allowed is [channels, samples] or [samples].")
    mono = convert_channels(check_audio(audio[None], sample_rate, "the melody's audio"), 1)[0, 0]
    mono = resample(mono, sample_rate, config.sample_rate).cpu().clone(memory_format=torch.contiguous_format)
    return RecordedMelody(chroma_of(mono, config), mono, config)


def fit_length(chroma: Tensor, num_frames: int) -> Tensor:
    """Repeat chroma `[F, n]` until it has num_frames frames, and cut the rest.

    >>> fit_length(torch.eye(2), 3)
    tensor([[1., 0.],
            [0., 1.],
            [1., 0.]])
    """
    repeats = -(-num_frames // chroma.shape[0])
    return chroma.repeat(repeats, 1)[:num_frames]


def null_chroma(config: ChromaConfig) -> Tensor:
    """Return the null chroma `[chroma_length, num_chroma]`: that of silence, which is C in every frame if one-hot."""
    if not config.one_hot:
        return torch.zeros(config.chroma_length, config.num_chroma)
    frames = torch.zeros(config.chroma_length, dtype=torch.int64)
    return F.one_hot(frames, config.num_chroma).to(torch.float32)
