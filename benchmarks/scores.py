"""How well the bundled melody model follows written music: scores, chords, and edits of melodies.

    python benchmarks/scores.py               48 pieces for each row
    python benchmarks/scores.py --pieces 16 --only chords

Theory. A melody model that follows its chroma agrees with it more than with another melody; the rest is chance.
Each row compares pieces with the music that led them and with another one of the same kind. Agreement is the share of
frames in which the piece's loudest pitch class is the score's (audiocraft's chroma cosine of one-hot frames); chord
tones is the share of the piece's chroma on the notes of the chord at each moment. Brackets hold 95 % intervals.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence

import torch
from measuring import ROOT
from torch import Tensor

from musicgen import GenerationParams, MusicGen, load_model
from musicgen.conditioning import WrittenMelody, extract_melody
from musicgen.conditioning.melody import Melody, chroma_of
from musicgen.conditioning.melody_edits import mix, silence, stretch, transpose
from musicgen.conditioning.score_tune import ScoreTune, Taken
from musicgen.evaluation.rhythm import onset_autocorrelation, tempo_found
from musicgen.evaluation.tonality import chromagram, key_of, pitch_classes, share_in_key
from musicgen.generation.generate import generate
from musicgen.generation.request import Request
from musicgen.notation import read_abc, read_chords, read_notes
from musicgen.notation.keys import read_key
from musicgen.notation.wording import with_tempo_and_key

MODEL = ROOT / "models" / "musicgen-nano-melody"
TEXT_MODEL = ROOT / "models" / "musicgen-nano"
SECONDS = 6.0
BATCH = 16
BEATS = 8.0
KEYS = {"C": "C D E F G A B", "G": "G A B C5 D5 E5 F#5", "F": "F G A Bb C5 D5 E5", "D": "D E F# G A B C#5"}
LEADS = ("flute", "trumpet", "organ", "synth", "electric piano", "clarinet")
PROGRESSIONS = (
    "C | G | Am | F",
    "Am | F | C | G",
    "C | F | G | C",
    "Dm | G | C | Am",
    "F | G | Em | Am",
    "Am | Dm | G | C",
)
ROWS = ("notes", "recording", "chords", "transposed", "edits", "words")
TEMPI = (75, 83, 94, 107, 125, 150)
KNOWN_KEYS = tuple(f"{letter} {mode}" for letter in "CDEFGA" for mode in ("major", "minor"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=ROWS, help="one kind of rows")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bench = Bench(load_model(MODEL), args.pieces)
    print(f"{args.pieces} pieces of {SECONDS:g} s each, guidance 2")
    print("| measure | with | without |")
    print("|---|---|---|")
    for name in [args.only] if args.only else ROWS:
        getattr(bench, name)()


class Bench:
    """The model and the music that leads it."""

    def __init__(self, model: MusicGen, pieces: int) -> None:
        self.model, self.pieces = model, pieces
        config = model.config.chroma
        assert config is not None
        self.config = config
        rng = random.Random(5)
        self.tunes = [random_tune(rng) for _ in range(pieces)]
        self.texts = [f"pop with {rng.choice(LEADS)} melody, no bass, no drums" for _ in range(pieces)]

    def written(self, tune: ScoreTune) -> WrittenMelody:
        """A tune in the model's chroma."""
        return WrittenMelody(tune, self.config)

    def sampled(self, melodies: Sequence[Melody], texts: Sequence[str] | None = None) -> Tensor:
        """Pieces `[N, L]`, the first of seed 0."""
        texts = self.texts if texts is None else texts
        parts = []
        for first in range(0, self.pieces, BATCH):
            rows = range(first, min(first + BATCH, self.pieces))
            params = GenerationParams(duration=SECONDS, seed=first, cfg_coef=2.0)
            condition = self.model.text_encoder.encode([texts[row] for row in rows])
            request = Request(
                params=params, positive=[condition], batch_size=len(rows), melodies=[melodies[row] for row in rows]
            )
            codes = generate(self.model.lm, self.model.config, request)
            parts.append(self.model.decode(codes)[:, 0])
        return torch.cat(parts)

    def agreement(self, pieces: Tensor, melodies: Sequence[Melody], part: slice = slice(None)) -> Tensor:
        """The share of frames with the same pitch class, for each piece."""
        frames = int(SECONDS * self.config.sample_rate / self.config.hop_length)
        found = torch.stack([chroma_of(piece, self.config)[:frames] for piece in pieces])
        led = torch.stack([melody.fitted(frames) for melody in melodies])
        return (found.argmax(2) == led.argmax(2)).float()[:, part].mean(dim=1)

    def notes(self) -> None:
        """Notes as ABC."""
        melodies = [self.written(ScoreTune(read_abc(abc))) for _, abc in self.tunes]
        pieces = self.sampled(melodies)
        told("ABC: agreement", self.agreement(pieces, melodies), self.agreement(pieces, turned(melodies)))

    def recording(self) -> None:
        """The same notes, played by sines and recorded."""
        melodies = [extract_melody(played(notes, self.config.sample_rate), self.config.sample_rate, self.config)
                    for notes, _ in self.tunes]  # fmt: skip
        pieces = self.sampled(melodies)
        own = self.agreement(pieces, [self.written(ScoreTune(read_abc(abc))) for _, abc in self.tunes])
        told("the same notes as a recording: agreement with the score", own, self.agreement(pieces, turned(melodies)))

    def chords(self) -> None:
        """Chords, each way of taking their notes."""
        scores = [read_chords(PROGRESSIONS[row % len(PROGRESSIONS)], 100.0) for row in range(self.pieces)]
        texts = [f"pop with {LEADS[row % 6]} melody, no bass, no drums, in c major" for row in range(self.pieces)]
        tones = [self.written(ScoreTune(score, "chords", taken="all")) for score in scores]
        ways: tuple[Taken, ...] = ("lowest", "in turn", "all")
        for way in ways:
            led = [self.written(ScoreTune(score, "chords", taken=way)) for score in scores]
            pieces = self.sampled(led, texts)
            told(f"chords, {way}: chord tones", self.on(pieces, tones), self.on(pieces, turned(tones)))

    def on(self, pieces: Tensor, chords: Sequence[Melody]) -> Tensor:
        """The share of each piece's chroma on the notes of the chord at each moment."""
        energy = chromagram(pieces, self.model.sample_rate)  # [N, F, 12]
        hop = SECONDS / energy.shape[1]
        shares = []
        for piece, melody in zip(energy, chords, strict=True):
            frames = (torch.arange(len(piece)) * hop * self.config.sample_rate / self.config.hop_length).long()
            mask = melody.fitted(int(frames.max()) + 1)[frames]
            shares.append((piece * mask).sum() / piece.sum().clamp_min(1e-9))
        return torch.stack(shares)

    def transposed(self) -> None:
        """A tune in C, moved up."""
        rng = random.Random(9)
        plain = [self.written(ScoreTune(read_notes(random_notes(rng, KEYS["C"].split()), 100.0))) for _ in self.tunes]
        for steps in (2, 5, 7):
            moved = [transpose(melody, steps) for melody in plain]
            pieces = self.sampled(moved)
            told(f"transposed by {steps}: agreement", self.agreement(pieces, moved), self.agreement(pieces, plain))
            profile = pitch_classes(pieces, self.model.sample_rate)
            own, old = (share_in_key(profile, [key] * self.pieces, ["major"] * self.pieces) for key in (steps, 0))
            told(f"transposed by {steps}: energy in the new key, and in the old one", own, old)

    def edits(self) -> None:
        """Stretched, half from another melody, and silent in the middle."""
        plain = [self.written(ScoreTune(read_abc(abc))) for _, abc in self.tunes]
        slow = [stretch(melody, 1.5) for melody in plain]
        pieces = self.sampled(slow)
        told("stretched by 1.5: agreement, and with the unstretched one",
             self.agreement(pieces, slow), self.agreement(pieces, plain))  # fmt: skip
        half = plain[0].tune.seconds / 2
        both = [mix(one, other, 1.0, half) for one, other in zip(plain, turned(plain), strict=True)]
        pieces = self.sampled(both)
        frame = int(half * self.config.sample_rate / self.config.hop_length)
        for name, melodies, part in (
            ("first", plain, slice(0, frame)),
            ("second", turned(plain), slice(frame, 2 * frame)),
        ):
            other = turned(plain) if melodies is plain else plain
            told(f"{name} half from the {name} melody: agreement there",
                 self.agreement(pieces, melodies, part), self.agreement(pieces, other, part))  # fmt: skip
        quiet = [silence(melody, half / 2, half) for melody in plain]
        pieces = self.sampled(quiet)
        part = slice(frame // 2, frame)
        told("silent range: agreement with the melody outside of it, and inside",
             self.agreement(pieces, plain, slice(frame, 2 * frame)), self.agreement(pieces, plain, part))  # fmt: skip

    def words(self) -> None:
        """Tempo and key of the text model's pieces, with the words for both and without."""
        model, rng = load_model(TEXT_MODEL), random.Random(11)
        asked = [(rng.choice(TEMPI), rng.choice(KNOWN_KEYS)) for _ in range(self.pieces)]
        leads = [f"pop with {rng.choice(LEADS)} melody, piano chords, bass and drums" for _ in asked]
        found = []
        for named in (True, False):
            texts = [with_tempo_and_key(lead, bpm, key) if named else lead
                     for lead, (bpm, key) in zip(leads, asked, strict=True)]  # fmt: skip
            pieces = []
            for first in range(0, self.pieces, BATCH):
                part: list[str | None] = [*texts[first : first + BATCH]]
                params = GenerationParams(duration=SECONDS, seed=first, cfg_coef=2.0)
                pieces.append(model.decode(model.generate(part, params))[:, 0])
            found.append(torch.cat(pieces))
        rate = model.sample_rate
        tempi, keys = ([judge(pieces, rate, asked) for pieces in found] for judge in (kept_tempo, kept_key))
        told("tempo kept within 4 %, with its words and without", *tempi)
        told("key kept, with its words and without", *keys)


def kept_tempo(pieces: Tensor, rate: int, asked: Sequence[tuple[int, str]]) -> Tensor:
    """Whether each piece `[N, L]` has the tempo that was asked: `[N]`, 1 or 0."""
    found = tempo_found(onset_autocorrelation(pieces, rate))
    return ((found / torch.tensor([float(bpm) for bpm, _ in asked]) - 1).abs() <= 0.04).float()


def kept_key(pieces: Tensor, rate: int, asked: Sequence[tuple[int, str]]) -> Tensor:
    """Whether each piece `[N, L]` has the key that was asked: `[N]`, 1 or 0."""
    pairs = zip(key_of(pieces, rate), asked, strict=True)
    return torch.tensor([float(found == read_key(key)) for found, (_, key) in pairs])


def random_notes(rng: random.Random, scale: Sequence[str]) -> str:
    """Two bars of notes in steps and small leaps."""
    place, words, beats = rng.randrange(len(scale)), [], 0.0
    while beats < BEATS:
        length = rng.choice((0.5, 1.0, 1.0, 2.0)) if beats < BEATS - 2 else BEATS - beats
        words.append(f"{scale[place]}:{length:g}")
        place = min(max(place + rng.choice((-2, -1, -1, 1, 1, 2)), 0), len(scale) - 1)
        beats += length
    return " ".join(words)


def random_tune(rng: random.Random) -> tuple[str, str]:
    """The same tune as notes and as ABC, at 100 beats per minute."""
    notes = random_notes(rng, KEYS[rng.choice(sorted(KEYS))].split())
    signs = {"#": "^", "b": "_"}
    words = []
    for word in notes.split():
        name, _, beats = word.partition(":")
        letter = name[0].lower() if name.endswith("5") else name[0]
        words.append(f"{signs.get(name[1:2], '=')}{letter}{int(float(beats) * 2)}")
    return notes, "X:1\nM:4/4\nL:1/8\nQ:1/4=100\nK:C\n" + " ".join(words)


def played(notes: str, rate: int) -> Tensor:
    """Notes as decaying sines `[L]`."""
    score = read_notes(notes, 100.0)
    sound = torch.zeros(int(score.seconds * rate))
    for note in score.voices[0].notes:
        time = torch.arange(int((note.end - note.start) * rate)) / rate
        start = int(note.start * rate)
        sound[start : start + len(time)] += (
            0.3 * torch.exp(-time) * torch.sin(2 * torch.pi * 440 * 2 ** ((note.pitch - 69) / 12) * time)
        )
    return sound


def turned(items: Sequence[Melody]) -> list[Melody]:
    """Each item's neighbour."""
    return [*items[1:], items[0]]


def told(name: str, own: Tensor, other: Tensor) -> None:
    """Print a row."""
    print(f"| {name} | {interval(own)} | {interval(other)} |", flush=True)


def interval(values: Tensor) -> str:
    """The mean, and its 95 % interval by 1000 resamplings."""
    generator = torch.Generator().manual_seed(0)
    draws = values[torch.randint(len(values), (1000, len(values)), generator=generator)].mean(dim=1).sort().values
    return f"{float(values.mean()):.2f} ({float(draws[25]):.2f} to {float(draws[975]):.2f})"


if __name__ == "__main__":
    main()
