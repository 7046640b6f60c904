"""A folder of songs becomes pieces: cut, captioned, encoded once, split by song; bad files are told by name."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from musicgen.evaluation.folders import write_sound
from musicgen.finetuning import make_dataset
from musicgen.finetuning.pieces import cut_song
from musicgen.finetuning.songs import find_songs, split_songs
from tests.conftest import golden_model
from tests.musicgen.finetuning.conftest import RATE, tune


@pytest.fixture
def folder(songs, tmp_path):
    return shutil.copytree(songs, tmp_path / "songs")


def made(folder, **settings):
    m = golden_model("hf-text")
    return make_dataset(folder, m.codec, m.config, **{"seconds": 2.0, "overlap": 0.5, "held_out": 0.25, **settings})


def test_a_song_is_cut_into_windows_that_overlap_and_its_end_is_a_piece_too():
    cuts = cut_song(tune(300.0, 5.2), RATE, 2.0, 0.5)
    assert [cut.start / RATE for cut in cuts] == [0.0, 1.0, 2.0, 3.0]
    assert {cut.length for cut in cuts} == {2 * RATE}
    ending = cut_song(tune(300.0, 7.5), RATE, 4.0, 0.0)
    assert [(cut.start / RATE, cut.length / RATE) for cut in ending] == [(0.0, 4.0), (3.5, 4.0)]
    assert [cut.length / RATE for cut in cut_song(tune(300.0, 1.5), RATE, 2.0, 0.5)] == [1.5]


def test_silence_is_left_out_and_the_level_is_told():
    silence = torch.zeros(1, 3 * RATE)
    song = torch.cat([silence, tune(300.0, 2.0), silence, tune(300.0, 2.0, level=0.03), silence], dim=1)
    cuts = cut_song(song, RATE, 1.0, 0.0)
    assert cuts[0].start / RATE == pytest.approx(3.0, abs=0.06)
    assert cuts[-1].level == pytest.approx(cuts[0].level - 20, abs=1.5)
    assert all(not 5.1 < cut.start / RATE < 6.9 for cut in cuts)
    assert cut_song(silence, RATE, 1.0, 0.0) == []


def test_captions_come_from_text_files_lists_or_one_for_all_and_a_trigger_stands_before_them(folder):
    captions = {song.name: song.caption for song in find_songs(folder, trigger="kalo")[0]}
    assert captions["song_1.wav"] == "kalo, a piano song 1"
    (folder / "song_1.txt").unlink()
    assert find_songs(folder, caption="a tune")[0][1].caption == "a tune"
    assert find_songs(folder, trigger="kalo")[0][1].caption == "kalo"
    with pytest.raises(ValueError, match=r"1 of 4 songs in .* have no caption, first song_1.wav; write one into"):
        find_songs(folder)
    lines = [json.dumps({"file": f"song_{n}.wav", "caption": f"number {n}"}) for n in range(4)]
    (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert [song.caption for song in find_songs(folder)[0]] == [f"number {n}" for n in range(4)]


def test_songs_are_held_out_by_their_content_so_that_new_ones_do_not_move_them(folder):
    before = find_songs(folder)[0]
    held = {before[index].content for index in split_songs(before, 0.25)}
    shutil.copy(folder / "song_0.wav", folder / "copy.wav")
    write_sound(folder / "another.wav", tune(777.0, 3.0), RATE)
    after, notes = find_songs(folder, caption="x")
    assert notes == ["song_0.wav is left out: its content is that of copy.wav."]
    assert len(held) == 1 and held <= {after[index].content for index in split_songs(after, 0.4)}
    assert split_songs(before[:2], 0.5) == frozenset() == split_songs(before, 0.0)


def test_a_dataset_has_the_codes_of_its_pieces_and_tells_itself(dataset):
    m = golden_model("hf-text")
    assert {piece.codes.shape[0] for piece in dataset.pieces} == {m.config.num_codebooks}
    assert max(piece.codes.shape[1] for piece in dataset.pieces) == 2 * m.config.frame_rate
    assert len(dataset.held_out) == 1 and len(dataset.train) + len(dataset.test) == len(dataset.pieces)
    assert dataset.text().splitlines()[0] == "4 songs, 0.3 min, 2 captions"
    assert any(note.startswith("only 18 s of music") for note in dataset.notes)


def test_encodings_are_made_once_and_a_damaged_one_again(folder, tmp_path, monkeypatch):
    m, cache, calls = golden_model("hf-text"), tmp_path / "cache", []
    encode = type(m.codec).encode
    monkeypatch.setattr(type(m.codec), "encode", lambda self, *values: calls.append(1) or encode(self, *values))
    first = made(folder, cache=cache)
    count = len(calls)
    assert count == len(first.pieces)
    second = made(folder, cache=cache)
    assert len(calls) == count and second.fingerprint() == first.fingerprint()
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(first.pieces, second.pieces, strict=True))
    assert made(folder).fingerprint() == first.fingerprint()
    (cached := sorted(cache.rglob("*.safetensors")))[0].write_bytes(b"no tensors")
    made(folder, cache=cache)
    assert len(calls) > 2 * count and len(cached) == 4
    made(folder, cache=cache, seconds=1.5)
    assert len(list(cache.rglob("*.safetensors"))) == 8
    assert not list(cache.rglob("*.part"))


def test_cancel_leaves_whole_encodings_alone(folder, tmp_path):
    class Cancelled(Exception):
        pass

    def on_song(done, total):
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        made(folder, cache=tmp_path / "cache", on_song=on_song)
    assert len(list((tmp_path / "cache").rglob("*"))) == 3  # the codec's folder and two songs


def test_the_pieces_of_a_melody_model_have_their_own_chroma(songs):
    m = golden_model("hf-melody")
    melodic = make_dataset(songs, m.codec, m.config, seconds=2.0)
    assert all(piece.chroma is not None and piece.chroma.shape[1] == 12 for piece in melodic.pieces)


def test_broken_and_silent_files_are_told_and_the_others_are_taken(folder):
    (folder / "broken.mp3").write_bytes(b"this is no sound")
    write_sound(folder / "silent.wav", torch.zeros(1, 3 * RATE), RATE)
    notes = made(folder, caption="x").notes
    assert any("broken.mp3 is left out" in note and "cannot be read as sound" in note for note in notes)
    assert "silent.wav is left out: it has no second of sound above -60 dB." in notes


def test_a_folder_without_anything_to_train_on_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder; give one that holds files of sound"):
        made(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no sound; allowed are files that end in"):
        made(tmp_path / "empty")
    write_sound(tmp_path / "empty" / "short.wav", tune(300.0, 0.5), RATE)
    with pytest.raises(ValueError, match=r"holds no song to train on. short.wav is left out"):
        made(tmp_path / "empty", caption="x")
    with pytest.raises(ValueError, match="the length of a piece is 90 s; allowed is 1 to 30 s, the window of hf-text"):
        made(tmp_path / "empty", caption="x", seconds=90.0)


def test_one_file_of_a_second_is_a_dataset_with_a_warning(tmp_path):
    write_sound(tmp_path / "one.wav", tune(300.0, 1.0), RATE)
    found = made(tmp_path, caption="x")
    assert (len(found.pieces), len(found.held_out)) == (1, 0)
    assert any("only 1 s of music" in note for note in found.notes)
    assert any("too few to hold one out" in note for note in found.notes)
