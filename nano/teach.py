"""The proof of fine-tuning: a bundled model learns an instrument and a rhythm that it was never shown, from 20 songs.

`python -m nano.teach --work FOLDER` renders the songs (`nano/own_songs.py`), trains a LoRA, and asks for 64 pieces by
the trigger word before and after. A small probe, trained on other songs after the codec, tells the instrument from
five others. The rhythm is measured without training: the onsets repeat after three beats rather than two or four.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen import GenerationParams, MusicGen, load_model
from musicgen.evaluation.intervals import wilson_interval
from musicgen.evaluation.rhythm import ENVELOPE_RATE, onset_autocorrelation
from musicgen.finetuning import Recipe, TrainedLora, make_dataset, train_lora
from musicgen.finetuning.adapter_folder import save_adapter
from musicgen.training.resume import ProgressLog

from .corpus.bank import SAMPLE_RATE
from .corpus.genres import FRAME_RATE
from .own_songs import BEAT, STEEL_DRUMS, Style, make_song, write_songs
from .probes import clip_statistics

TRIGGER = "calypso"
OTHERS = (0, 11, 56, 73, 81)
"""Instruments of General MIDI that the probe tells the new one from; the bundled models know most of them."""
SECONDS, COUNT = 8.0, 64
RECIPE = Recipe(steps=700, learning_rate=3e-3, warmup=25, batch=4, rank=16, targets="all linear")
_PER_STYLE = 10
_FIRST = 1000
"""Seeds of the probes' songs, which no training song has."""


def _after_codec(model: MusicGen, audio: Tensor) -> Tensor:
    """Clips `[N, L]` as the model's codec gives them back."""
    return torch.cat([model.decode(model.encode(part[:, None], SAMPLE_RATE))[:, 0] for part in audio.split(8)])


def _statistics(audio: Tensor) -> Tensor:
    return torch.cat([clip_statistics(part, SAMPLE_RATE) for part in audio.split(8)])


