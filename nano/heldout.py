"""The material of the measures: held-out songs, their reconstructions, and a model's samples of their captions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from musicgen.audio import resample
from musicgen.codec.encodec import EnCodec
from musicgen.generation.params import GenerationParams
from musicgen.model import MusicGen
from musicgen.training.resume import ProgressLog

from .corpus.bank import SAMPLE_RATE
from .corpus.captions import CaptionOdds, Labels
from .corpus.composer import compose, compose_lead, draw_plan
from .corpus.genres import FRAME_RATE
from .corpus.mixing import hummed
from .corpus.notes import SongPlan
from .corpus.songs import Song, make_songs, perform, split_seeds
from .corpus.tunes import TUNES
from .scores import asked_of

BATCH = 16


class Songs:
    """Songs of a part of the corpus: audio and melody `[N, L]` at 16 kHz, labels, and captions that name everything."""

    def __init__(self, split: str, count: int, seconds: float) -> None:
        self._take(list(make_songs(split_seeds(split, count), seconds)))

    def _take(self, songs: list[Song]) -> None:
        self.audio = torch.tensor(np.stack([song.audio for song in songs]))
        self.melody = torch.tensor(np.stack([song.melody for song in songs]))
        self.labels: list[SongPlan] = [song.labels for song in songs]
        odds = CaptionOdds.all_named()
        rngs = [np.random.Generator(np.random.PCG64([song.seed, 1])) for song in songs]
        self.captions = [song.caption(rng, odds) for song, rng in zip(songs, rngs, strict=True)]

    def asked(self) -> list[Labels]:
        """Each song's labels as a request."""
        return [asked_of(plan) for plan in self.labels]


class HeldOutTunes(Songs):
    """The real tunes that no training has seen, `turns` times each with other labels, played or hummed alone."""

    def __init__(self, turns: int, seconds: float) -> None:
        names = [name for name, tune in TUNES.items() if tune.held_out]
        num_samples = round(seconds * SAMPLE_RATE)
        songs = []
        for number, name in enumerate(turns * names):
            seed = split_seeds("test", 1)[0] + number
            rng = np.random.Generator(np.random.PCG64([seed, 4]))
            tune = TUNES[name]
            plan = replace(draw_plan(rng), tune=name, mode=tune.mode, beats=tune.beats, ending=False)
            frames = -(-num_samples * FRAME_RATE // SAMPLE_RATE)
            song = perform(seed, plan, compose(plan, frames, rng), num_samples)
            alone = hummed(compose_lead(plan, frames), num_samples, rng) if number % 2 else song.stems["lead"]
            songs.append(replace(song, melody=alone))
        self._take(songs)


def reconstruct(codec: EnCodec, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Songs `[N, L]` at 16 kHz -> reconstructions `[N, L]` at 16 kHz, and codes `[N, K, T]`."""
    # One by one: several at once do not fit into a processor's cache, and take longer.
    codes = [codec.encode(part[:, None], SAMPLE_RATE).cpu() for part in audio.split(1)]
    heard = [codec.decode(part).mean(dim=1).cpu() for part in codes]
    back = resample(torch.cat(heard), codec.sample_rate, SAMPLE_RATE)
    return back[:, : audio.shape[1]], torch.cat(codes)


def sample(model: MusicGen, songs: Songs, params: GenerationParams) -> tuple[Tensor, Tensor]:
    """Clips `[N, L]` at 16 kHz and codes `[N, K, T]` of the songs' captions, and of their melodies if it takes any.

    Clip i draws from `params.seed + i`.
    """
    pieces, count = [], len(songs.captions)
    progress = ProgressLog(f"sampling {model.config.name}", count)
    for first in range(0, count, BATCH):
        rows = slice(first, first + BATCH)
        melody = songs.melody[rows, None] if model.config.chroma else None
        request = replace(params, seed=params.seed + first)
        pieces.append(model.generate([*songs.captions[rows]], request, melody=melody, melody_sample_rate=SAMPLE_RATE))
        progress.update(min(first + BATCH, count))
    heard = torch.cat([model.decode(part).mean(dim=1) for part in pieces])
    return resample(heard, model.sample_rate, SAMPLE_RATE)[:, : songs.audio.shape[1]], torch.cat(pieces)
