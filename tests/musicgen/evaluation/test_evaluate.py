"""Two folders in, figures out: the library's call, the command, and a sentence for each bad input."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from musicgen.evaluation import (
    Ears,
    Options,
    chroma_cosine,
    evaluate,
    frechet_distance,
    kernel_distance,
    likelihood,
    nearest_neighbours,
)
from musicgen.evaluation.command import main
from musicgen.evaluation.embedders.encodec import EncodecStates
from musicgen.evaluation.folders import list_sounds, read_sound, write_sound
from musicgen.evaluation.folders.cache import stored_form
from musicgen.evaluation.measures import parse_measure
from musicgen.evaluation.tags import kl_divergence
from tests.conftest import GOLDEN, golden_model
from tests.musicgen.evaluation.small import noise, write_clap, write_classifier

pytest.importorskip("av")

MODEL = GOLDEN / "checkpoints" / "hf-text"
RATE = 32000


def tone(semitones: int, seconds: float = 1.0) -> torch.Tensor:
    time = torch.arange(round(seconds * RATE)) / RATE
    return 0.3 * torch.sin(2 * torch.pi * 220 * 2 ** (semitones / 12) * time)[None] + noise(
        1, len(time), seed=semitones
    )


def write_folder(folder: Path, tones: list[int], captions: bool = True) -> Path:
    folder.mkdir()
    for number, semitones in enumerate(tones):
        write_sound(folder / f"{number}.wav", tone(semitones), RATE)
        if captions:
            (folder / f"{number}.txt").write_text(f"tone {semitones}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("sounds")
    return write_folder(base / "reference", [0, 4, 7, 12]), write_folder(base / "candidates", [0, 5, 7])


@pytest.fixture(scope="module")
def ears() -> Ears:
    return Ears(model=golden_model("hf-text"))


def states(folder: Path) -> list[torch.Tensor]:
    """The rows of each sound in the form that they are kept in."""
    hear = EncodecStates(golden_model("hf-text").codec)
    return [stored_form(hear.listen(read_sound(path)[0][0])).float() for path in list_sounds(folder)]


def test_every_figure_is_that_of_the_plain_functions(folders, ears, tmp_path):
    reference, candidates = folders
    asked = ["fad:encodec", "fad-inf:encodec", "fad-song:encodec", "kad:encodec", "neighbours:encodec"]
    asked += ["chroma", "likelihood", "memorisation", "health", "duplicates"]
    seen: list[tuple[str, int, int]] = []
    options = Options(measures=asked, cache=tmp_path, on_file=lambda *done: seen.append(done))
    report = evaluate(reference, candidates, ears, options)
    ours, theirs = states(candidates), states(reference)
    assert report["fad:encodec"].value == pytest.approx(frechet_distance(torch.cat(ours), torch.cat(theirs)), rel=1e-6)
    assert report["kad:encodec"].value == pytest.approx(kernel_distance(torch.cat(ours), torch.cat(theirs)), rel=1e-6)
    songs = [frechet_distance(each, torch.cat(theirs)) for each in ours]
    assert [report.files[f"{n}.wav"]["fad-song:encodec"] for n in range(3)] == pytest.approx(songs, rel=1e-6)
    means = [torch.stack([each.mean(dim=0) for each in rows]) for rows in (ours, theirs)]
    near = nearest_neighbours(*means)
    assert [report.files[f"{n}.wav"]["neighbours:encodec"] for n in range(3)] == pytest.approx(near.cosines.tolist())
    assert report.files["0.wav"]["neighbours:encodec, nearest"] == "0.wav"
    cosines = [chroma_cosine(*(read_sound(f / f"{n}.wav")[0] for f in (candidates, reference)), RATE) for n in range(3)]
    assert report["chroma cosine"].value == pytest.approx(float(torch.cat(cosines).mean()), abs=1e-6)
    model = golden_model("hf-text")
    codes = model.encode(read_sound(candidates / "1.wav")[0][None], RATE)
    nats = likelihood(model, codes, ["tone 5"]).cross_entropy
    assert report.files["1.wav"]["cross entropy by the own pattern"] == pytest.approx(nats, abs=1e-6)
    # The first and the third candidate are the first and the third reference.
    assert report["exact copies"].values == (1.0, 0.0, 1.0)
    assert report["silent"].value == 0.0 and report["duplicates"].value == 0.0
    low, high = report["fad:encodec"].interval
    assert 0 <= low < report["fad:encodec"].value < high
    assert seen[-1] == ("candidates", 3, 3) and seen[0] == ("reference", 1, 4) and not report.bad


def test_kept_rows_give_the_same_figures_and_no_sound_is_read_again(folders, ears, tmp_path, monkeypatch):
    options = Options(measures=["fad:encodec", "kad:encodec", "health"], cache=tmp_path)
    first = evaluate(*folders, ears, options)
    monkeypatch.setattr("musicgen.evaluation.listening.read_sound", lambda path: pytest.fail(f"{path} was read"))
    assert evaluate(*folders, ears, options).as_dict() == first.as_dict()


def test_measures_by_clap_and_tags_are_those_of_their_models(folders, tmp_path):
    write_clap(tmp_path / "clap")
    write_classifier(tmp_path / "tags")
    ears = Ears(search=[tmp_path])
    report = evaluate(*folders, ears, Options(measures=["clap-score", "kl", "fad:clap"]))
    clap, tags = ears.listener("clap"), ears.listener("tags")
    waves = [read_sound(folders[1] / f"{n}.wav")[0] for n in range(3)]
    scores = [float(clap.score(wave, RATE, [f"tone {t}"])) for wave, t in zip(waves, (0, 5, 7), strict=True)]
    assert report["CLAP score"].values == pytest.approx(scores, abs=1e-3)
    from musicgen.audio import resample

    chances = [
        [tags.listen(resample(read_sound(folder / f"{n}.wav")[0][0], RATE, 16000))[0] for n in range(3)]
        for folder in folders
    ]
    kl = [float(kl_divergence(theirs, ours)) for theirs, ours in zip(*chances, strict=True)]
    assert report["KL, reference || candidate"].values == pytest.approx(kl, abs=1e-3)
    assert report["KL, candidate || reference"].values != report["KL, reference || candidate"].values


def test_statistics_take_the_place_of_a_reference(folders, tmp_path, capsys):
    command = [str(folders[1]), "--measures", "fad:encodec", "--model", str(MODEL), "--no-cache", "--quiet"]
    saved = str(tmp_path / "own.npz")
    main(["--save-statistics", saved, str(folders[0]), "--measures", "encodec", *command[3:]])
    assert "mean and covariance of encodec" in capsys.readouterr().out
    main([saved, *command, "--json", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())["figures"]["fad:encodec"]["value"]
    assert found == pytest.approx(
        frechet_distance(torch.cat(states(folders[1])), torch.cat(states(folders[0]))), rel=1e-6
    )
    assert capsys.readouterr().out.splitlines()[2].startswith("| fad:encodec | ")


def test_without_names_all_that_can_be_measured_is_and_the_rest_is_explained(folders, capsys):
    main(["-", str(folders[1]), "--no-cache", "--weights", "nowhere"])
    out = capsys.readouterr().out
    assert "| silent | 0.000" in out and "| duplicates |" in out
    assert "vggish-10086976.pth" not in out  # distances lack a reference, before any weights
    main([*map(str, folders), "--no-cache", "--weights", "nowhere"])
    out = capsys.readouterr().out
    assert "| chroma cosine |" in out and "put vggish-10086976.pth" in out and "nowhere" in out


def test_bad_files_end_the_run_or_are_listed(folders, ears, tmp_path):
    broken = Path(shutil.copytree(folders[1], tmp_path / "broken"))
    (broken / "x.wav").write_bytes(b"nothing")
    shutil.copy(broken / "0.wav", broken / "again.wav")
    write_sound(broken / "quiet.wav", torch.zeros(1, RATE), RATE)
    write_sound(broken / "loud.wav", 9 * tone(3), RATE)
    options = Options(measures=["health", "duplicates"])
    with pytest.raises(ValueError, match=r"x.wav cannot be read.*--skip-bad"):
        evaluate(None, broken, ears, options)
    report = evaluate(None, broken, ears, Options(measures=["health", "duplicates"], skip_bad=True))
    assert len(report.bad) == 1 and "x.wav" in report.bad[0] and report.counts == (0, 6)
    assert report.files["again.wav"]["duplicate of"] == "0.wav"
    assert (report.files["quiet.wav"]["silent"], report.files["loud.wav"]["beyond full scale"]) == (1.0, 1.0)


def refusals(tmp_path: Path, folders: tuple[Path, Path]) -> dict[str, tuple[list[str], str]]:
    """Arguments of bad commands, and words of the sentence that each ends with."""
    reference, candidates = map(str, folders)
    empty, one, silent, mute = (tmp_path / name for name in ("empty", "one", "silent", "mute"))
    empty.mkdir()
    write_folder(one, [1])
    write_folder(mute, [2, 3], captions=False)
    silent.mkdir()
    for number in range(2):
        write_sound(silent / f"{number}.wav", torch.zeros(1, RATE), RATE)
    np.savez(tmp_path / "narrow.npz", mu=np.zeros(3), cov=np.eye(3))
    model = ["--model", str(MODEL)]
    return {
        "no folder": ([str(tmp_path / "missing"), candidates], "is no folder"),
        "an empty folder": ([reference, str(empty)], "holds no sound"),
        "one file": ([reference, str(one), "--measures", "fad:encodec", *model], "holds one sound, 0.wav"),
        "no captions": ([reference, str(mute), "--measures", "clap-score"], "captions are needed"),
        "no pairs": ([str(mute), str(write_other(tmp_path)), "--measures", "chroma"], "same file name"),
        "silence": ([reference, str(silent), "--measures", "fad:encodec", *model], "all 2 sounds in .* are silent"),
        "another width": (
            [str(tmp_path / "narrow.npz"), candidates, "--measures", "fad:encodec", *model],
            "16 wide and the reference's 3",
        ),
        "statistics where sounds are needed": (
            [str(tmp_path / "narrow.npz"), candidates, "--measures", "kad:encodec", *model],
            "give a folder of sounds",
        ),
        "no such measure": ([reference, candidates, "--measures", "fid"], "measure 'fid' does not exist"),
        "no model": ([reference, candidates, "--measures", "likelihood"], "give --model"),
        "no weights": ([reference, candidates, "--measures", "fad:vggish"], "put vggish-10086976.pth"),
        "no reference": (["-", candidates, "--measures", "fad:clap"], "compare with a reference"),
        "nothing": ([], "a reference and candidates are needed"),
    }


def write_other(tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    folder.mkdir()
    write_sound(folder / "elsewhere.wav", tone(1), RATE)
    return folder


def test_each_bad_input_ends_the_command_with_one_sentence(folders, tmp_path, capsys):
    for what, (arguments, words) in refusals(tmp_path, folders).items():
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--no-cache", "--quiet"])
        told = capsys.readouterr()
        assert ended.value.code == 2 and not told.out, what
        assert re.search(words, told.err), f"{what}: {told.err}"
        assert len(told.err.splitlines()) == 1, what


def test_measures_are_named_with_their_embedding():
    assert str(parse_measure("fad")) == "fad:clap" and str(parse_measure("kl")) == "kl"
    for name in ("kl:clap", "fad:x", "FAD"):
        with pytest.raises(ValueError, match="does not exist"):
            parse_measure(name)
