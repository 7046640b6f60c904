"""Files of sound, captions, statistics and the cache."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from musicgen.evaluation import statistics_of
from musicgen.evaluation.folders import list_sounds, read_captions, read_sound, write_sound
from musicgen.evaluation.folders.cache import RowCache
from musicgen.evaluation.folders.captions import read_list
from musicgen.evaluation.folders.statistics_file import read_statistics, write_statistics
from tests.musicgen.evaluation.small import noise

pytest.importorskip("av")


def test_a_sound_is_written_with_samples_beyond_full_scale_and_read_as_it_was(tmp_path):
    audio = 20 * noise(2, 3001)
    write_sound(tmp_path / "a.wav", audio, 44100)
    found, rate = read_sound(tmp_path / "a.wav")
    assert rate == 44100 and torch.equal(found, audio) and found.abs().max() > 1


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_other_formats_rates_and_channels_are_read(suffix, tmp_path):
    import soundfile

    wave = noise(2, 22050).numpy()
    soundfile.write(tmp_path / f"a.{suffix}", wave.T, 22050)
    found, rate = read_sound(tmp_path / f"a.{suffix}")
    assert rate == 22050 and found.shape[0] == 2
    assert abs(found.shape[1] - 22050) < 2000
    if suffix != "ogg":
        assert np.abs(found.numpy()[:, :22050] - wave).max() < 1e-4


@pytest.mark.parametrize("kind", ["PCM_16", "PCM_32", "FLOAT", "PCM_24", "DOUBLE", "PCM_U8"])
def test_wave_files_of_every_kind_are_read_as_soundfile_reads_them(kind, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "a.wav", noise(4001, 2).numpy(), 16000, subtype=kind)
    expected, _ = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    found, rate = read_sound(tmp_path / "a.wav")
    assert rate == 16000
    np.testing.assert_allclose(found.numpy(), expected.T, atol=1e-7)


def test_sounds_are_listed_by_name_in_all_folders_below(tmp_path):
    for name in ("b.WAV", "below/a.flac", ".hidden/c.wav", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_sounds(tmp_path)] == ["b.WAV", "a.flac"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no sound"):
        list_sounds(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="is no folder"):
        list_sounds(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", b"RIFF1234WAVE", b"no sound at all" * 100])
def test_a_damaged_file_is_named_in_a_sentence(content, tmp_path):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.wav cannot be read as sound"):
        read_sound(tmp_path / "a.wav")


def test_captions_come_from_files_beside_sounds_or_from_one_list(tmp_path):
    sounds = [tmp_path / name for name in ("a.wav", "b.wav", "c.wav")]
    for sound in sounds:
        sound.write_bytes(b"")
    (tmp_path / "a.txt").write_text("a flute\n", encoding="utf-8")
    assert read_captions(tmp_path, sounds) == {sounds[0]: "a flute"}
    (tmp_path / "captions.jsonl").write_text('{"file": "b.wav", "caption": "drums"}\n', encoding="utf-8")
    assert read_captions(tmp_path, sounds) == {sounds[1]: "drums"}
    (tmp_path / "list.csv").write_text('ytid,start_s,caption\na,1,"one, two"\nc,2,bass\n', encoding="utf-8")
    assert read_captions(tmp_path, sounds, tmp_path / "list.csv") == {sounds[0]: "one, two", sounds[2]: "bass"}
    (tmp_path / "plain.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    assert read_list(tmp_path / "plain.txt") == [(None, "one"), (None, "two")]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.csv", "file,caption\nz.wav,x\n", "names 1 files, first 'z.wav', and none of the 1"),
        ("l.csv", "file,words\na.wav,x\n", "entry 1 has file, words"),
        ("l.jsonl", "{", "no .jsonl in UTF-8"),
        ("l.jsonl", "[1]\n", "entry 1 has list"),
        ("l.xml", "", "allowed for a list of captions"),
        ("l.txt", "\n", "holds no caption"),
    ],
)
def test_lists_that_give_no_caption_are_refused_in_a_sentence(name, text, words, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        read_captions(tmp_path, [tmp_path / "a.wav"], tmp_path / name)


def listener(name: str = "clap", fingerprint: str = "one", aliases: tuple[str, ...] = ("clap-laion-music",)):
    return SimpleNamespace(name=name, fingerprint=fingerprint, aliases=aliases)


def test_statistics_are_written_as_they_are_read_and_as_other_toolkits_name_them(tmp_path):
    own = statistics_of(noise(40, 8))
    write_statistics(tmp_path / "own.npz", [(listener(), own)])
    found = read_statistics(tmp_path / "own.npz", listener())
    assert torch.equal(found.mean, own.mean) and torch.equal(found.covariance, own.covariance) and found.count == 40
    with np.load(tmp_path / "own.npz") as file:
        assert file["clap-laion-music.mu"].shape == (8,)
    np.savez(tmp_path / "theirs.npz", **{"vggish.mu": own.mean, "vggish.cov": own.covariance})
    assert torch.equal(read_statistics(tmp_path / "theirs.npz", listener("vggish")).covariance, own.covariance)
    np.savez(tmp_path / "plain.npz", mu=own.mean, sigma=own.covariance)
    assert read_statistics(tmp_path / "plain.npz", listener("mert")).width == 8


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"vggish.mu": np.zeros(3), "vggish.cov": np.eye(3)}, "holds statistics of vggish; needed are those of clap"),
        ({"clap.mu": np.zeros(3), "clap.cov": np.eye(4)}, r"mean of shape \[3\] and a covariance of \[4, 4\]"),
        ({"clap.mu": np.zeros(3)}, "no clap.cov"),
        ({"clap.mu": np.full(3, np.nan), "clap.cov": np.eye(3)}, "not finite"),
        ({"clap.mu": np.zeros(3), "clap.cov": np.eye(3), "clap.fingerprint": np.array("two")}, "two is not one"),
    ],
)
def test_statistics_that_do_not_fit_are_refused_in_a_sentence(arrays, words, tmp_path):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        read_statistics(tmp_path / "s.npz", listener())


def test_statistics_in_a_pickle_or_none_at_all_are_refused(tmp_path):
    np.savez(tmp_path / "s.npz", mu=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="no .npz file of plain arrays"):
        read_statistics(tmp_path / "s.npz", listener())
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_statistics(tmp_path / "none.npz", listener())


def test_rows_are_kept_by_content_and_listener_and_come_back_as_they_were_used(tmp_path):
    rows = noise(5, 4)
    with RowCache(tmp_path, "clap", "one") as cache:
        used = cache.put("a", rows)
        assert used.dtype == torch.float16 and cache.get("a") is used and cache.get("b") is None
        cache.put("c", torch.full((1, 2), 1e6))
        codes = cache.put("d", torch.arange(6, dtype=torch.int16)[None])
    (file,) = (tmp_path / "clap-one").iterdir()
    assert file.suffix == ".safetensors"
    again = RowCache(tmp_path, "clap", "one")
    assert torch.equal(again.get("a"), used) and torch.equal(again.get("d"), codes)
    assert again.get("c").dtype == torch.float32
    assert RowCache(tmp_path, "clap", "two").get("a") is None
    file.write_bytes(b"broken")
    with pytest.raises(ValueError, match="delete it"):
        RowCache(tmp_path, "clap", "one")


def test_without_a_folder_nothing_is_kept(tmp_path):
    with RowCache(None, "clap", "one") as cache:
        cache.put("a", noise(2, 2))
    assert cache.get("a") is None and json.dumps([str(path) for path in tmp_path.iterdir()]) == "[]"
