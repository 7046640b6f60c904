"""Written music leads a melody model, melodies are edited, and become MIDI files."""

from __future__ import annotations

import itertools

import mido
import pytest
import torch

from .conftest import owns_memory, sound

SCORE = {"source": "chords", "text": "C | G | Am | F", "bpm": 0.0, "beats_per_bar": 4}
EDIT = {"transpose": 0, "stretch": 1.0, "repeat": 1}
ABC = 'X:1\nM:4/4\nL:1/4\nQ:1/4=90\nK:Am\n"Am"ABcd|"E7"e2 ^g2|\n'


@pytest.fixture
def score(run):
    return lambda **changes: run("Score", **(SCORE | changes))


@pytest.fixture
def edit(run):
    return lambda melody, **changes: run("EditMelody", **(EDIT | {"melody": melody} | changes))


@pytest.fixture
def folders(comfy, tmp_path, monkeypatch):
    """Empty input and output folders."""
    for name in ("input", "output"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(comfy.folder_paths, f"{name}_directory", str(tmp_path / name))
    return tmp_path


def classes(batch) -> list[int]:
    """The pitch class of each frame, of the first melody, without repetitions in a row."""
    frames = batch.items[0].chroma.argmax(dim=1).tolist()
    return [frames[0], *(now for before, now in itertools.pairwise(frames) if now != before)]


class TestScore:
    def test_chords_lead_by_their_roots(self, score):
        melody, image, seconds, bpm, key = score()
        assert classes(melody) == [0, 7, 9, 5] and (seconds, bpm, key) == (8.0, 120.0, "")
        assert image.shape == (1, 384, 768, 3) and owns_memory(image)
        assert torch.equal(melody.items[0].chroma.sum(dim=1), torch.ones(len(melody.items[0].chroma)))

    def test_chords_may_lead_by_all_of_their_notes(self, score):
        chroma = score(notes="all")[0].items[0].chroma
        assert chroma[0].nonzero()[:, 0].tolist() == [0, 4, 7]
        assert classes(score(notes="in turn", text="C")[0])[:3] == [0, 4, 7]

    def test_abc_brings_its_tempo_and_key_and_a_tempo_takes_its_place(self, score):
        melody, _, seconds, bpm, key = score(source="ABC", text=ABC)
        assert classes(melody) == [9, 11, 0, 2, 4, 8]
        assert (seconds, bpm, key) == (pytest.approx(8 * 60 / 90), 90.0, "A minor")
        assert score(source="ABC", text=ABC, bpm=180.0)[2:4] == (pytest.approx(8 * 60 / 180), 180.0)

    def test_the_chords_of_a_score_may_lead_in_place_of_its_melody(self, score):
        assert classes(score(source="ABC", text=ABC, part="chords")[0]) == [9, 4]

    def test_notes_and_rests(self, score):
        text = "E4 G4 - C5"
        assert classes(score(source="notes", text=text)[0]) == [4, 7, 0]
        held, silent = (score(source="notes", text="E4 -", rests=rests)[0] for rests in ("hold the note", "silence"))
        assert classes(held) == [4] and classes(silent) == [4, 0]

    def test_a_midi_file_of_the_input_folder_leads(self, score, folders):
        track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(60))])
        for pitch in (62, 66, 69):
            track += [mido.Message("note_on", note=pitch), mido.Message("note_off", note=pitch, time=480)]
        file = mido.MidiFile(type=0, ticks_per_beat=480)
        file.tracks.append(track)
        (folders / "input" / "tunes").mkdir()
        file.save(folders / "input" / "tunes" / "mine.mid")
        melody, _, seconds, bpm, _ = score(source="MIDI file", file="tunes/mine.mid")
        assert classes(melody) == [2, 6, 9] and (seconds, bpm) == (3.0, 60.0)
        assert classes(score(source="MIDI file", file="tunes\\mine.mid")[0]) == [2, 6, 9]

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"text": "C | H"}, "bar 2 has the chord 'H'"),
            ({"text": "  "}, "the text of chords is empty"),
            ({"source": "ABC", "text": "K:C\n?"}, "line 2 of the ABC text cannot be read"),
            ({"source": "notes", "text": "C4", "part": "chords"}, "no chord symbols"),
            ({"source": "notes", "text": "C4", "voice": 3}, "voice is 3; allowed are 0 for all voices, 1 notes"),
            ({"source": "MIDI file", "file": "none.mid"}, "file is 'none.mid', which does not exist; allowed are none"),
            ({"bpm": 0.5}, "the tempo is 0.5 beats per minute"),
        ],
    )
    def test_music_that_cannot_be_read_is_refused(self, score, folders, changes, words):
        with pytest.raises(ValueError, match=words):
            score(**changes)

    def test_a_damaged_midi_file_is_refused_by_its_name(self, score, folders):
        (folders / "input" / "bad.mid").write_bytes(b"MThd\0\0\0\6\0\1")
        with pytest.raises(ValueError, match=r"bad\.mid is no MIDI file that can be read: it breaks off at byte 10"):
            score(source="MIDI file", file="bad.mid")

    def test_a_score_leads_the_sampler_in_windows_as_in_one(self, score, encode, sample):
        """Two scores that differ only behind the first window give the same start and another end."""
        params = {"duration": 3.0, "window": 2.0, "extend_stride": 1.5}
        pieces = [
            sample(encode("jazz", "melody"), "melody", melody=score(source="notes", text=text, bpm=60.0)[0], **params)
            for text in ("C4:2 E4:2", "C4:2 F#4:2", "C4:2 E4:2")
        ]
        codes = [tokens["codes"] for tokens in pieces]
        assert torch.equal(codes[0], codes[2]) and not torch.equal(codes[0], codes[1])


