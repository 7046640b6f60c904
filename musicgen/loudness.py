"""Peak and loudness of audio `[B, C, L]`, and the gain that brings each item to a level. Nothing is limited or
compressed: an item is multiplied by one number.

Loudness is the integrated loudness of ITU-R BS.1770-4 in LUFS: K-weighted power in blocks of 400 ms, of which the
silent and the quiet ones do not count.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

CEILING_DB = -1.0
"""Peak in dBFS that a gain keeps below full scale: encoders of lossy files overshoot by up to about this much."""

_STEP, _STEPS_PER_BLOCK = 0.1, 4
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0
_CHUNK_STEPS = 100
_HISTORY = 1.0
"""Seconds after which the weighting filters have forgotten a sample: their slowest pole is down by 1000 dB then."""


def peak_db(audio: Tensor) -> Tensor:
    """Return the highest sample of each item of `[B, C, L]` in dBFS: `[B]`, -inf for silence."""
    return 20 * audio.abs().flatten(1).amax(dim=1).log10()


def integrated_loudness(audio: Tensor, sample_rate: int) -> Tensor:
    """Return the integrated loudness of each item in LUFS: `[B]`, -inf where no block is louder than the gate.

    Args:
        audio: mono or stereo `[B, C, L]`. An item shorter than one block of 400 ms counts as one block.
        sample_rate: samples per second.

    Raises:
        ValueError: more than two channels, whose weights would depend on where their loudspeakers stand.
    """
    if audio.dim() != 3 or not 1 <= audio.shape[1] <= 2:
        raise ValueError(f"audio has shape {list(audio.shape)}; allowed is [batch, 1 or 2 channels, samples].")
    energy, lengths = _step_energies(audio, sample_rate)
    size = min(_STEPS_PER_BLOCK, energy.shape[1])
    # [B, steps] -> mean power of overlapping blocks [B, blocks]
    power = energy.unfold(1, size, 1).sum(dim=2) / lengths.unfold(0, size, 1).sum(dim=1)
    heard = _lufs(power) > _ABSOLUTE_GATE
    gate = _lufs(_mean(power, heard)) + _RELATIVE_GATE
    return _lufs(_mean(power, heard & (_lufs(power) > gate[:, None])))


def momentary_loudness(audio: Tensor, sample_rate: int) -> tuple[Tensor, float]:
    """Return the loudness over time of each item in LUFS, and the number of its values per second.

    Args:
        audio: mono or stereo `[B, C, L]`.
        sample_rate: samples per second.

    Returns:
        `[B, steps]`: the loudness of each step of 100 ms with up to 400 ms that end with it, -inf for silence; and 10.
        A sound shorter than 400 ms is one step.
    """
    energy, lengths = _step_energies(audio, sample_rate)
    size = min(_STEPS_PER_BLOCK, energy.shape[1])
    padded = torch.nn.functional.pad(energy, (size - 1, 0)).unfold(1, size, 1).sum(dim=2)
    samples = torch.nn.functional.pad(lengths, (size - 1, 0)).unfold(0, size, 1).sum(dim=1)
    rate = 1 / _STEP if energy.shape[1] > 1 else sample_rate / audio.shape[2]
    return _lufs(padded / samples), rate


def unclipped_gain(audio: Tensor, ceiling_db: float = CEILING_DB) -> Tensor:
    """Return the gain in dB of each item `[B]` that lowers a peak beyond full scale to the ceiling; else 0."""
    peak = peak_db(audio)
    return torch.where(peak > 0, ceiling_db - peak, torch.zeros_like(peak))


def loudness_gain(audio: Tensor, sample_rate: int, target: float, ceiling_db: float = CEILING_DB) -> Tensor:
    """Return the gain in dB of each item `[B]` that brings it to a loudness, or as near as its peak allows.

    Args:
        audio: mono or stereo `[B, C, L]`.
        sample_rate: samples per second.
        target: loudness in LUFS.
        ceiling_db: highest peak in dBFS that the gain may lead to.

    Returns:
        One gain per item; 0 for an item without loudness, such as silence.
    """
    loudness = integrated_loudness(audio, sample_rate)
    gain = torch.minimum(target - loudness, (ceiling_db - peak_db(audio)).to(loudness))
    return torch.where(torch.isfinite(gain), gain, torch.zeros_like(gain))


def apply_gain(audio: Tensor, gain_db: Tensor) -> Tensor:
    """Return `[B, C, L]` multiplied by one gain in dB per item `[B]`; an item of 0 dB keeps its bits."""
    factor = (10 ** (gain_db.double() / 20)).to(audio)
    return audio * factor[:, None, None]


def _step_energies(audio: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """K-weighted energy over the channels in steps of 100 ms `[B, steps]`, and the samples of each step `[steps]`."""
    length = audio.shape[2]
    count = int(length / sample_rate / _STEP + 1e-9)
    if count < _STEPS_PER_BLOCK:
        edges = [0, length]
    else:
        edges = [round(step * _STEP * sample_rate) for step in range(count + 1)]
    history = math.ceil(_HISTORY * sample_rate)
    energies = []
    for first in range(0, len(edges) - 1, _CHUNK_STEPS):
        inside = edges[first : first + _CHUNK_STEPS + 1]
        start = max(0, inside[0] - history)
        weighted = _k_weighted(audio[:, :, start : inside[-1]], sample_rate)
        squares = weighted[:, :, inside[0] - start :].square().sum(dim=1)  # [B, L]
        sizes = [last - begin for begin, last in pairwise(inside)]
        energies.append(torch.stack([part.sum(dim=1) for part in squares.split(sizes, dim=1)], dim=1))
    return torch.cat(energies, dim=1), torch.tensor(edges, dtype=torch.float64).diff()


def _k_weighted(audio: Tensor, sample_rate: int) -> Tensor:
    """`[B, C, L]` through the two filters of BS.1770, multiplied in the frequency domain; float64 on the CPU."""
    length = audio.shape[2]
    size = length + math.ceil(_HISTORY * sample_rate)  # so that the filters ring out before the end meets the beginning
    size = 1 << (size - 1).bit_length()
    spectrum = torch.fft.rfft(audio.to("cpu", torch.float64), n=size)
    delay = torch.exp(-2j * math.pi * torch.arange(size // 2 + 1, dtype=torch.float64) / size)
    for numerator, denominator in k_filters(sample_rate):
        spectrum = spectrum * _polynomial(numerator, delay) / _polynomial(denominator, delay)
    return torch.fft.irfft(spectrum, n=size)[:, :, :length]


def k_filters(sample_rate: int) -> list[tuple[tuple[float, float, float], tuple[float, float, float]]]:
    """Return (numerator, denominator) of the two filters of BS.1770 at any rate: a shelf for the head, a high pass.

    The standard tabulates them at 48 kHz; these are the analog filters behind its table, which they equal there.
    """
    # The shelf: +4 dB above 1.7 kHz.
    k, q = math.tan(math.pi * 1681.9744509555319 / sample_rate), 0.7071752369554193
    high = 10 ** (3.99984385397 / 20)
    band = high**0.499666774155
    a0 = 1 + k / q + k * k
    shelf = ((high + band * k / q + k * k) / a0, 2 * (k * k - high) / a0, (high - band * k / q + k * k) / a0)
    shelf_poles = (1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0)
    # The high pass: -3 dB at 38 Hz.
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    a0 = 1 + k / q + k * k
    high_pass_poles = (1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0)
    return [(shelf, shelf_poles), ((1.0, -2.0, 1.0), high_pass_poles)]


def _polynomial(coefficients: tuple[float, float, float], delay: Tensor) -> Tensor:
    return coefficients[0] + coefficients[1] * delay + coefficients[2] * delay * delay


def _lufs(power: Tensor) -> Tensor:
    return -0.691 + 10 * power.log10()


def _mean(power: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen blocks of each item, 0 where none is chosen."""
    return (power * chosen).sum(dim=1) / chosen.sum(dim=1).clamp(min=1)