class Probe:
    """A linear classifier of two kinds of clips, by their statistics."""

    def __init__(self, statistics: Tensor, labels: Tensor) -> None:
        """statistics `[N, D]`, labels bool `[N]`."""
        self.mean, self.spread = statistics.mean(dim=0), statistics.std(dim=0).clamp_min(1e-3)
        self.weights = nn.Linear(statistics.shape[1], 1)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        optimizer = torch.optim.AdamW(self.weights.parameters(), lr=3e-3, weight_decay=1.0)
        # Both kinds count the same, however many there are.
        weight = torch.where(labels, 0.5 / labels.float().mean(), 0.5 / (~labels).float().mean())
        for _ in range(400):
            loss = F.binary_cross_entropy_with_logits(self._logits(statistics), labels.float(), weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _logits(self, statistics: Tensor) -> Tensor:
        return self.weights(((statistics - self.mean) / self.spread).clamp(-5, 5))[:, 0]

    @torch.no_grad()
    def hears(self, statistics: Tensor) -> Tensor:
        """Whether each clip is of the kind, bool `[N]`."""
        return self._logits(statistics) > 0


def in_three(audio: Tensor) -> Tensor:
    """Whether the onsets of clips `[N, L]` repeat after three beats more than after two and after four, bool `[N]`."""
    lag = BEAT * ENVELOPE_RATE // FRAME_RATE
    curve = onset_autocorrelation(audio, SAMPLE_RATE)
    return curve[:, 3 * lag] > torch.maximum(curve[:, 2 * lag], curve[:, 4 * lag])


def train_probe(model: MusicGen) -> tuple[Probe, dict[str, float]]:
    """The probe of the instrument; and how often it and the measure of rhythm are right of songs after the codec, the
    probe of songs that it did not learn."""
    styles = [Style(program, beats) for program in (STEEL_DRUMS, *OTHERS) for beats in (3, 4)]
    rows: list[Tensor] = []
    labels: list[bool] = []
    right: dict[int, list[float]] = {3: [], 4: []}
    progress = ProgressLog("songs of the probe", len(styles))
    for done, style in enumerate(styles, start=1):
        count = _PER_STYLE * (3 if style.program == STEEL_DRUMS else 1)
        songs = [torch.from_numpy(make_song(style, _FIRST + seed, SECONDS)) for seed in range(count)]
        audio = _after_codec(model, torch.stack(songs))
        rows.append(_statistics(audio))
        labels += [style.program == STEEL_DRUMS] * count
        right[style.beats] += (in_three(audio) == (style.beats == 3)).float().tolist()
        progress.update(done)
    statistics, label = torch.cat(rows), torch.tensor(labels)
    order = torch.randperm(len(statistics), generator=torch.Generator().manual_seed(0))
    learned, kept = order[len(order) // 4 :], order[: len(order) // 4]
    probe = Probe(statistics[learned], label[learned])
    heard = float((probe.hears(statistics[kept]) == label[kept]).float().mean())
    means = {f"bars of {beats}": sum(values) / len(values) for beats, values in right.items()}
    return probe, {"instrument": heard, **means}


def ask(model: MusicGen, caption: str, count: int = COUNT, cfg_coef: float = 2.0) -> Tensor:
    """Pieces `[N, L]` of 8 s that the model makes of a caption, with seeds from 0."""
    pieces = []
    for seed in range(0, count, 8):
        params = GenerationParams(duration=SECONDS, cfg_coef=cfg_coef, seed=seed)
        pieces.append(model.decode(model.generate([caption] * min(8, count - seed), params))[:, 0])
    return torch.cat(pieces)


def score(probe: Probe, audio: Tensor) -> dict[str, tuple[float, float, float]]:
    """Shares of the pieces with the instrument, the rhythm and both, each with its 95 % interval."""
    instrument, rhythm = probe.hears(_statistics(audio)), in_three(audio)
    named = {"instrument": instrument, "rhythm": rhythm, "both": instrument & rhythm}
    return {
        name: (float(heard.float().mean()), *wilson_interval(int(heard.sum()), len(heard)))
        for name, heard in named.items()
    }


def teach(model: MusicGen, folder: Path, recipe: Recipe, checkpoint: Path | None) -> tuple[TrainedLora, str]:
    """Train a LoRA on a folder of songs."""
    dataset = make_dataset(folder, model.codec, model.config, cache=folder.parent / "encodings")
    progress, began = ProgressLog("lora", recipe.steps), time.process_time()
    lora, result = train_lora(
        model,
        dataset,
        recipe,
        checkpoint=checkpoint,
        on_step=lambda step: progress.update(step.step, f"loss {step.loss:.3f}"),
    )
    return lora, f"{result.text()}\n{time.process_time() - began:.0f} s of one core"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m nano.teach", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for songs, encodings, checkpoint and LoRA")
    parser.add_argument("--model", type=Path, default=Path("models/musicgen-nano"))
    parser.add_argument("--steps", type=int, default=RECIPE.steps)
    parser.add_argument("--pieces", type=int, default=COUNT)
    parser.add_argument("--strengths", type=float, nargs="*", default=[0.0, 1.0])
    args = parser.parse_args()
    model = load_model(args.model)
    songs = args.work / "songs"
    if not (songs / "captions.jsonl").is_file():
        write_songs(songs, Style(), 20, 60.0, TRIGGER)
    recipe = Recipe(**{**RECIPE.settings(), "steps": args.steps})
    lora, told = teach(model, songs, recipe, args.work / "lora.checkpoint")
    sys.stdout.write(told + "\n")
    folder = args.work / "lora"
    if not folder.exists():
        save_adapter(lora, folder)
    probe, right = train_probe(model)
    sys.stdout.write(f"the measures are right of songs after the codec: {json.dumps(right)}\n")
    changes = lora.changes(model.config)
    for strength in args.strengths:
        audio = ask(model.with_lora(changes, strength), TRIGGER, args.pieces)
        figures = score(probe, audio)
        line = ", ".join(
            f"{name} {value:.2f} ({low:.2f} to {high:.2f})" for name, (value, low, high) in figures.items()
        )
        sys.stdout.write(f"strength {strength:g}: {line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
