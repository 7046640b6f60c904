"""Tokens that are cut, mixed, filled and looped, exactly; and refusals in a sentence where something does not fit."""

from __future__ import annotations

import pytest
import torch

WIDGETS = {"ranges": "", "repeats": 2, "codebooks": "3-4", "bpm": 120.0, "beats_per_bar": 4}
SAMPLING = {"seed": 1, "cfg_coef": 3.0, "temperature": 1.0, "top_k": 250, "top_p": 0.0, "candidates": 2, "rounds": 1}
METER = {"bpm": 120.0, "beats_per_bar": 4}


@pytest.fixture
def edit(run):
    return lambda operation, tokens, **changes: run(
        "EditTokens", operation=operation, tokens=tokens, **(WIDGETS | changes)
    )


@pytest.fixture
def piece(encode, sample):
    """Two pieces of two seconds."""
    return sample(encode("jazz"), duration=2.0, batch_size=2)


@pytest.fixture
def fill(run, load, encode):
    widgets = {"sections": "0.5s - 1s", "before": 0.0, "kept_codebooks": 0, **SAMPLING, **METER}

    def filled(tokens, name="text", **changes):
        return run(
            "Fill",
            **{"model": load(name).model, "positive": encode("jazz", name), "tokens": tokens, **widgets, **changes},
        )

    return filled


@pytest.fixture
def loop(run, load, encode):
    widgets = {**METER, "bars": 1.0, "batch_size": 1, **SAMPLING}

    def looped(name="text", **changes):
        return run("Loop", **{"model": load(name).model, "positive": encode("jazz", name), **widgets, **changes})

    return looped


def test_ranges_in_seconds_bars_and_shares_are_kept_and_reordered(edit, piece):
    codes = piece["codes"]
    made = edit("keep ranges", piece, ranges="1s - 2s\nbeat 1 for 1 beat\n50% - end")
    assert torch.equal(made["codes"], torch.cat([codes[:, :, 50:], codes[:, :, :25], codes[:, :, 50:]], dim=2))
    assert made["num_samples"] is None and made["seed"] is None and piece["seed"] == 1
    assert made["recipe"]["edits"][0]["operation"] == "keep ranges" and "edits" not in piece["recipe"]


def test_sections_of_one_length_are_reversed_and_the_music_is_repeated(edit, piece):
    codes = piece["codes"]
    backwards = edit("reverse sections", piece, ranges="1 beat")
    assert torch.equal(backwards["codes"], torch.cat([codes[:, :, at : at + 25] for at in (75, 50, 25, 0)], dim=2))
    assert edit("repeat", piece, repeats=3)["codes"].shape[2] == 300
    assert edit("remove ranges", piece, ranges="0s - 0.5s")["codes"].shape[2] == 75
    assert len(edit("repeat", backwards)["recipe"]["edits"]) == 2


def test_pieces_are_joined_and_mixed_by_codebook(edit, piece, encode, sample):
    other = sample(encode("rock"), duration=2.0, seed=9)
    assert torch.equal(edit("join", piece, other=other)["codes"][1, :, 100:], other["codes"][0])
    mixed = edit("mix codebooks", piece, other=other)
    assert torch.equal(mixed["codes"][:, :2], piece["codes"][:, :2])
    assert torch.equal(mixed["codes"][:, 2:], other["codes"][:, 2:].expand(2, -1, -1))


def test_dropped_codebooks_add_as_little_as_their_codec_can(edit, piece, load, run):
    codec = load("text").codec
    made = edit("drop codebooks", piece, codec=codec)
    assert torch.equal(made["codes"][:, :2], piece["codes"][:, :2])
    assert torch.equal(made["codes"][0, :, 0][2:], codec.patcher.model.neutral_codes()[2:])
    assert run("EnCodecDecode", codec=codec, tokens=made)["waveform"].shape[2] == 64000


def test_a_section_is_sampled_anew_and_nothing_else(fill, piece, load):
    made = fill(piece, sections="0.5s - 1s\n1.5s - 1.75s")
    changed = torch.zeros(100, dtype=torch.bool)
    changed[25:50] = changed[75:88] = True
    assert torch.equal(made["codes"][:, :, ~changed], piece["codes"][:, :, ~changed])
    assert not torch.equal(made["codes"][:, :, 25:50], piece["codes"][:, :, 25:50])
    assert torch.equal(made["codes"], fill(piece, sections="1.5s - 1.75s\n0.5s - 1s")["codes"])
    heard = fill(piece, codec=load("text").codec)
    assert torch.equal(heard["codes"][:, :, :25], piece["codes"][:, :, :25])


def test_an_item_of_a_batch_is_filled_as_it_is_alone(fill, piece, run):
    both = fill(piece)
    second = run("Pick", index=2, marked="", tokens=piece)[0]
    assert torch.equal(both["codes"][1:], fill(second, seed=2)["codes"])


def test_music_before_a_piece_and_a_variation_keep_the_piece(fill, piece):
    longer = fill({**piece, "num_samples": 63000}, sections="", before=0.5)
    assert longer["codes"].shape[2] == 125 and torch.equal(longer["codes"][:, :, 25:], piece["codes"])
    assert longer["num_samples"] == 63000 + 16000
    varied = fill(piece, sections="", kept_codebooks=2)
    assert torch.equal(varied["codes"][:, :2], piece["codes"][:, :2])
    assert not torch.equal(varied["codes"][:, 2:], piece["codes"][:, 2:])


