"""Probes: a small network that hears which instruments, tempo, key and genre a clip of the corpus has.

It looks at statistics of the clip, not at the clip, and is trained on songs whose labels are
known: on the songs themselves, or on a codec's reconstructions of them. A probe knows our synthesiser
and nothing else, so its scores say nothing about other music. Its hidden layer doubles as an
embedding for the Frechet distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen.audio import resample
from musicgen.evaluation.rhythm import log_mel, onset_autocorrelation
from musicgen.evaluation.tonality import pitch_classes

from .corpus.genres import DRUM_PATTERNS, GENRES, TEMPI
from .corpus.instruments import CHORDS, KITS, LEADS
from .corpus.notes import SongPlan

PROBE_RATE = 16000
SHIPPED_PROBE = Path(__file__).parent / "probe.safetensors"
ATTRIBUTES: dict[str, tuple[object, ...]] = {
    "drums": (False, True),
    "bass": (False, True),
    "lead": tuple(LEADS),
    "chords": tuple(CHORDS),
    "kit": tuple(KITS),
    "drum_pattern": tuple(DRUM_PATTERNS),
    "genre": tuple(GENRES),
    "tempo_bpm": tuple(TEMPI.values()),
    "key": tuple((key, mode) for key in range(12) for mode in ("major", "minor")),
}
"""Attributes that a probe tells, and the answers it chooses from."""
_MELS, _GROUPS, _MODULATIONS, _LAGS = 64, 8, 24, 150
_STATISTICS = 7 * _MELS + _GROUPS * _MODULATIONS + _LAGS
_PROFILES = 2 * 12
_HIDDEN = 160


def clip_statistics(audio: Tensor, sample_rate: int) -> Tensor:
    """Statistics of audio `[B, L]` of at least 4 s: `[B, 790 + 24]`.

    Per mel band: mean, spread, deciles 1, 5 and 9, mean rise and spread of change. For groups of
    bands how they swing at up to 16 Hz, for the onsets their autocorrelation up to 3 s, and the
    share of pitch classes in the whole and in the first 1.5 s.
    """
    if audio.shape[-1] < 4 * sample_rate:
        raise ValueError(f"clips have {audio.shape[-1] / sample_rate:.1f} s; a probe needs at least 4 s.")
    audio = resample(audio, sample_rate, PROBE_RATE)
    mel = log_mel(audio, PROBE_RATE, _MELS)
    change = mel[..., 2:] - mel[..., :-2]
    deciles = torch.quantile(mel, torch.tensor([0.1, 0.5, 0.9]), dim=-1)
    grouped = mel.unflatten(1, (_GROUPS, _MELS // _GROUPS)).mean(dim=2)
    # Blocks of 1.28 s: bins of the transform are 0.78 Hz apart.
    blocks = grouped.unfold(-1, 128, 64)
    blocks = (blocks - blocks.mean(dim=-1, keepdim=True)) * torch.hann_window(128)
    swings = torch.fft.rfft(blocks).abs().mean(dim=2)[..., 1 : _MODULATIONS + 1]
    curve = onset_autocorrelation(audio, PROBE_RATE)[..., : 2 * _LAGS : 2]
    parts = [mel.mean(dim=-1), mel.std(dim=-1), *deciles, change.clamp_min(0).mean(dim=-1), change.std(dim=-1)]
    start = audio[..., : round(1.5 * PROBE_RATE)]
    profiles = [pitch_classes(part, PROBE_RATE).sqrt() for part in (audio, start)]
    return torch.cat([*parts, torch.log(swings + 0.1).flatten(1), curve, *profiles], dim=1)


class Probe(nn.Module):
    """Statistics in, one choice per attribute out: a hidden layer, and a linear head for each.

    The key has a head of its own, that sees the pitch classes from each possible home.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(_STATISTICS))
        self.register_buffer("spread", torch.ones(_STATISTICS))
        self.hidden = nn.Linear(_STATISTICS, _HIDDEN)
        heads = {name: nn.Linear(_HIDDEN, len(values)) for name, values in ATTRIBUTES.items() if name != "key"}
        self.heads = nn.ModuleDict(heads)
        self.home = nn.Sequential(nn.Linear(_PROFILES, 32), nn.GELU(), nn.Linear(32, 2))
        self.dropout = 0.0

    def embed(self, statistics: Tensor) -> Tensor:
        """Embedding `[B, 160]` of clips, from their statistics."""
        usual = (statistics[:, :_STATISTICS] - self.mean) / self.spread
        usual = F.dropout(usual.clamp(-5, 5), self.dropout, self.training)
        return F.gelu(self.hidden(usual))

    def forward(self, statistics: Tensor) -> dict[str, Tensor]:
        """Logits `[B, answers]` of every attribute."""
        hidden = F.dropout(self.embed(statistics), self.dropout, self.training)
        logits = {name: head(hidden) for name, head in self.heads.items()}
        profiles = statistics[:, _STATISTICS:].unflatten(1, (2, 12))
        homes = torch.stack([profiles.roll(-key, dims=-1).flatten(1) for key in range(12)], dim=1)
        logits["key"] = self.home(homes).flatten(1)
        return logits

    @torch.no_grad()
    def answers(self, statistics: Tensor) -> dict[str, list[object]]:
        """The likeliest value of every attribute for each clip."""
        return {
            name: [ATTRIBUTES[name][index] for index in logits.argmax(dim=-1).tolist()]
            for name, logits in self(statistics).items()
        }


def true_answer(plan: SongPlan, attribute: str) -> object:
    """The right answer for a song; None where there is none, as for the pattern of no drums."""
    return (plan.key, plan.mode) if attribute == "key" else getattr(plan, attribute)


def train_probe(
    statistics: Tensor, labels: Sequence[SongPlan], *, seed: int = 0, steps: int = 3000, batch: int = 128
) -> Probe:
    """Train a probe on clips' statistics `[N, D]` and the labels of their songs; the same seed, the same probe."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = Probe()
        probe.mean.copy_(statistics[:, :_STATISTICS].mean(dim=0))
        probe.spread.copy_(statistics[:, :_STATISTICS].std(dim=0).clamp_min(1e-3))
        probe.dropout = 0.2
        targets = {name: torch.tensor([_index(plan, name) for plan in labels]) for name in ATTRIBUTES}
        optimizer = torch.optim.AdamW(probe.parameters(), lr=2e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
        for _ in range(steps):
            rows = torch.randint(len(labels), (batch,))
            logits = probe(statistics[rows])
            losses = [F.cross_entropy(logits[name], target[rows], ignore_index=-1) for name, target in targets.items()]
            optimizer.zero_grad()
            torch.stack([loss for loss in losses if loss.isfinite()]).sum().backward()
            optimizer.step()
            schedule.step()
    return probe.eval()


def _index(plan: SongPlan, attribute: str) -> int:
    answer = true_answer(plan, attribute)
    return -1 if answer is None else ATTRIBUTES[attribute].index(answer)


def save_probe(probe: Probe, path: Path) -> None:
    """Write a probe in half precision."""
    from safetensors.torch import save_file

    save_file({name: tensor.half().contiguous() for name, tensor in probe.state_dict().items()}, path)


def load_probe(path: Path = SHIPPED_PROBE) -> Probe:
    """Read a probe; by default the shipped one."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"there is no probe at {path}; train one with python -m nano.measure train-probe.")
    probe = Probe()
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    expected = {name: tensor.shape for name, tensor in probe.state_dict().items()}
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise ValueError(f"{path} holds another kind of probe; train it anew.")
    probe.load_state_dict(tensors)
    return probe.eval()
