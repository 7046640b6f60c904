"""Notes become sound: pieces of the bank's notes, each with a fade at its end, added up."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .bank import SAMPLE_RATE, Bank
from .genres import FRAME_RATE
from .instruments import BASSES, CHORDS, GAINS, LEADS, Voice
from .notes import Note

HOP = SAMPLE_RATE // FRAME_RATE
_VOICES: dict[str, dict[str, Voice]] = {"lead": LEADS, "chords": CHORDS, "bass": BASSES}
_MARGIN = 5 * SAMPLE_RATE


@lru_cache(maxsize=64)
def _fade(num_samples: int) -> np.ndarray:
    return (0.5 + 0.5 * np.cos(np.pi * (np.arange(num_samples) + 0.5) / num_samples)).astype(np.float32)


def mix_stem(bank: Bank, stem: str, voice: str | None, notes: list[Note], num_samples: int) -> np.ndarray:
    """Sound `[num_samples]` float32 of one stem's notes by a voice, or by a drum kit. Notes are cut at the end."""
    out = np.zeros(num_samples + _MARGIN, dtype=np.float32)
    gain = np.float32(GAINS[stem])
    if voice is None:
        return out[:num_samples]
    fade = _fade(round(_VOICES[stem][voice].release * SAMPLE_RATE)) if stem != "drums" else None
    for note in notes:
        start = note.start * HOP
        if fade is None:
            hit = bank.hit(voice, str(note.pitch))
            out[start : start + len(hit)] += gain * hit
            continue
        wave = bank.note(voice, int(note.pitch))
        held = min(note.frames * HOP, len(wave) - len(fade))
        out[start : start + held] += gain * wave[:held]
        out[start + held : start + held + len(fade)] += gain * wave[held : held + len(fade)] * fade
    return out[:num_samples]


def hummed(notes: list[Note], num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """The notes as a voice hums them `[num_samples]` float32: a few partials, slides between notes, and vibrato."""
    pitch = np.zeros(num_samples, dtype=np.float64)
    level = np.zeros(num_samples, dtype=np.float64)
    octave = 12 * int(rng.integers(-1, 1))
    held = 60.0
    ordered = sorted(notes, key=lambda note: note.start)
    for note in ordered:
        start, end = note.start * HOP, min((note.start + note.frames) * HOP, num_samples)
        if start >= num_samples:
            break
        held = float(note.pitch) + octave
        pitch[start:] = held
        level[start : max(end - HOP // 2, start)] = 1.0
    pitch[: ordered[0].start * HOP if ordered else num_samples] = float(ordered[0].pitch) + octave if ordered else held
    slide = round(rng.uniform(0.01, 0.05) * SAMPLE_RATE)
    pitch, level = _smooth(pitch, slide), _smooth(level, round(0.03 * SAMPLE_RATE))
    t = np.arange(num_samples) / SAMPLE_RATE
    pitch = pitch + rng.uniform(0, 0.35) * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * t) + rng.uniform(-0.2, 0.2)
    phase = 2 * np.pi * np.cumsum(440.0 * 2 ** ((pitch - 69) / 12)) / SAMPLE_RATE
    partials = (1.0, rng.uniform(0.1, 0.6), rng.uniform(0, 0.3))
    tone = sum(weight * np.sin((n + 1) * phase) for n, weight in enumerate(partials))
    return (0.1 * level * tone).astype(np.float32)


def _smooth(signal: np.ndarray, width: int) -> np.ndarray:
    """A moving average, as long as the signal; the ends are held."""
    width = max(width, 1)
    padded = np.concatenate([np.full(width // 2, signal[0]), signal, np.full(width - width // 2, signal[-1])])
    total = np.concatenate([[0.0], np.cumsum(padded)])
    return ((total[width:] - total[:-width]) / width)[: len(signal)]
