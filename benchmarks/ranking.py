"""Best of N: how much oftener a piece has the wanted tempo, key and melody once the best of several is kept.

    python benchmarks/ranking.py                         40 descriptions, the best of 4, bundled models
    python benchmarks/ranking.py --descriptions 8 --pieces 2

Theory. Pieces of one description differ in tempo, key and melody by chance. If a share p of them is right, the best
of N is right in a share of 1 - (1 - p)^N at most, with a judge who never errs. The ranking is judged by librosa,
which knows nothing of it: tempo by its onset strength within 4 %, key by a constant-Q chromagram and the profiles of
Krumhansl and Kessler, melody by the cosine of two such chromagrams.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from measuring import ROOT, finish

from musicgen import GenerationParams, load_model
from musicgen.conditioning.melody import extract_melody
from musicgen.evaluation.asked import NOTES, Key
from musicgen.evaluation.batch import Sounds
from musicgen.evaluation.intervals import wilson_interval
from musicgen.evaluation.ranking import Asked, rank_batch

_LEADS = ("flute", "clarinet", "trumpet", "guitar", "bells", "electric piano", "organ", "synth")
_GENRES = ("pop", "rock", "electronic", "jazz", "hip hop", "folk", "funk")
_TEMPI, _TONICS = (75, 83, 94, 107, 125, 150), (0, 2, 4, 5, 7, 9)
# Krumhansl and Kessler 1982: how well each degree of the chromatic scale fits a key.
_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def described(rng: random.Random) -> tuple[str, float, Key]:
    """A description with a tempo and a key that the bundled models know."""
    bpm, key = rng.choice(_TEMPI), (rng.choice(_TONICS), rng.choice(("major", "minor")))
    lead, genre = rng.choice(_LEADS), rng.choice(_GENRES)
    name = f"{NOTES[key[0]].lower()} {key[1]}"
    return f"{genre} with {lead} melody, piano chords, bass and drums, {bpm} bpm, in {name}", bpm, key


def outside_key(wave: np.ndarray, rate: int) -> Key:
    """The key of a wave `[L]` by librosa's chromagram."""
    import librosa

    chroma = librosa.feature.chroma_cqt(y=wave, sr=rate).mean(axis=1)
    keys = [(tonic, mode) for mode in _PROFILES for tonic in range(12)]
    return max(keys, key=lambda key: float(np.corrcoef(chroma, np.roll(_PROFILES[key[1]], key[0]))[0, 1]))


def has_tempo(wave: np.ndarray, rate: int, bpm: float) -> bool:
    """Whether librosa finds a tempo within 4 % in a wave `[L]`."""
    import librosa

    found = float(np.atleast_1d(librosa.feature.tempo(y=wave, sr=rate))[0])
    return abs(found / bpm - 1) <= 0.04


def likeness(wave: np.ndarray, melody: np.ndarray, rate: int) -> float:
    """Mean cosine of librosa's chromagrams of two waves `[L]`."""
    import librosa

    ours, theirs = (librosa.feature.chroma_cqt(y=each, sr=rate) for each in (wave, melody))
    norms = np.linalg.norm(ours, axis=0) * np.linalg.norm(theirs, axis=0)
    return float(((ours * theirs).sum(axis=0) / np.maximum(norms, 1e-9)).mean())


def text_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Tempo and key of the text model's pieces, of all and of the best, by each wish alone and by both."""
    model, rng = load_model(ROOT / "models" / "musicgen-nano"), random.Random(5)
    rate = model.sample_rate
    right: dict[str, list[list[bool]]] = {"tempo": [], "key": [], "tempo and key": []}
    for number in range(options.descriptions):
        text, bpm, key = described(rng)
        params = GenerationParams(duration=options.seconds, seed=100 * number, cfg_coef=2.0)
        codes = model.generate([text] * options.pieces, params)
        audio = model.decode(codes)
        waves = [wave.numpy() for wave in audio[:, 0]]
        tempi = [has_tempo(wave, rate, bpm) for wave in waves]
        keys = [outside_key(wave, rate) == key for wave in waves]
        both = list(map(all, zip(tempi, keys, strict=True)))
        wishes = (Asked(bpm=bpm), Asked(key=key), Asked(bpm=bpm, key=key))
        for values, asked, name in zip((tempi, keys, both), wishes, right, strict=True):
            ranked = rank_batch(Sounds(audio, rate), asked, codes=codes)
            right[name].append([values[item] for item in ranked.order])
    return [_row(name, values) for name, values in right.items()]


def melody_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Likeness to the melody of the melody model's pieces, of all and of the best."""
    model, rng = load_model(ROOT / "models" / "musicgen-nano-melody"), random.Random(6)
    composer = load_model(ROOT / "models" / "musicgen-nano")
    found: list[list[float]] = []
    for number in range(options.descriptions):
        text, _, key = described(rng)
        lead = f"a flute solo, no drums, no bass, in {NOTES[key[0]].lower()} {key[1]}"
        params = GenerationParams(duration=options.seconds, seed=100 * number, cfg_coef=2.0)
        tune = composer.decode(composer.generate([lead], params))
        codes = model.generate([text] * options.pieces, params, melody=tune)
        audio, rate = model.decode(codes), model.sample_rate
        ranked = rank_batch(Sounds(audio, rate), Asked(melodies=[extract_melody(tune[0], rate)]), codes=codes)
        waves = [audio[item, 0].numpy() for item in ranked.order]
        found.append([likeness(wave, tune[0, 0].numpy(), rate) for wave in waves])
    table = np.array(found)
    return [
        {
            "measure": "melody, chroma_cqt cosine",
            "all": float(table.mean()),
            "best": float(table[:, 0].mean()),
            "worst": float(table[:, -1].mean()),
            "most": float(table.max(axis=1).mean()),
        }
    ]


def _row(name: str, values: Sequence[Sequence[bool]]) -> dict[str, Any]:
    table = np.array(values, dtype=float)
    best = table[:, 0]
    return {
        "measure": name,
        "all": float(table.mean()),
        "best": float(best.mean()),
        "interval": wilson_interval(int(best.sum()), len(best)),
        "worst": float(table[:, -1].mean()),
        "most": float(table.max(axis=1).mean()),
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--descriptions", type=int, default=40)
    parser.add_argument("--pieces", type=int, default=4, help="N, the pieces of each description")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [*text_rows(options), *melody_rows(options)]
    print(f"{'measure':<28}{'all':>8}{'best':>8}{'worst':>8}{'at most':>9}")
    for row in rows:
        print(f"{row['measure']:<28}{row['all']:>8.3f}{row['best']:>8.3f}{row['worst']:>8.3f}{row['most']:>9.3f}")
    finish("ranking", rows, descriptions=options.descriptions, pieces=options.pieces, seconds=options.seconds)


if __name__ == "__main__":
    main()
