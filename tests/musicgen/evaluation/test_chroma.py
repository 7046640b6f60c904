"""The chroma cosine beside audiocraft's, by librosa and torchaudio, and beside its chroma in the golden data."""

from __future__ import annotations

import pytest
import torch

from musicgen.evaluation import chroma_cosine, chroma_similarity

RATE = 32000


def reference_chroma(audio: torch.Tensor) -> torch.Tensor:
    """One-hot chroma `[F, 12]` of audio `[L]` by the packages that audiocraft's extractor is made of."""
    import librosa
    import torchaudio

    bank = torch.from_numpy(librosa.filters.chroma(sr=RATE, n_fft=16384, tuning=0, n_chroma=12))
    if (missing := 16384 - len(audio)) > 0:
        audio = torch.nn.functional.pad(audio, (missing // 2, missing - missing // 2))
    transform = torchaudio.transforms.Spectrogram(16384, 16384, 4096, power=2, center=True, pad=0, normalized=True)
    raw = torch.nn.functional.normalize(bank @ transform(audio), p=torch.inf, dim=-2, eps=1e-6)
    return torch.nn.functional.one_hot(raw.argmax(dim=0), 12).float()


def reference_cosine(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The mean that audiocraft's metric takes over the frames of one item of `[L]` samples."""
    frames = -(-len(ours) // 4096)
    rows = [reference_chroma(each)[:frames] for each in (theirs, ours)]
    return float(torch.nn.functional.cosine_similarity(*rows, dim=1, eps=1e-8).sum() / frames)


def recordings() -> list[torch.Tensor]:
    """Ten seconds of chords, noise, a sweep, silence and a half second, `[L]`."""
    time, generator = torch.arange(10 * RATE) / RATE, torch.Generator().manual_seed(5)
    chord = sum(torch.sin(2 * torch.pi * hertz * time) for hertz in (261.63, 329.63, 392.0)) / 4
    steps = torch.sin(2 * torch.pi * 220 * 2 ** (torch.floor(time * 2) / 12) * time) / 2
    noise = 0.3 * torch.randn(len(time), generator=generator)
    return [chord, chord + noise, steps, steps.flip(0), noise, torch.zeros(len(time))]


def test_the_chroma_cosine_is_audiocrafts_on_golden_sounds(sweep):
    sounds = [*recordings(), sweep[0, 0].repeat(2)[: 10 * RATE]]
    for ours in sounds:
        for theirs in sounds:
            length = min(len(ours), len(theirs))
            expected = reference_cosine(ours[:length], theirs[:length])
            assert chroma_cosine(ours[None], theirs[None], RATE).item() == pytest.approx(expected, abs=1e-6)


def test_a_recording_shorter_than_a_window_is_padded_as_the_reference_pads_it():
    ours, theirs = (each[:9000] for each in recordings()[2:4])
    assert chroma_cosine(ours[None], theirs[None], RATE).item() == pytest.approx(
        reference_cosine(ours, theirs), abs=1e-6
    )


def test_the_chroma_of_the_metric_is_the_one_that_audiocraft_wrote(sweep, tensors):
    golden = tensors("melody")
    names = [name for name in golden if name.startswith("chroma.") and golden[name].dim() == 3]
    assert names
    from musicgen.conditioning.melody import chroma_of
    from musicgen.config import RELEASED_CHROMA

    ours = chroma_of(sweep[0, 0], RELEASED_CHROMA)
    assert any(torch.equal(ours, golden[name][0]) for name in names if golden[name].shape[1] == len(ours))


def test_batches_give_each_recording_its_own_figure_and_the_continuous_measure_is_another():
    chord, _, steps, back, *_ = recordings()
    both = chroma_cosine(torch.stack([steps, steps]), torch.stack([back, steps]), RATE)
    assert both.tolist() == [pytest.approx(reference_cosine(steps, back), abs=1e-6), 1.0]
    assert chroma_similarity(chord[None], steps[None], RATE) > chroma_cosine(chord[None], steps[None], RATE)
