"""The pattern study: the same small model trained once per codebook pattern, and judged on held-out captions.

`python -m nano.study --work FOLDER` renders songs, trains a codec, trains every
pattern and seed that has no result yet, and prints one table. It is the ablation of Copet et al.
2023 (section 4.3, table 5) in miniature: same size, same data, same number of clips seen; only the
order of the codes differs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from musicgen.config import LMConfig
from musicgen.evaluation.frechet import frechet_distance
from musicgen.generation.params import GenerationParams
from musicgen.generation.patterns import named_pattern
from musicgen.model import load_model
from musicgen.training.codec import CodecRecipe
from musicgen.training.resume import write_atomically

from . import recipes
from . import scores as score
from .corpus.bank import SAMPLE_RATE
from .corpus.captions import read_caption, vocabulary
from .export import export_model
from .heldout import Songs, sample
from .lm import LMTraining, judge_lm, train_lm
from .lm_recipe import LMRecipe
from .probes import load_probe
from .train import Workshop
from .vocabulary import Vocabulary

STUDIED = ("delay", "parallel", "partial_delay", "partial_flatten", "coarse_first", "flatten")


def _recipe() -> LMRecipe:
    return LMRecipe(steps=1000, phases=((1.0, 200, 6),), text_first=(300, 48), induction=False)


def _plan() -> recipes.Plan:
    return replace(recipes.NANO, songs=1250, codec_songs=1250, codec_recipe=CodecRecipe(steps=1500))


@dataclass(frozen=True)
class Study:
    """The size of one training and of its examination. The codec is the study's own, and trained more briefly than
    the shipped one."""

    dim: int = 64
    layers: int = 3
    heads: int = 2
    frames: int = 200
    recipe: LMRecipe = field(default_factory=_recipe)
    clips: int = 128
    plan: recipes.Plan = field(default_factory=_plan)

    def lm(self) -> LMConfig:
        """The language model, the same for every pattern."""
        full = self.plan.lms["text"]
        return replace(full, dim=self.dim, num_layers=self.layers, num_heads=self.heads, ffn_dim=4 * self.dim)


MINIATURE = Study(
    dim=32,
    layers=2,
    frames=200,
    recipe=replace(recipes.MINIATURE.lm_recipes["text"][0], steps=6, phases=((1.0, 50, 2),), induction=False),
    clips=4,
    plan=recipes.MINIATURE,
)


def steps_per_second(pattern: str, frames: int, frame_rate: int = 50) -> float:
    """Passes of the language model for a second of audio, in a clip of so many frames."""
    return named_pattern(pattern, frames, (0, 1, 2, 3)).num_steps * frame_rate / frames


def run(shop: Workshop, study: Study, pattern: str, seed: int) -> dict[str, Any]:
    """Train and examine one model; files of an earlier run are read and not made again."""
    folder = shop.folder / "patterns"
    path = folder / f"{pattern}-{seed}.json"
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    words = Vocabulary(vocabulary())
    recipe = replace(study.recipe, patterns=((pattern, 1.0),), seed=seed)
    training = LMTraining(study.lm(), study.plan.text, recipe, shop.tokens("train"), words, shop.device)
    held_out = shop.tokens("valid").cut(study.recipe.phases[-1][1])
    began = time.monotonic()
    train_lm(training, folder / f"{pattern}-{seed}.pt", held_out, judge_every=10**9)
    result: dict[str, Any] = {"pattern": pattern, "seed": seed, "seconds": round(time.monotonic() - began)}
    result["held_out"] = judge_lm(training, held_out, count=128)
    result["steps_per_second"] = steps_per_second(pattern, study.frames)
    result["figures"] = _examine(shop, study, training, words, pattern)
    write_atomically(path, lambda file: file.write(json.dumps(result, indent=1).encode()))
    return result


def _examine(
    shop: Workshop, study: Study, training: LMTraining, words: Vocabulary, pattern: str
) -> dict[str, tuple[float, tuple[float, float] | None]]:
    """Sample held-out captions, and measure."""
    seconds = study.frames / 50
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / f"{pattern}"
        export_model(folder, training.model.cpu(), shop.codec().codec.cpu(), words, seconds=seconds)
        model = load_model(folder)
    probe, songs = load_probe(), Songs("test", study.clips, seconds)
    reference = score.hear(Songs("valid", study.clips, seconds).audio, SAMPLE_RATE, probe)
    audio, _ = sample(model, songs, GenerationParams(duration=seconds, pattern=pattern))
    heard = score.hear(audio, SAMPLE_RATE, probe)
    figures = score.score_requests(heard, [read_caption(caption) for caption in songs.captions])
    distance = frechet_distance(heard.embeddings, reference.embeddings)
    return {**{f.name: (f.value, f.interval) for f in figures}, "Frechet distance": (distance, None)}


COLUMNS = {
    "Frechet distance": "Frechet distance",
    "drums": "drums present or not",
    "bass": "bass present or not",
    "lead, of 16": "lead instrument, of 16",
    "pulse": "pulse where drums were asked",
    "energy in key": "energy in key",
}


def table(results: list[dict[str, Any]]) -> str:
    """One row per pattern: means over its seeds, with the spread from the least to the greatest."""
    head = ["pattern", "seeds", "steps for 1 s", "held-out loss by codebook", "sum", *COLUMNS, "training, s"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for pattern in dict.fromkeys(result["pattern"] for result in results):
        own = [result for result in results if result["pattern"] == pattern]
        books = [statistics.mean(values) for values in zip(*(result["held_out"] for result in own), strict=True)]
        row = [pattern, str(len(own)), f"{own[0]['steps_per_second']:.0f}", " ".join(f"{book:.2f}" for book in books)]
        row.append(_spread([sum(result["held_out"]) for result in own]))
        row += [_spread([result["figures"][name][0] for result in own]) for name in COLUMNS.values()]
        row.append(f"{statistics.mean(result['seconds'] for result in own):.0f}")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    digits = 0 if max(values) >= 20 else 2
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m nano.study", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for songs, checkpoints and results (1 GB)")
    parser.add_argument("--patterns", nargs="+", choices=STUDIED, default=list(STUDIED))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1, help="processor threads of this process")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--miniature", action="store_true", help="everything tiny")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    study = MINIATURE if options.miniature else Study()
    shop = Workshop(options.work, study.plan, options.device, 0)
    results = [run(shop, study, pattern, seed) for seed in options.seeds for pattern in options.patterns]
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
