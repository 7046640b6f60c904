"""The measures: known answers on made-up signals, a ceiling on real songs, and chance on wrong labels."""

from __future__ import annotations

import math
import sys
from functools import cache

import numpy as np
import pytest
import torch

from musicgen import evaluation as metrics
from musicgen import fidelity
from nano import measure as command
from nano import outside, probes
from nano import scores as score
from nano.corpus.bank import NEEDED, sound_font
from nano.corpus.genres import TEMPI
from nano.corpus.songs import make_songs, split_seeds
from nano.heldout import HeldOutTunes
from nano.probes import ATTRIBUTES, PROBE_RATE, Probe, save_probe

RATE = 16000


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tones(pitches: list[int], seconds: float = 0.5) -> torch.Tensor:
    """One sine after the other, `[1, L]`."""
    t = torch.arange(int(seconds * RATE)) / RATE
    return torch.cat([torch.sin(2 * math.pi * 440 * 2 ** ((pitch - 69) / 12) * t) for pitch in pitches])[None] * 0.3


def clicks(tempo_bpm: float, seconds: float = 6.0) -> torch.Tensor:
    """A tick on every beat, louder on every fourth, and soft ones between."""
    audio = torch.zeros(1, int(seconds * RATE))
    tick = noise(800) * torch.exp(-torch.arange(800) / 150)
    for half in range(int(seconds * tempo_bpm / 30)):
        start = round(half * 30 / tempo_bpm * RATE)
        level = 0.05 if half % 2 else 0.4 if half % 8 == 0 else 0.2
        part = audio[0, start : start + 800]
        part += level * tick[: len(part)]
    return audio


@pytest.fixture
def band() -> None:
    """Skip where the instruments of the corpus are not installed."""
    if sound_font() is None:
        pytest.skip(NEEDED)


@cache
def corpus(split: str, count: int) -> tuple[torch.Tensor, list]:
    songs = list(make_songs(split_seeds(split, count), 6.0))
    return torch.tensor(np.stack([song.audio for song in songs])), [song.labels for song in songs]


@cache
def statistics(split: str, count: int) -> torch.Tensor:
    return torch.cat([probes.clip_statistics(part, RATE) for part in corpus(split, count)[0].split(32)])


# Rhythm


@pytest.mark.parametrize("tempo_bpm", [bpm for bpm in TEMPI.values() if bpm >= 75])
def test_a_metronome_has_a_pulse_and_its_own_tempo(tempo_bpm):
    tempi = list(TEMPI.values())
    audio = clicks(tempo_bpm)
    assert metrics.pulse_strength(audio, RATE) > 0.8
    # Soft ticks between the beats make a tempo of twice as much as good.
    assert tempi[metrics.tempo_of(audio, RATE, tempi)] in (tempo_bpm, 2 * tempo_bpm)


def test_noise_and_irregular_clicks_have_no_pulse():
    assert metrics.pulse_strength(0.1 * noise(8, 6 * RATE), RATE).max() < 0.3
    audio = torch.zeros(1, 6 * RATE)
    for start in torch.randint(0, 6 * RATE - 800, (24,), generator=torch.Generator().manual_seed(1)).tolist():
        audio[0, start : start + 800] += 0.2 * noise(800, seed=start)
    assert metrics.pulse_strength(audio, RATE) < 0.5


def test_the_autocorrelation_begins_at_one_and_stays_within_it(band):
    curve = metrics.onset_autocorrelation(corpus("test", 64)[0], RATE)
    assert torch.allclose(curve[:, 0], torch.ones(64), atol=1e-4)
    assert curve.abs().max() <= 1.001


# Pitch


def test_the_tones_of_a_scale_are_in_its_key_and_a_semitone_up_mostly_not():
    scale = tones([60, 62, 64, 65, 67, 69, 71])
    assert metrics.in_key_energy(scale, RATE, [0], ["major"]) > 0.98
    assert metrics.in_key_energy(scale, RATE, [1], ["major"]) < 0.4
    chromatic = tones(list(range(60, 72)))
    assert abs(metrics.in_key_energy(chromatic, RATE, [5], ["minor"]).item() - 7 / 12) < 0.03


def test_the_key_of_a_cadence_is_found_in_every_transposition():
    for up in range(12):
        cadence = [48, 60, 64, 67, 65, 69, 67, 71, 62, 60, 64, 60]
        assert metrics.key_of(tones([pitch + up for pitch in cadence], 0.3), RATE) == [(up, "major")]


