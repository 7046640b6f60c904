"""VGGish (Hershey et al. 2017), the first model that Frechet distances of sounds were taken with (Kilgour et al. 2019).

The published weights under the names of torchvggish 0.1 go into a small module of our own. The spectrogram is
AudioSet's: 16 kHz, windows of 25 ms every 10 ms, 64 mel bands from 125 to 7,500 Hz, patches of 96 frames. The
embedding is the last layer's output before any activation and without principal components, as in the toolkits.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checkpoints.files.weights import read_file
from ...environment import torch_defaults
from .listener import fingerprint_of
from .weights import fill_module

RATE = 16000
FRAMES = 96
_WINDOW, _HOP, _FFT, _BANDS = 400, 160, 512, 64
_LOWEST, _HIGHEST = 125.0, 7500.0
_OFFSET = 0.01
_WIDTHS = (64, 128, 256, 256, 512, 512)
_POOLED_AFTER = (0, 1, 3, 5)
_BATCH = 64


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)


@cache
def mel_matrix() -> Tensor:
    """Return the weights `[257, 64]` of spectrum bins in mel bands: triangles on the mel scale, none at 0 Hz."""
    bins = _mel(torch.linspace(0.0, RATE / 2, _FFT // 2 + 1, dtype=torch.float64))[:, None]
    low, high = (float(_mel(torch.tensor(edge, dtype=torch.float64))) for edge in (_LOWEST, _HIGHEST))
    edges = torch.linspace(low, high, _BANDS + 2, dtype=torch.float64)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rising, falling).clamp_min(0.0)
    weights[0] = 0.0
    return weights


def patches(audio: Tensor) -> Tensor:
    """Return the log-mel patches `[n, 96, 64]` of audio `[L]` at 16 kHz, one after the other; the rest is left out.

    A sound of less than a second is filled up with silence.

    >>> patches(torch.zeros(32000)).shape
    torch.Size([2, 96, 64])
    """
    audio = F.pad(audio.double(), (0, max(0, RATE - len(audio))))
    frames = audio.unfold(0, _WINDOW, _HOP)  # [F, 400]
    window = torch.hann_window(_WINDOW, dtype=torch.float64)
    spectrum = torch.fft.rfft(frames * window, _FFT).abs()
    levels = torch.log(spectrum @ mel_matrix() + _OFFSET)  # [F, 64]
    count = len(levels) // FRAMES
    return levels[: count * FRAMES].view(count, FRAMES, _BANDS).float()


class VggishNetwork(nn.Module):
    """Six convolutions and three linear layers, under the names of torchvggish."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for number, width in enumerate(_WIDTHS):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
            if number in _POOLED_AFTER:
                layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(512 * 4 * 6, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 128)
        )

    def forward(self, levels: Tensor) -> Tensor:
        """Patches `[n, 96, 64]` -> embeddings `[n, 128]`."""
        planes: Tensor = self.features(levels[:, None])  # [n, 512, 6, 4]
        # The weights expect channels last, as TensorFlow lays them out.
        return self.embeddings(planes.permute(0, 2, 3, 1).flatten(1))


class Vggish:
    """VGGish as a listener: 128 numbers for each 0.96 s."""

    name = "vggish"
    sample_rate = RATE
    aliases: tuple[str, ...] = ("vggish",)

    def __init__(self, path: str | Path, *, device: torch.device | str = "cpu") -> None:
        """Read the weights.

        Args:
            path: `vggish-10086976.pth`, or a folder that holds one such file.
            device: where to compute.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged or holds another model.
        """
        file = _file(Path(path))
        self._device = torch.device(device)
        with torch.random.fork_rng(devices=[]), torch_defaults():
            self._model = VggishNetwork()
        fill_module(self._model, read_file(file), file)
        self._model.eval().requires_grad_(False)
        self.fingerprint = fingerprint_of(self._model, {})
        self._model.to(self._device)

    @torch.no_grad()
    @torch_defaults()
    def listen(self, audio: Tensor) -> Tensor:
        """Return the embeddings `[n, 128]` of audio `[L]` at 16 kHz."""
        parts = patches(audio).split(_BATCH)
        return torch.cat([self._model(part.to(self._device)).cpu() for part in parts])


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    found = [each for end in ("*.safetensors", "*.pth", "*.pt") for each in sorted(path.glob(end))]
    if len(found) != 1:
        raise FileNotFoundError(
            f"{path} holds {len(found)} files of weights; put vggish-10086976.pth of torchvggish 0.1 there, alone."
        )
    return found[0]
