"""The corpus: what a song claims to be is what it sounds like, and what a caption says can be read back."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
import torch

from musicgen.evaluation.rhythm import pulse_strength, tempo_of
from musicgen.evaluation.tonality import in_key_energy
from nano.corpus.bank import NEEDED, SAMPLE_RATE, bank_folder, catalogue, render_bank, sound_font
from nano.corpus.captions import CaptionOdds, describe, key_name, pace_of, read_caption, vocabulary
from nano.corpus.composer import compose, compose_lead, draw_plan
from nano.corpus.genres import GENRES, STEADY_TEMPI, TEMPI
from nano.corpus.instruments import BASSES, CHORDS, KITS, LEADS
from nano.corpus.mixing import hummed
from nano.corpus.notes import frame_of
from nano.corpus.score_marks import DRUMS, MARKS, piano_roll, unpack
from nano.corpus.songs import Song, make_song, make_songs, split_seeds, write_score
from nano.corpus.tunes import TUNES, Tune

needs_band = pytest.mark.skipif(sound_font() is None, reason=NEEDED)
PROMPTS = (
    "80s electronic track with melodic synthesizers, catchy beat, and groovy bass",
    "smooth jazz, with a saxophone solo, piano chords, and snare full drums",
    "90s rock song with electric guitar and heavy drums",
    "lofi slow bpm electro chill with organic samples",
)


def numpy_rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@cache
def songs() -> list[Song]:
    return list(make_songs(split_seeds("test", 96), 6.0))


def audio() -> torch.Tensor:
    return torch.tensor(np.stack([song.audio for song in songs()]))


# Sound


@needs_band
def test_a_seed_is_a_song_whatever_was_made_before():
    first = make_song(7, 4.0)
    make_song(8, 1.0)
    again = make_song(7, 4.0)
    assert np.array_equal(first.audio, again.audio) and np.array_equal(first.melody, again.melody)
    assert first.labels == again.labels
    assert not np.array_equal(first.audio, make_song(8, 4.0).audio)


@needs_band
def test_songs_of_other_processes_are_the_same_songs():
    here = list(make_songs(range(2), 1.0))
    there = list(make_songs(range(2), 1.0, workers=1))
    assert all(np.array_equal(a.audio, b.audio) and a.labels == b.labels for a, b in zip(here, there, strict=True))


@needs_band
def test_the_bank_is_the_same_when_it_is_rendered_again(tmp_path, monkeypatch):
    monkeypatch.setattr("nano.corpus.bank.catalogue", lambda: dict([*catalogue().items()][:4]))
    for name in ("a", "b"):
        render_bank(tmp_path / name)
    files = [(tmp_path / name / "notes.npy").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    notes = np.load(tmp_path / "a" / "notes.npy")
    assert notes.shape[0] == 4 and np.abs(notes).max(axis=1).min() > 0.05


def test_without_the_sound_font_the_bank_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("nano.corpus.bank.sound_font", lambda: None)
    with pytest.raises(FileNotFoundError, match="apt-get install fluidsynth fluid-soundfont-gm"):
        render_bank(tmp_path)
    assert bank_folder().parent.name == "musicgen-nano"


@needs_band
def test_no_song_clips_and_none_is_faint():
    rms = np.array([np.sqrt(np.mean(song.audio**2)) for song in songs()])
    assert max(np.abs(song.audio).max() for song in songs()) < 1.0
    assert 0.02 < rms.min() and rms.max() < 0.25


@needs_band
def test_stems_sum_to_the_song_and_rest_where_the_labels_say_so():
    for song in songs():
        assert np.allclose(sum(song.stems.values()), song.audio, atol=1e-4)
        sounding = {name for name, stem in song.stems.items() if np.abs(stem).max() > 0.005}
        expected = {"lead"} | {name for name in ("chords", "bass", "drums") if getattr(song.labels, name)}
        assert sounding == expected


@needs_band
def test_the_drums_of_a_bar_are_the_drums_of_the_next():
    for song in songs()[:40]:
        plan = song.labels
        bar = plan.beats * plan.beat_frames * SAMPLE_RATE // 50
        if plan.drums and not plan.ending and 2 * bar < len(song.audio):
            drums, heard = song.stems["drums"], slice(bar // 2, bar)
            assert np.allclose(drums[:bar][heard], drums[bar : 2 * bar][heard], atol=1e-4)


@needs_band
def test_the_pulse_tempo_and_key_can_be_heard():
    drums = torch.tensor([song.labels.drums and not song.labels.ending for song in songs()])
    assert pulse_strength(audio()[drums], SAMPLE_RATE).median() > 0.6
    tempi = list(TEMPI.values())
    heard = tempo_of(audio()[drums], SAMPLE_RATE, tempi)
    true = torch.tensor([tempi.index(song.labels.tempo_bpm) for song in songs()])[drums]
    assert (heard == true).float().mean() > 3 * (heard == true.roll(1)).float().mean()
    keys, modes = [song.labels.key for song in songs()], [song.labels.mode for song in songs()]
    inside = in_key_energy(audio(), SAMPLE_RATE, keys, modes).mean()
    assert inside > 0.8 and inside > in_key_energy(audio(), SAMPLE_RATE, keys[1:] + keys[:1], modes).mean() + 0.1


@needs_band
def test_a_hummed_note_has_its_pitch_class():
    plan, notes = write_score(0, 200)
    note = replace(notes["lead"][0], start=0, frames=100)
    tone = hummed([note], 2 * SAMPLE_RATE, numpy_rng(3))
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone))))
    pitch = 69 + 12 * np.log2(np.argmax(spectrum) / 2 / 440)
    assert min((pitch - note.pitch) % 12, (note.pitch - pitch) % 12) < 0.6
    assert np.array_equal(tone, hummed([note], 2 * SAMPLE_RATE, numpy_rng(3))) and plan.lead in LEADS


# Notes


def test_every_note_is_on_the_frame_grid_in_the_key_and_in_the_bank():
    notes = catalogue()
    for seed in range(300):
        rng = numpy_rng(seed)
        plan = draw_plan(rng)
        scale = {(plan.key + step) % 12 for step in ((0, 2, 4, 5, 7, 9, 11) if plan.mode == "major" else
                                                     (0, 2, 3, 5, 7, 8, 10))}  # fmt: skip
        grid = {frame_of(plan, at) for at in range(12)}
        for stem, part in compose(plan, 500, rng).items():
            assert all(0 <= note.start < 500 and note.start % plan.beat_frames in grid for note in part)
            voice = {"lead": plan.lead, "chords": plan.chords, "bass": plan.bass_style}.get(stem)
            if stem == "drums":
                continue
            assert all(("note", voice, note.pitch) in notes for note in part)
            # Real tunes leave the scale now and then; power chords do so on one degree.
            if plan.tune is None and not (stem == "chords" and voice == "distorted guitar"):
                assert {note.pitch % 12 for note in part} <= scale


def test_a_short_song_is_the_beginning_of_a_long_one():
    for seed in range(30):
        short, long = write_score(seed, 150)[1], write_score(seed, 400)[1]
        for stem, part in short.items():
            assert [note.start for note in part] == [note.start for note in long[stem] if note.start < 150]


def test_a_loop_comes_back_and_a_fill_ends_every_fourth_bar():
    filled = 0
    for seed in range(200):
        plan, notes = write_score(seed, 800)
        bar = plan.beats * plan.beat_frames
        if plan.ending or 5 * bar > 800 or not plan.drums:
            continue
        hits = [{(n.start % bar, n.pitch) for n in notes["drums"] if n.start // bar == number} for number in range(5)]
        assert hits[0] == hits[1] == hits[2] == hits[4]
        filled += hits[3] != hits[0]
        loop = plan.loop * bar
        if plan.tune is None and 2 * loop <= 800 and plan.chords:
            chords = [
                {(n.start % loop, n.pitch) for n in notes["chords"] if n.start // loop == turn} for turn in (0, 1)
            ]
            assert chords[0] >= chords[1] or 3 * loop > 800
    assert filled > 20


def test_songs_that_say_so_end():
    ended = [write_score(seed, 800) for seed in range(400)]
    ended = [(plan, notes) for plan, notes in ended if plan.ending]
    assert 5 < len(ended) < 40
    for _, notes in ended:
        last = max(note.start for part in notes.values() for note in part)
        assert 200 < last < 750


def test_every_genre_instrument_and_tempo_occurs():
    plans = [draw_plan(numpy_rng(seed)) for seed in range(3000)]
    assert {plan.genre for plan in plans} == set(GENRES) and len(GENRES) >= 12
    assert {plan.lead for plan in plans} == set(LEADS) and len(LEADS) == 16
    assert {plan.chords for plan in plans} == {*CHORDS, None}
    assert {plan.bass_style for plan in plans} == {*BASSES, None}
    assert {plan.kit for plan in plans} == {*KITS, None}
    assert {plan.tempo_bpm for plan in plans} == set(TEMPI.values())
    assert {(plan.key, plan.mode) for plan in plans} == {(k, m) for k in range(12) for m in ("major", "minor")}
    assert {plan.beats for plan in plans} == {3, 4}
    habitual = [draw_plan(numpy_rng(seed), follow_genre=1.0) for seed in range(300)]
    assert all(plan.lead in GENRES[plan.genre].leads for plan in habitual)


def test_tempi_are_within_4_2_percent_of_any_from_60_to_176():
    tempi = np.array([60 * 50 / frames for frames in TEMPI])
    for wanted in np.arange(60, 177):
        assert np.abs(tempi / wanted - 1).min() < 0.043


def test_tunes_are_read_and_bad_notes_are_named():
    assert Tune("major", 4, "1 3:1 5'").notes == [(0, 2, 0), (2, 1, 4), (3, 2, 19)]
    assert Tune("minor", 4, "3 0:4 7+,").notes == [(0, 2, 3), (2, 4, None), (6, 2, -1)]
    with pytest.raises(ValueError, match="'8' is no note"):
        _ = Tune("major", 4, "1 8").notes
    assert sum(tune.held_out for tune in TUNES.values()) == 12
    plan = replace(draw_plan(numpy_rng(0)), tune=None)
    with pytest.raises(ValueError, match="no real tune"):
        compose_lead(plan, 100)


def test_no_song_of_the_corpus_plays_a_held_out_tune():
    played = {draw_plan(numpy_rng(seed)).tune for seed in range(2000)} - {None}
    assert played == {name for name, tune in TUNES.items() if not tune.held_out}


def test_the_score_says_of_each_frame_what_is_struck_in_it():
    for seed in range(40):
        plan, notes = write_score(seed, 400)
        roll = unpack(piano_roll(plan, notes, 400)).astype(bool)

        def frames(mark: str, roll: np.ndarray = roll) -> list[int]:
            return np.flatnonzero(roll[:, MARKS.index(mark)]).tolist()

        assert frames("beat") == list(range(0, 400, plan.beat_frames))
        assert frames("lead struck") == sorted({note.start for note in notes["lead"]})
        assert frames(f"lead is {plan.lead}") == list(range(400))
        assert bool(notes["drums"]) == any(frames(f"{drum} struck") for drum in DRUMS)
    assert len(MARKS) <= 64


# Captions


def labels_of(plan) -> dict[str, object]:
    extra = {"tempo_bpm": plan.tempo_bpm, "bass": plan.bass, "drums": plan.drums, "pace": pace_of(plan.tempo_bpm)}
    return {**asdict(plan), **extra}


def test_captions_say_nothing_false():
    for seed in range(3000):
        rng = numpy_rng(seed)
        plan = draw_plan(rng)
        truth, caption = labels_of(plan), describe(plan, rng)
        read = read_caption(caption)
        assert all(truth[name] == value for name, value in read.items()), (caption, read)


def test_whatever_a_caption_names_can_be_read_back():
    everything = {"genre", "mode", "pace", "tempo_bpm", "key", "lead", "bass", "drums"}
    for seed in range(500):
        rng = numpy_rng(seed)
        plan = draw_plan(rng)
        caption = describe(plan, rng, CaptionOdds.all_named())
        named = everything | {"chords"} if plan.chords else everything
        assert named <= set(read_caption(caption)), caption


def test_the_vocabulary_holds_every_word_of_every_caption_and_of_the_held_out_prompts():
    words = set(vocabulary())
    assert 300 < len(words) < 500
    rng = numpy_rng(0)
    seen = set()
    for _ in range(3000):
        caption = describe(draw_plan(rng), rng)
        seen.add(caption)
        assert set(re.findall(r"[a-z0-9]+|[^a-z0-9 ]", caption)) <= words, caption
    assert len(seen) > 2900 and not seen & set(PROMPTS)
    for prompt in PROMPTS:
        assert set(re.findall(r"[a-z0-9]+", prompt)) <= words


def test_prompts_of_a_person_are_read_and_unknown_words_passed_over():
    labels = read_caption("An epic FLUTE melody in A minor, 125 bpm, four on the floor beat, no bass, wobbly")
    assert labels == {
        "lead": "flute",
        "key": 9,
        "mode": "minor",
        "tempo_bpm": 125,
        "drum_pattern": "dance",
        "drums": True,
        "bass": False,
    }
    assert read_caption("wobbly") == {}
    assert key_name(0, "major") == "c major" and key_name(1, "minor", 1) == "d flat minor"
    assert read_caption(PROMPTS[0]) == {"genre": "synthwave", "lead": "synth", "drums": True, "bass": True}
    assert read_caption(PROMPTS[1]) == {"genre": "jazz", "lead": "saxophone", "chords": "piano", "drums": True}


def test_a_steady_song_comes_back_note_for_note():
    for seed in split_seeds("steady-test", 60):
        plan, notes = write_score(seed, 800)
        assert plan.steady and plan.tune is None and plan.beat_frames in STEADY_TEMPI
        loop = plan.loop * plan.beats * plan.beat_frames
        for part in notes.values():
            struck = {(note.start, note.pitch) for note in part}
            late = {each for each in struck if each[0] >= loop}
            assert plan.ending or all((start - loop, pitch) in struck for start, pitch in late)
    varied = [write_score(seed, 800) for seed in split_seeds("test", 60)]
    assert any(plan.tune for plan, _ in varied) and not any(plan.steady for plan, _ in varied)