def test_a_melody_is_like_itself_and_unlike_another():
    ours, other = tones([60, 64, 67, 72]), tones([66, 70, 61, 66])
    assert metrics.chroma_similarity(ours, ours, RATE) > 0.999
    assert metrics.chroma_similarity(ours, other, RATE) < 0.2
    assert metrics.chroma_agreement(ours, ours, RATE) == 1.0
    octave = tones([72, 76, 79, 84])
    assert metrics.chroma_agreement(octave, ours, RATE) > 0.9


# Sound and codes


def test_si_snr_and_mel_distance_of_known_changes():
    audio = noise(2, RATE)
    assert (fidelity.si_snr(0.3 * audio, audio) > 60).all()
    noisy = audio + noise(2, RATE, seed=1) * 10 ** (-10 / 20)
    assert torch.allclose(fidelity.si_snr(noisy, audio), torch.full((2,), 10.0), atol=0.3)
    assert torch.allclose(fidelity.mel_distance(0.1 * audio, audio, RATE), torch.full((2,), 20.0), atol=0.1)


def test_silence_clipping_and_stuck_codes_are_seen():
    audio = torch.stack([torch.zeros(RATE), 1e-4 * noise(RATE), 0.1 * noise(RATE), (3 * noise(RATE)).clamp(-1, 1)])
    assert metrics.is_silent(audio).tolist() == [True, True, False, False]
    assert metrics.is_clipped(audio).tolist() == [False, False, False, True]
    codes = torch.randint(0, 8, (3, 4, 120), generator=torch.Generator().manual_seed(0))
    codes[1, :, 40:90] = codes[1, :, 40:41]
    codes[2, 0] = 5
    assert metrics.is_stuck(codes).tolist() == [False, True, False]
    assert metrics.is_stuck(codes[..., :30]).tolist() == [False, False, False]


def test_perplexity_counts_the_entries_in_even_use():
    even = torch.arange(64).view(1, 1, 64)
    codes = torch.cat([even, even % 8, torch.zeros_like(even)], dim=1)
    assert torch.allclose(metrics.codebook_perplexity(codes, 64), torch.tensor([64.0, 8.0, 1.0]), atol=1e-3)


# Intervals and distances


def test_intervals_are_those_of_the_books():
    low, high = metrics.wilson_interval(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert metrics.wilson_interval(0, 20)[0] == 0.0
    values = noise(400).double().tolist()
    low, high = metrics.bootstrap_interval(values)
    assert low < sum(values) / 400 < high
    assert abs((high - low) / 2 - 1.96 / 20) < 0.02
    assert metrics.bootstrap_interval(values) == (low, high)
    with pytest.raises(ValueError, match="no more successes"):
        metrics.wilson_interval(3, 2)
    with pytest.raises(ValueError, match="at least one"):
        metrics.bootstrap_interval([])


def test_the_frechet_distance_is_scipy_s():
    linalg = pytest.importorskip("scipy.linalg")
    ours = noise(300, 12) @ noise(12, 12, seed=1)
    theirs = noise(200, 12, seed=2) @ noise(12, 12, seed=3) + 0.5
    first, second = np.cov(ours.double().numpy().T), np.cov(theirs.double().numpy().T)
    gap = ours.double().mean(0) - theirs.double().mean(0)
    expected = float(gap @ gap) + np.trace(first + second - 2 * linalg.sqrtm(first @ second).real)
    assert metrics.frechet_distance(ours, theirs) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_of_shifted_and_of_few_points():
    points = noise(50, 80)
    assert metrics.frechet_distance(points, points) == pytest.approx(0.0, abs=1e-6)
    assert metrics.frechet_distance(points + 0.5, points) == pytest.approx(80 * 0.25, rel=1e-4)
    with pytest.raises(ValueError, match="at least 2"):
        metrics.frechet_distance(points[:1], points)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda e: torch.where(e == e.max(), torch.nan, e), "NaN"),
        (lambda e: e * 1e300, "hold NaN or numbers up to inf"),
        (lambda e: e[:, :5], "the embeddings are 8 wide and the reference's 5"),
        (lambda e: e[:0], r"shape \[0, 8\]"),
        (lambda e: e[0], r"shape \[8\]; allowed is \[N, D\]"),
        (lambda e: e[None], r"shape \[1, 50, 8\]"),
    ],
)
def test_a_distance_of_bad_numbers_is_refused_in_a_sentence(spoil, words):
    good = noise(50, 8)
    with pytest.raises(ValueError, match=words):
        metrics.frechet_distance(good, spoil(good))


# Probes


