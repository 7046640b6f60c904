"""The synthesiser: notes become sound. Additive and FM voices and noise drums in numpy.

A voice is rendered once per key, long and unreleased, and kept; a note is a piece of it with a
fade. Voices differ below 3 kHz, in spectrum, attack, decay, vibrato and breath, so that a small
codec keeps them apart. Noise comes from fixed seeds: the same note is the same samples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from .composer import FRAME_RATE, Note

Wave = np.ndarray
_VOICE_SECONDS = 3.5
_HIT_SECONDS = 0.3
# Loudness of a voice: RMS of its loudest 0.2 s.
_NOTE_RMS = 0.1
_GAINS = {"lead": 1.0, "chords": 0.22, "bass": 0.9, "drums": 0.8}
# Seconds that a note sounds on after its end.
_RELEASE = {"pad": 0.1, "piano": 0.06, "bells": 0.1, "guitar": 0.05}


def _noise(seed: int, num_samples: int, low: float, high: float, rate: int) -> Wave:
    """Noise of RMS 1 between two frequencies."""
    size = 1 << (num_samples - 1).bit_length()
    spectrum = np.fft.rfft(np.random.Generator(np.random.PCG64(seed)).standard_normal(size))
    frequencies = np.fft.rfftfreq(size, 1 / rate)
    spectrum[(frequencies < low) | (frequencies > high)] = 0
    noise = np.fft.irfft(spectrum, size)[:num_samples]
    return noise / np.sqrt(np.mean(noise**2))


def _partials(phase: Wave, hertz: float, rate: int, ratios: list[float], amplitudes: list[float | Wave]) -> Wave:
    """Sum of sines at multiples of a phase in cycles; those above 0.45 of the rate are left out."""
    total = np.zeros_like(phase)
    for ratio, amplitude in zip(ratios, amplitudes, strict=True):
        if ratio * hertz < 0.45 * rate:
            total += amplitude * np.sin(2 * np.pi * ratio * phase)
    return total


def _attack(t: Wave, seconds: float) -> Wave:
    return np.clip(t / seconds, 0, 1)


def _flute(hertz: float, t: Wave, rate: int) -> Wave:
    """Almost a sine, that swells and trembles, with breath."""
    tone = _partials(hertz * t, hertz, rate, [1, 2], [1, 0.12])
    tremble = 1 - 0.35 * np.clip((t - 0.1) / 0.2, 0, 1) * (1 - np.cos(2 * np.pi * 5.0 * t)) / 2
    return (tone * tremble + 0.03 * _noise(1, len(t), 1200, 3500, rate)) * _attack(t, 0.06)


def _clarinet(hertz: float, t: Wave, rate: int) -> Wave:
    """Odd partials only, steady."""
    ratios = [1.0, 3.0, 5.0, 7.0]
    return _partials(hertz * t, hertz, rate, ratios, [n**-0.9 for n in ratios]) * _attack(t, 0.03)


def _trumpet(hertz: float, t: Wave, rate: int) -> Wave:
    """A saw that swells and opens slowly."""
    ratios = [float(n) for n in range(1, 7)]
    closed = 0.1 + 0.9 * np.exp(-t / 0.07)
    amplitudes: list[float | Wave] = [n**-0.3 * np.exp(-closed * (n - 1)) for n in ratios]
    return _partials(hertz * t, hertz, rate, ratios, amplitudes) * _attack(t, 0.08)


def _plucked(hertz: float, t: Wave, rate: int, *, place: float, seconds: float, dull: float) -> Wave:
    """A string plucked at `place`: upper partials die first."""
    ratios = [float(n) for n in range(1, 9)]
    amplitudes: list[float | Wave] = [
        abs(np.sin(np.pi * n * place)) / n**dull * np.exp(-t * (1 + 0.3 * (n - 1)) / seconds) for n in ratios
    ]
    return _partials(hertz * t, hertz, rate, ratios, amplitudes) * _attack(t, 0.003)


def _guitar(hertz: float, t: Wave, rate: int) -> Wave:
    """A dry twang."""
    return _plucked(hertz, t, rate, place=0.14, seconds=0.28, dull=0.6)


def _bells(hertz: float, t: Wave, rate: int) -> Wave:
    """Inharmonic partials, ringing on."""
    amplitudes: list[float | Wave] = [level * np.exp(-t / seconds) for level, seconds in ((1, 0.5), (0.35, 0.25))]
    return _partials(hertz * t, hertz, rate, [1.0, 2.76], amplitudes) * _attack(t, 0.002)


def _electric_piano(hertz: float, t: Wave, rate: int) -> Wave:
    """FM with a fading index and a deep tremolo."""
    index = 0.3 + 1.2 * np.exp(-t / 0.2)
    tone = np.sin(2 * np.pi * hertz * t + index * np.sin(2 * np.pi * hertz * t))
    tremolo = 1 - 0.7 * (1 - np.cos(2 * np.pi * 6.25 * t)) / 2
    return tone * tremolo * np.exp(-t / 0.9) * _attack(t, 0.004)


def _organ(hertz: float, t: Wave, rate: int) -> Wave:
    """Drawbars, at once and without decay."""
    bars: list[float | Wave] = [0.8, 1, 0.6, 0.4]
    return _partials(hertz * t, hertz, rate, [0.5, 1, 1.5, 2], bars) * _attack(t, 0.008)


def _synth(hertz: float, t: Wave, rate: int) -> Wave:
    """A saw cut by a fast tremolo."""
    ratios = [float(n) for n in range(1, 6)]
    gate = 0.55 + 0.45 * np.clip(3 * np.cos(2 * np.pi * 12.5 * t), -1, 1)
    return _partials(hertz * t, hertz, rate, ratios, [n**-0.8 for n in ratios]) * gate * _attack(t, 0.005)


def _pad(hertz: float, t: Wave, rate: int) -> Wave:
    """A dull saw, slow."""
    ratios = [1.0, 2.0, 3.0]
    return _partials(hertz * t, hertz, rate, ratios, [n**-1.8 for n in ratios]) * _attack(t, 0.08)


def _piano(hertz: float, t: Wave, rate: int) -> Wave:
    """Struck strings."""
    return _plucked(hertz, t, rate, place=0.25, seconds=0.8, dull=1.0)


def _bass_guitar(hertz: float, t: Wave, rate: int) -> Wave:
    """A plucked, round bass."""
    return _plucked(hertz, t, rate, place=0.3, seconds=0.9, dull=1.4)


def _synth_bass(hertz: float, t: Wave, rate: int) -> Wave:
    """A steady saw through a closing filter."""
    ratios = [float(n) for n in range(1, 9)]
    closed = 0.5 - 0.3 * np.exp(-t / 0.15)
    amplitudes: list[float | Wave] = [np.exp(-closed * (n - 1)) / n**0.5 for n in ratios]
    return _partials(hertz * t, hertz, rate, ratios, amplitudes) * _attack(t, 0.004)


_VOICES: dict[str, Callable[[float, Wave, int], Wave]] = {
    "flute": _flute,
    "clarinet": _clarinet,
    "trumpet": _trumpet,
    "guitar": _guitar,
    "bells": _bells,
    "electric piano": _electric_piano,
    "organ": _organ,
    "synth": _synth,
    "pad": _pad,
    "piano": _piano,
    "bass guitar": _bass_guitar,
    "synth bass": _synth_bass,
}


def _kick(t: Wave, rate: int, soft: float = 1.0) -> Wave:
    phase = 48 * t + 4.0 * (1 - np.exp(-t / 0.03))
    return soft * 0.75 * np.sin(2 * np.pi * phase) * np.exp(-t / 0.07) * _attack(t, 0.001)


def _snare(t: Wave, rate: int) -> Wave:
    rattle = 0.17 * _noise(2, len(t), 800, 6000, rate) * np.exp(-t / 0.05)
    return rattle + 0.25 * np.sin(2 * np.pi * 190 * t) * np.exp(-t / 0.04)


def _hiss(t: Wave, rate: int, seed: int, band: tuple[float, float], level: float, seconds: float) -> Wave:
    return level * _noise(seed, len(t), *band, rate) * np.exp(-t / seconds)


_DRUMS: dict[str, Callable[[Wave, int], Wave]] = {
    "kick": _kick,
    "soft kick": lambda t, rate: _kick(t, rate, 0.7),
    "snare": _snare,
    "clap": lambda t, rate: _hiss(t, rate, 3, (900, 2500), 0.24, 0.05),
    "rim": lambda t, rate: 0.35 * np.sin(2 * np.pi * 1600 * t) * np.exp(-t / 0.012),
    "hat": lambda t, rate: _hiss(t, rate, 4, (4500, 7500), 0.09, 0.02),
    "open hat": lambda t, rate: _hiss(t, rate, 5, (4000, 7500), 0.09, 0.07),
    "shaker": lambda t, rate: _hiss(t, rate, 6, (3000, 6500), 0.09, 0.03),
}


@lru_cache(maxsize=1024)
def render_voice(name: str, pitch: int, rate: int) -> Wave:
    """A held note of a voice, float32, of equal loudness for all voices and keys."""
    t = np.arange(int(_VOICE_SECONDS * rate)) / rate
    wave = _VOICES[name](440.0 * 2 ** ((pitch - 69) / 12), t, rate)
    loudest = np.sqrt(np.mean(wave[: int(0.2 * rate)] ** 2))
    held = np.sqrt(np.mean(wave[int(0.2 * rate) : int(0.4 * rate)] ** 2))
    return (wave * (_NOTE_RMS / max(loudest, held))).astype(np.float32)


@lru_cache(maxsize=64)
def render_drum(name: str, rate: int) -> Wave:
    """One hit of a drum, float32."""
    t = np.arange(int(_HIT_SECONDS * rate)) / rate
    end = np.clip((_HIT_SECONDS - t) / 0.02, 0, 1)
    return (_DRUMS[name](t, rate) * end).astype(np.float32)


@lru_cache(maxsize=64)
def _fade(num_samples: int) -> Wave:
    return (0.5 + 0.5 * np.cos(np.pi * (np.arange(num_samples) + 0.5) / num_samples)).astype(np.float32)


def render_stem(stem: str, voice: str | None, notes: list[Note], num_samples: int, rate: int) -> Wave:
    """Sound `[num_samples]` float32 of one stem's notes; drums need no voice. Notes are cut at the end."""
    hop = rate // FRAME_RATE
    fade = _fade(int(_RELEASE.get(voice or "", 0.04) * rate))
    out = np.zeros(num_samples + int((_VOICE_SECONDS + 1) * rate), dtype=np.float32)
    gain = np.float32(_GAINS[stem])
    for note in notes:
        start = note.start * hop
        if isinstance(note.pitch, str):
            hit = render_drum(note.pitch, rate)
            out[start : start + len(hit)] += gain * hit
            continue
        wave = render_voice(str(voice), note.pitch, rate)
        held = min(note.frames * hop, len(wave) - len(fade))
        out[start : start + held] += gain * wave[:held]
        out[start + held : start + held + len(fade)] += gain * wave[held : held + len(fade)] * fade
    return out[:num_samples]