@pytest.mark.parametrize("name", ["melody", "stereo", "style"])
def test_every_kind_of_model_fills_and_loops(fill, loop, encode, sample, name):
    tokens = sample(encode("jazz", name), name, duration=1.0)
    made = fill(tokens, name, sections="0.2s - 0.6s")
    assert torch.equal(made["codes"][:, :, 30:], tokens["codes"][:, :, 30:])
    assert loop(name, bars=0.5)["codes"].shape[2] == 50


def test_a_loop_is_exact_to_the_sample_and_is_decoded_as_a_loop(loop, run, load, tmp_path):
    tokens = loop(bpm=113.0, batch_size=2, codec=load("text").codec)
    samples = round(4 * 60 / 113 * 32000)
    assert tokens["loop"] and tokens["num_samples"] == samples and tokens["codes"].shape == (2, 4, 106)
    assert torch.equal(tokens["codes"][1:], loop(bpm=113.0, seed=2, codec=load("text").codec)["codes"])
    codec = load("text").codec
    audio = run("EnCodecDecode", codec=codec, tokens=tokens, level="as it is")["waveform"]
    assert audio.shape[2] == samples > 106 * 640
    # Begun elsewhere, the loop is the same sound.
    moved = {**tokens, "codes": tokens["codes"].roll(-53, 2), "num_samples": 106 * 640}
    plain = {**tokens, "num_samples": 106 * 640}
    ours, theirs = (
        run("EnCodecDecode", codec=codec, tokens=each, level="as it is")["waveform"] for each in (plain, moved)
    )
    assert torch.allclose(ours.roll(-53 * 640, 2), theirs, atol=1e-3)


def test_a_loop_stays_one_on_disk_and_after_a_mix_but_not_after_a_cut(loop, edit, run, load):
    tokens = loop(bars=0.5)
    run("SaveTokens", tokens=tokens, filename_prefix="tokens/loop")
    again, _ = run("LoadTokens", file="tokens/loop_00001_.safetensors [output]")
    assert again["loop"] and again["num_samples"] == tokens["num_samples"]
    assert edit("mix codebooks", tokens, other=tokens)["loop"]
    assert "loop" not in edit("keep ranges", tokens, ranges="0s - 0.5s")


def test_a_loop_is_made_of_a_piece(loop, piece):
    made = loop(bars=0.75, tokens=piece, batch_size=2)
    assert made["codes"].shape[2] == 75 and torch.equal(made["codes"][:, :, :50], piece["codes"][:, :, :50])


@pytest.mark.parametrize(
    ("operation", "changes", "sentence"),
    [
        ("keep ranges", {}, "no range was given"),
        ("keep ranges", {"ranges": "1s - 4s"}, "1 s - 4 s ends beyond the piece, which lasts 2 s"),
        ("keep ranges", {"ranges": "soon"}, "'soon' is not a range"),
        ("keep ranges", {"ranges": "1s - 1.001s"}, "shorter than a frame"),
        ("remove ranges", {"ranges": "0s - 1s\n0.5s - 1.5s"}, "0 s - 1 s and 0.5 s - 1.5 s overlap"),
        ("join", {}, "'join' needs a second piece"),
        ("mix codebooks", {}, "needs a second piece"),
        ("drop codebooks", {}, "needs the codec"),
        ("keep ranges", {"ranges": "0s - 1s", "bpm": 0.0}, "bpm is 0; allowed"),
    ],
)
def test_edits_that_do_not_fit_are_refused_in_a_sentence(edit, piece, operation, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        edit(operation, piece, **changes)


def test_tokens_of_another_codec_are_refused(edit, fill, loop, piece, encode, sample):
    other = sample(encode("jazz", "melody"), "melody")
    with pytest.raises(ValueError, match="belong to another codec"):
        edit("join", piece, other={**other, "codec": "another"})
    with pytest.raises(ValueError, match="belong to the codec of"):
        fill({**piece, "codec": "another"})
    with pytest.raises(ValueError, match="belong to the codec of"):
        loop(tokens={**piece, "codec": "another"}, batch_size=2)
    with pytest.raises(ValueError, match="codebooks is 'all'"):
        edit("mix codebooks", piece, other=piece, codebooks="all")
    with pytest.raises(ValueError, match="codebook 5 was named"):
        edit("mix codebooks", piece, other=piece, codebooks="5")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sections": ""}, "nothing is to be sampled"),
        ({"sections": "0s - 1s\n0.5s - 1.5s"}, "overlap"),
        ({"sections": "1s - 3s"}, "beyond the piece"),
        ({"kept_codebooks": 4}, "allowed are 0 to 3"),
    ],
)
def test_fills_that_do_not_fit_are_refused_in_a_sentence(fill, piece, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        fill(piece, **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bpm": 0.0}, "bpm is 0; allowed"),
        ({"bars": 0.25}, "are 0.5 seconds; allowed is a loop of at least 1 second"),
        ({"bars": 1000.0, "bpm": 20.0}, "are 12000 seconds; allowed is a loop of at most 3600 seconds"),
    ],
)
def test_loops_that_do_not_fit_are_refused_in_a_sentence(loop, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        loop(**changes)


def test_a_loop_longer_than_its_piece_is_refused(loop, piece):
    with pytest.raises(ValueError, match=r"2 s long, shorter than the loop of 4 s"):
        loop(bars=2.0, tokens=piece, batch_size=2)