def test_the_shipped_probe_hears_songs_and_chance_hears_nothing(band):
    audio, labels = corpus("test", 256)
    heard = score.hear(audio, RATE, probes.load_probe())
    asked = [score.asked_of(plan) for plan in labels]
    right = {figure.name: figure.value for figure in score.score_requests(heard, asked)}
    wrong = {figure.name: figure.value for figure in score.score_requests(heard, asked[1:] + asked[:1])}
    floor = {"drums present or not": 0.95, "bass present or not": 0.95, "lead instrument, of 16": 0.85}
    floor |= {"drum kit, of 6": 0.6, "key, of 24, by the probe": 0.4, "tempo, of 19, by the probe": 0.4}
    for name, least in floor.items():
        assert right[name] >= least, (name, right[name])
        assert wrong[name] <= 0.75 if "or not" in name else wrong[name] <= 0.4, (name, wrong[name])


def test_a_probe_learns_and_the_same_seed_is_the_same_probe(band):
    labels = corpus("train", 96)[1]
    before = torch.get_rng_state()
    probe = probes.train_probe(statistics("train", 96), labels, seed=3, steps=150)
    assert torch.equal(before, torch.get_rng_state())
    again = probes.train_probe(statistics("train", 96), labels, seed=3, steps=150)
    assert all(torch.equal(a, b) for a, b in zip(probe.state_dict().values(), again.state_dict().values(), strict=True))
    answers = probe.answers(statistics("test", 64))
    truth = [plan.drums for plan in corpus("test", 64)[1]]
    assert np.mean([a == b for a, b in zip(answers["drums"], truth, strict=True)]) > 0.8


def test_the_key_head_hears_a_song_in_another_key_as_that_key(band):
    probe = probes.load_probe()
    clips = statistics("test", 64)
    profiles = clips[:, -24:].view(-1, 2, 12)
    moved = torch.cat([clips[:, :-24], profiles.roll(5, dims=-1).flatten(1)], dim=1)
    here, there = (probe(each)["key"].unflatten(1, (12, 2)) for each in (clips, moved))
    for old, new in [(key, (key + 5) % 12) for key in range(12)]:
        torch.testing.assert_close(here[:, old], there[:, new])


def test_probes_are_kept_and_bad_ones_refused(band, tmp_path):
    probe = Probe().eval()
    save_probe(probe, tmp_path / "probe.safetensors")
    kept = probes.load_probe(tmp_path / "probe.safetensors")
    clips = statistics("test", 64)[:4]
    assert torch.allclose(kept(clips)["lead"], probe(clips)["lead"], atol=0.05)
    with pytest.raises(FileNotFoundError, match="train-probe"):
        probes.load_probe(tmp_path / "missing.safetensors")
    probe.home = torch.nn.Sequential(torch.nn.Linear(3, 4))
    save_probe(probe, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="another kind of probe"):
        probes.load_probe(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="at least 4 s"):
        probes.clip_statistics(noise(1, RATE), RATE)


def test_clips_of_other_rates_are_heard_alike(band):
    audio, labels = corpus("test", 64)
    doubled = torch.repeat_interleave(audio[:16], 2, dim=1)
    answers = probes.load_probe().answers(probes.clip_statistics(doubled, 2 * PROBE_RATE))
    assert np.mean([a == plan.drums for a, plan in zip(answers["drums"], labels, strict=False)]) > 0.9


def test_every_attribute_is_scored_only_where_it_was_asked(band):
    heard = score.hear(corpus("test", 64)[0][:4], RATE, probes.load_probe())
    figures = score.score_requests(heard, [{"drums": True}, {"lead": "organ"}, {}, {"tempo_bpm": 122}])
    counts = {figure.name: len(figure.values) for figure in figures}
    assert counts["drums present or not"] == counts["lead instrument, of 16"] == 1
    assert "key, of 24, by the probe" not in counts and "energy in key" not in counts
    assert "tempo, of 19, by onsets" not in counts
    assert set(ATTRIBUTES) == set(score._PROBED)


# By librosa


def test_clicks_are_percussive_and_tones_are_not():
    pytest.importorskip("librosa")
    beat, held = clicks(120.0)[0].numpy(), tones([60], 6.0)[0].numpy()
    assert outside.has_drums_throughout(beat, RATE) and not outside.has_drums_throughout(held, RATE)
    half = np.concatenate([beat[: 3 * RATE], held[: 3 * RATE]])
    assert not outside.has_drums_throughout(half, RATE)
    assert outside.percussive_shares(held, RATE).max() < outside.DRUM_FLOOR


