"""The bank: every note that the band plays, as samples, rendered once from a General MIDI sound font.

fluidsynth plays FluidR3 GM (MIT licence; Debian packages fluidsynth and fluid-soundfont-gm), without reverb and
chorus and at one velocity. Songs are mixed from these notes, so that the same note is the same samples in every
song, whatever fluidsynth would do at another time of its clock; mixing is also several hundred times faster than
real time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from musicgen.audio import resample
from musicgen.training.resume import ProgressLog, write_atomically

from .instruments import BASSES, CHORDS, DRUM_KEYS, KITS, LEADS, Voice

SAMPLE_RATE = 16000
SOUND_FONTS = (
    Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    Path("/usr/local/share/sounds/sf2/FluidR3_GM.sf2"),
    Path("/usr/share/soundfonts/FluidR3_GM.sf2"),
)
NEEDED = "fluidsynth and FluidR3_GM.sf2 are needed: sudo apt-get install fluidsynth fluid-soundfont-gm"
_RENDERED = 48000
# Seconds between two notes, and of one note; 5 s at 48 kHz are whole blocks of fluidsynth's.
_SPACING, _HELD, _HIT = 5, 3.6, 0.45
_VELOCITY, _DRUM_VELOCITY = 96, 104
# Loudness of a note: RMS of the loudest of its first seconds' pieces of 0.2 s.
_NOTE_RMS, _HIT_PEAK = 0.1, {"kick": 0.62, "snare": 0.42, "clap": 0.34, "low tom": 0.4, "high tom": 0.4}
_OTHER_PEAK = 0.16
# Real tunes do not always fit into two octaves in every key.
_BEYOND = 3

Key = tuple[str, str, int]


def sound_font() -> Path | None:
    """Where the sound font is, if it and fluidsynth are there."""
    if shutil.which("fluidsynth") is None:
        return None
    return next((path for path in SOUND_FONTS if path.is_file()), None)


def catalogue() -> dict[Key, tuple[int, int]]:
    """Every note as (stem, voice, MIDI key), with its program and key; drums have -1 - program."""
    notes: dict[Key, tuple[int, int]] = {}
    stems: dict[str, dict[str, Voice]] = {"lead": LEADS, "chords": CHORDS, "bass": BASSES}
    for voices in stems.values():
        for name, voice in voices.items():
            for key in range(voice.low - _BEYOND, voice.high + _BEYOND + 1):
                # A voice that plays in two stems is stored once.
                notes.setdefault(("note", name, key), (voice.program, key))
    for kit, program in KITS.items():
        for key in DRUM_KEYS.values():
            notes["drum", kit, key] = (-1 - program, key)
    return notes


def bank_folder() -> Path:
    """Where the bank of this user lies; the folder is named after all that the bank depends on."""
    text = json.dumps([str(catalogue()), _VELOCITY, _DRUM_VELOCITY, _HELD, _HIT, _NOTE_RMS, _HIT_PEAK, _OTHER_PEAK])
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "musicgen-nano" / hashlib.sha256(text.encode()).hexdigest()[:12]


def _variable_length(ticks: int) -> bytes:
    groups = [ticks & 127]
    while ticks := ticks >> 7:
        groups.insert(0, ticks & 127 | 128)
    return bytes(groups)


def _midi_file(program: int, keys: list[int]) -> bytes:
    """One key after the other, `_SPACING` seconds apart; 1000 ticks are a second."""
    drums = program < 0
    channel = 9 if drums else 0
    velocity = _DRUM_VELOCITY if drums else _VELOCITY
    track = bytes([0, 0xFF, 0x51, 3]) + (1_000_000).to_bytes(3, "big")
    track += bytes([0, 0xC0 | channel, -1 - program if drums else program])
    held, rest = round(1000 * _HELD), round(1000 * (_SPACING - _HELD))
    for index, key in enumerate(keys):
        track += _variable_length(rest if index else 0) + bytes([0x90 | channel, key, velocity])
        track += _variable_length(held) + bytes([0x80 | channel, key, 0])
    track += _variable_length(rest) + bytes([0xFF, 0x2F, 0])
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 1000) + b"MTrk" + struct.pack(">I", len(track)) + track


def play(font: Path, program: int, keys: list[int]) -> torch.Tensor:
    """Notes `[len(keys), L]` at 16 kHz, mono, as fluidsynth plays them."""
    with tempfile.TemporaryDirectory() as scratch:
        midi, raw = Path(scratch) / "notes.mid", Path(scratch) / "notes.raw"
        midi.write_bytes(_midi_file(program, keys))
        command = ["fluidsynth", "-niq", "-R", "0", "-C", "0", "-g", "0.4", "-r", str(_RENDERED), "-T", "raw"]
        command += ["-O", "float", "-F", str(raw), str(font), str(midi)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not raw.is_file():
            raise RuntimeError(f"fluidsynth could not play program {program} of {font}: {done.stderr.strip()[-300:]}")
        stereo = torch.from_numpy(np.fromfile(raw, dtype="<f4")).view(-1, 2)
    length = _SPACING * _RENDERED
    sound = torch.nn.functional.pad(stereo.mean(dim=1), (0, length * len(keys)))[: length * len(keys)]
    return resample(sound.view(len(keys), length), _RENDERED, SAMPLE_RATE)


def _level(sound: np.ndarray, drum: str | None) -> np.ndarray:
    """A note at its loudness: by its loudest fifth of a second, a hit by its peak."""
    if drum is not None:
        sound = sound[: round(_HIT * SAMPLE_RATE)]
        fade = np.clip((len(sound) - np.arange(len(sound))) / (0.1 * SAMPLE_RATE), 0, 1)
        return sound * fade * (_HIT_PEAK.get(drum, _OTHER_PEAK) / max(float(np.abs(sound).max()), 1e-6))
    sound = sound[: round(_HELD * SAMPLE_RATE)]
    pieces = sound[:SAMPLE_RATE].reshape(5, -1)
    return sound * (_NOTE_RMS / max(float(np.sqrt((pieces**2).mean(axis=1)).max()), 1e-6))


def render_bank(folder: Path) -> None:
    """Render every note into `folder`: `notes.npy` float16 `[N, L]` and `notes.json`; about a minute."""
    font = sound_font()
    if font is None:
        raise FileNotFoundError(NEEDED)
    notes = catalogue()
    by_program: dict[int, list[Key]] = {}
    for key, (program, _) in notes.items():
        by_program.setdefault(program, []).append(key)
    drum_names = {number: name for name, number in DRUM_KEYS.items()}
    bank = np.zeros((len(notes), round(_HELD * SAMPLE_RATE)), dtype=np.float16)
    order = {key: row for row, key in enumerate(notes)}
    progress = ProgressLog("notes", len(notes))
    done = 0
    for program, keys in by_program.items():
        sounds = play(font, program, [key for _, _, key in keys]).numpy()
        for key, sound in zip(keys, sounds, strict=True):
            levelled = _level(sound, drum_names[key[2]] if key[0] == "drum" else None)
            bank[order[key], : len(levelled)] = levelled.astype(np.float16)
        progress.update(done := done + len(keys))
    write_atomically(folder / "notes.npy", lambda file: np.save(file, bank))
    index = json.dumps([list(key) for key in notes]).encode()
    write_atomically(folder / "notes.json", lambda file: file.write(index))


class Bank:
    """The notes of the band, read through a memory map."""

    def __init__(self, folder: Path) -> None:
        self.rows = {tuple(key): row for row, key in enumerate(json.loads((folder / "notes.json").read_text()))}
        self.notes = np.load(folder / "notes.npy", mmap_mode="r")

    @lru_cache(maxsize=1024)  # noqa: B019 - a process has one bank, and keeps it
    def note(self, voice: str, key: int) -> np.ndarray:
        """A held note `[L]` float32."""
        return np.asarray(self.notes[self.rows["note", voice, key]], dtype=np.float32)

    @lru_cache(maxsize=256)  # noqa: B019
    def hit(self, kit: str, drum: str) -> np.ndarray:
        """A hit `[L]` float32."""
        row = self.notes[self.rows["drum", kit, DRUM_KEYS[drum]]]
        return np.asarray(row[: round(_HIT * SAMPLE_RATE)], dtype=np.float32)


@lru_cache(maxsize=1)
def open_bank() -> Bank:
    """The bank of this user, rendered if it is not there yet."""
    folder = bank_folder()
    if not (folder / "notes.json").is_file():
        render_bank(folder)
    return Bank(folder)