class TestEditMelody:
    def test_every_edit_is_made_in_its_order(self, score, edit):
        tune = score(source="notes", text="C4 D4 E4 F4 G4 A4 B4 C5")[0]
        batch, image, seconds = edit(
            tune, keep="0s to 2s", silence="bar 1 beat 2 for 1 beat", transpose=2, stretch=2.0, repeat=2
        )
        assert seconds == 8.0 and image.shape[0] == 1
        assert classes(batch) == [2, 0, 6, 7] * 2  # D, silence, F sharp, G

    def test_a_recording_is_edited_like_a_score(self, run, edit):
        melody = run("MelodyChroma", audio=sound(2.0))[0]
        assert classes(edit(melody, transpose=-9)[0]) == [0]
        assert edit(melody, stretch=2.0)[2] == 4.0

    def test_a_second_melody_is_mixed_in_or_appended(self, score, edit):
        one, two = (score(source="notes", text=text)[0] for text in ("C4:4", "A4:4"))
        assert classes(edit(one, other=two)[0]) == [9]
        assert classes(edit(one, other=two, mix_range="1s to 1.5s")[0]) == [0, 9, 0]
        assert classes(edit(one, other=two, how="append")[0]) == [0, 9]
        half = edit(one, other=two, share=0.5)[0].items[0].chroma
        assert half[0].tolist() == [0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0.5, 0, 0]

    def test_a_batch_of_melodies_is_edited_item_by_item(self, run, edit, score):
        melody = run("MelodyChroma", audio=sound(1.0, batch=3))[0]
        other = score(source="notes", text="C4")[0]
        assert len(edit(melody, transpose=1)[0].items) == 3
        assert len(edit(other, other=melody, how="append")[0].items) == 3
        with pytest.raises(ValueError, match="2 other melodies arrived; allowed are 1 or 3"):
            edit(melody, other=run("MelodyChroma", audio=sound(1.0, batch=2))[0])

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"keep": "9s to 10s"}, "the range is 9 to 10 s of a melody of 8 s"),
            ({"silence": "soon"}, "is not a range of time"),
            ({"stretch": 10.0, "repeat": 100}, "the melody gets 8000 seconds long; allowed are 3600"),
        ],
    )
    def test_edits_that_make_no_melody_are_refused(self, score, edit, changes, words):
        with pytest.raises(ValueError, match=words):
            edit(score()[0], **changes)


class TestSaveMidi:
    def test_a_melody_becomes_a_file_that_leads_alike(self, run, score, folders):
        tune = score(source="notes", text="E4 G4 C5:2", bpm=60.0)[0]
        run("SaveMidi", melody=tune, filename_prefix="midi/mine", bpm=60.0)
        (path,) = (folders / "output" / "midi").glob("*")
        assert path.name == "mine_00001_.mid"
        assert [m.note for m in mido.MidiFile(path) if m.type == "note_on"] == [64, 67, 60]
        (folders / "input" / "again.mid").write_bytes(path.read_bytes())
        again, _, _, bpm, _ = score(source="MIDI file", file="again.mid")
        assert bpm == pytest.approx(60) and torch.equal(again.items[0].chroma, tune.items[0].chroma)

    def test_every_melody_of_a_batch_gets_a_file_of_its_own(self, run, folders):
        melody = run("MelodyChroma", audio=sound(1.0, batch=2))[0]
        for _ in range(2):
            run("SaveMidi", melody=melody, filename_prefix="both", bpm=120.0)
        assert len(list((folders / "output").glob("both_*_.mid"))) == 4

    def test_a_place_outside_of_the_output_folder_is_refused(self, run, score, folders):
        with pytest.raises(ValueError, match="allowed are places inside of ComfyUI's output folder"):
            run("SaveMidi", melody=score()[0], filename_prefix="../mine", bpm=120.0)


class TestTempoKey:
    @pytest.mark.parametrize(
        ("text", "bpm", "key", "words"),
        [
            ("slow jazz", 83.0, "A minor", "slow jazz, bpm: 83, key: A minor"),
            ("slow jazz, ", 0.0, "F sharp major", "slow jazz, key: F sharp major"),
            ("", 120.5, "any", "bpm: 120.5"),
            ("slow jazz", 0.0, "any", "slow jazz"),
        ],
    )
    def test_tempo_and_key_become_words(self, run, text, bpm, key, words):
        assert run("TempoKey", text=text, bpm=bpm, key=key) == (words, bpm)

    def test_the_words_of_every_key_are_read_again_by_the_node_that_ranks(self, run, node_list):
        from musicgen.evaluation.asked import key_asked, tempo_asked
        from musicgen.notation.wording import KEYS

        for index, key in enumerate(KEYS):
            words = run("TempoKey", text="jazz", bpm=83.0, key=key)[0]
            assert key_asked(words) == (index % 12, ("major", "minor")[index // 12]) and tempo_asked(words) == 83