def test_librosa_finds_a_tempo_its_double_and_its_half():
    pytest.importorskip("librosa")
    assert outside.is_tempo_or_double(outside.tempo(clicks(120.0)[0].numpy(), RATE), 120)
    assert outside.is_tempo(124, 120) and not outside.is_tempo(126, 120) and not outside.is_tempo(60, 120)
    assert outside.is_tempo_or_double(60, 120) and outside.is_tempo_or_double(240, 120)


def test_a_melody_is_likest_to_itself_by_librosa():
    pytest.importorskip("librosa")
    ours, other = (tones(pitches)[0].numpy() for pitches in ([60, 64, 67, 72], [66, 70, 61, 66]))
    assert outside.chroma_likeness(ours, ours, RATE)[0] > 0.99
    assert outside.chroma_likeness(ours, ours, RATE)[1] == 1.0
    assert outside.chroma_likeness(ours, other, RATE)[0] < 0.6


def test_drift_is_what_the_end_differs_by():
    pytest.importorskip("librosa")
    loud, soft = tones([60], 2.0)[0].numpy(), 0.5 * tones([72], 2.0)[0].numpy()
    level, centre = outside.drift(np.concatenate([loud, soft]), RATE, 2.0)
    assert level == pytest.approx(-6.02, abs=0.2) and centre > 0.5


def test_requests_are_scored_by_librosa_only_where_they_were_made():
    pytest.importorskip("librosa")
    audio = torch.cat([clicks(120.0), tones([60], 6.0)])
    asked = [{"drums": True, "tempo_bpm": 120}, {"drums": False}]
    found = {figure.name: figure.value for figure in outside.score_requests(audio, asked, RATE)}
    assert found["drums in every 2 s where asked (librosa)"] == 1.0
    assert found["no drums where none were asked (librosa)"] == 1.0
    assert len(found) == 4 and len(outside.score_requests(audio, [{}, {}], RATE)) == 0


def test_the_best_floor_parts_two_groups():
    floor, with_drums, without = outside.best_floor([np.array([0.4, 0.5])] * 3, [np.array([0.1, 0.2])] * 3)
    assert 0.1 <= floor < 0.4 and with_drums == without == 1.0


def test_held_out_tunes_are_played_and_hummed_alone(band):
    tunes = HeldOutTunes(1, 4.0)
    assert len(tunes.captions) == 12 and tunes.melody.shape == tunes.audio.shape == (12, 64000)
    assert all(plan.tune for plan in tunes.labels)
    assert (tunes.melody.abs().amax(dim=1) > 0.02).all()


# The command


def test_one_command_prints_one_table(band, monkeypatch, capsys, tmp_path):
    model = command.Path(__file__).parents[2] / "models" / "musicgen-nano-melody"
    arguments = [
        "score",
        "--clips",
        "8",
        "--seconds",
        "4",
        "--no-librosa",
        "--model",
        str(model),
        "--json",
        str(tmp_path / "out.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["metrics", *arguments])
    command.main()
    table = capsys.readouterr().out
    assert table.startswith("| measure | chance | songs | musicgen-nano-melody, codec only |")
    for row in ("drums present or not", "pulse", "energy in key", "SI-SNR", "Frechet", "silent clips", "perplexity"):
        assert f"| {row}" in table
    figures = command.json.loads((tmp_path / "out.json").read_text())
    assert figures["songs"]["energy in key"]["value"] > figures["chance"]["energy in key"]["value"]


def test_the_probe_can_be_trained_from_the_command(band, monkeypatch, tmp_path):
    model = command.Path(__file__).parents[2] / "models" / "musicgen-nano"
    out = tmp_path / "probe.safetensors"
    arguments = ["train-probe", "--songs", "20", "--seconds", "4", "--steps", "5", "--model", str(model)]
    monkeypatch.setattr(sys, "argv", ["metrics", *arguments, "--out", str(out)])
    command.main()
    assert probes.load_probe(out).training is False


def test_pictures_show_songs_reconstructions_and_samples(band, monkeypatch, capsys, tmp_path):
    from PIL import Image

    model = command.Path(__file__).parents[2] / "models" / "musicgen-nano"
    arguments = ["pictures", "--clips", "2", "--seconds", "2", "--model", str(model), "--out", str(tmp_path / "a.png")]
    monkeypatch.setattr(sys, "argv", ["metrics", *arguments])
    command.main()
    assert capsys.readouterr().out.startswith("1. ")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 3 * 384 and image.height > 2 * 160
        assert np.asarray(image.convert("L")).std() > 10
