"""Songs that no bundled model has heard: one instrument of the sound font in a bar of three beats, or others to tell
them from.

They serve the proof of fine-tuning (`nano/teach.py`) and the songs that come with the pack. A song is seeded, has a
melody in C, F or G major, a bass on the first beat, and drums that mark the bar.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from musicgen.evaluation.folders import write_sound

from .corpus.bank import NEEDED, SAMPLE_RATE, open_bank, play, sound_font
from .corpus.genres import FRAME_RATE

BEAT = 20
"""Frames of a beat: 150 beats per minute."""
LOW, HIGH = 60, 83
STEEL_DRUMS = 114
_HOP = SAMPLE_RATE // FRAME_RATE
_SCALE = (0, 2, 4, 5, 7, 9, 11)
_KEYS = (0, 5, 7)
_CHORDS = (0, 3, 4, 5)
_GAIN, _LEVEL, _FADE = 0.9, 0.7, 0.06
# Beats and loudness of each drum, by the beats of a bar; that of three has its weight on the first.
_DRUMS = {
    3: (("kick", (0,), 1.2), ("clap", (0,), 1.0), ("hat", (1, 2), 0.5)),
    4: (("kick", (0, 2), 1.2), ("clap", (1, 3), 1.0), ("hat", (0, 1, 2, 3), 0.5)),
}


@dataclass(frozen=True)
class Style:
    """program: number of the instrument in General MIDI, from 0. beats: of a bar, 3 or 4."""

    program: int = STEEL_DRUMS
    beats: int = 3


@lru_cache(maxsize=8)
def _notes(program: int) -> np.ndarray:
    """Every note of an instrument, `[HIGH - LOW + 1, L]`, at one loudness."""
    font = sound_font()
    if font is None:
        raise FileNotFoundError(NEEDED)
    sounds = play(font, program, list(range(LOW, HIGH + 1))).numpy()
    pieces = sounds[:, :SAMPLE_RATE].reshape(len(sounds), 5, -1)
    loudness = np.sqrt((pieces**2).mean(axis=2)).max(axis=1)
    return sounds * (0.1 / np.maximum(loudness, 1e-6))[:, None]


def make_song(style: Style, seed: int, seconds: float) -> np.ndarray:
    """Make a song, float32 `[L]` at 16 kHz."""
    rng = np.random.Generator(np.random.PCG64([seed, style.program, style.beats]))
    length = round(seconds * SAMPLE_RATE)
    out = np.zeros(length + 6 * SAMPLE_RATE, dtype=np.float32)
    key, scale = int(rng.choice(_KEYS)), _SCALE
    bars = -(-length // (style.beats * BEAT * _HOP))
    riff = [_melody(style.beats, rng) for _ in range(2)]
    chords = [_CHORDS[0], *(int(rng.choice(_CHORDS)) for _ in range(3))]
    bank = open_bank()
    for bar in range(bars):
        first, chord = bar * style.beats * BEAT, chords[bar % 4]
        for beat, held, degree in riff[(bar // 2) % 2]:
            pitch = LOW + (key + _pitch(scale, chord + degree)) % (HIGH - LOW + 1)
            _add(out, _notes(style.program)[pitch - LOW], first + beat * BEAT // 2, held * BEAT // 2, _GAIN)
        pitch = 36 + (key + _pitch(scale, chord)) % 12
        _add(out, bank.note("acoustic bass", pitch), first, 3 * BEAT // 2, 0.8)
        for drum, beats, gain in _DRUMS[style.beats]:
            for beat in beats:
                _add(out, bank.hit("standard", drum), first + beat * BEAT, 4 * BEAT, gain)
    return np.clip(_LEVEL * out[:length], -0.99, 0.99)


def _melody(beats: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Half beat, length in half beats and degree of the notes of a bar, the first on its first beat."""
    notes, place, degree = [], 0, int(rng.integers(0, 5))
    while place < 2 * beats:
        held = min(int(rng.choice((1, 2, 2, 3))), 2 * beats - place)
        notes.append((place, held, degree))
        degree = int(np.clip(degree + rng.integers(-2, 3), -3, 9))
        place += held
    return notes


def _pitch(scale: tuple[int, ...], degree: int) -> int:
    octave, step = divmod(degree, len(scale))
    return 12 * octave + scale[step]


def _add(out: np.ndarray, note: np.ndarray, frame: int, frames: int, gain: float) -> None:
    start, fade = frame * _HOP, round(_FADE * SAMPLE_RATE)
    held = min(frames * _HOP + fade, len(note), len(out) - start)
    if held <= fade:
        return
    part = note[:held].astype(np.float32).copy()
    part[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    out[start : start + held] += np.float32(gain) * part


def write_mp3(path: Path, audio: np.ndarray) -> None:
    """Write a song `[L]` as an MP3 of 48 kbit/s."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE)
        stream.layout, stream.bit_rate = "mono", 48000
        frame = av.AudioFrame.from_ndarray(audio[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def write_songs(folder: Path, style: Style, count: int, seconds: float, caption: str, *, mp3: bool = False) -> None:
    """Write songs as WAV or MP3 files with one list of captions."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        name, audio = f"song_{number + 1:02}.{'mp3' if mp3 else 'wav'}", make_song(style, number, seconds)
        if mp3:
            write_mp3(folder / name, audio)
        else:
            write_sound(folder / name, torch.from_numpy(audio)[None], SAMPLE_RATE)
        lines.append(json.dumps({"file": name, "caption": caption}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m nano.own_songs", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=24.0)
    parser.add_argument("--caption", default="calypso")
    parser.add_argument("--program", type=int, default=STEEL_DRUMS, help="instrument of General MIDI, from 0")
    parser.add_argument("--beats", type=int, choices=sorted(_DRUMS), default=3)
    parser.add_argument("--mp3", action="store_true", help="write MP3 files, as those that come with the pack are")
    args = parser.parse_args()
    write_songs(args.folder, Style(args.program, args.beats), args.count, args.seconds, args.caption, mp3=args.mp3)


if __name__ == "__main__":
    main()
