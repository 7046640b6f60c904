"""Training in miniature: losses fall, a killed run goes on exactly, what is exported is loaded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from musicgen import GenerationParams, load_model
from musicgen.codec.encodec import EnCodec
from musicgen.conditioning.melody import MelodyLead, RecordedMelody
from musicgen.conditioning.tokenizer import load_tokenizer
from musicgen.fidelity import mel_distance, si_snr
from musicgen.generation.patterns import named_pattern
from musicgen.lm.transformer import sinusoidal_positions
from musicgen.training.codec import CodecTraining, train_codec
from musicgen.training.decoder import DecoderTraining, train_decoder, widened
from musicgen.training.losses import codes_cross_entropy
from musicgen.training.resume import load_checkpoint, save_checkpoint
from nano import recipes
from nano import study as patterns
from nano.corpus.bank import NEEDED, sound_font
from nano.corpus.captions import vocabulary
from nano.corpus.genres import TEMPI
from nano.corpus.store import CHROMA_STEP
from nano.lm import LMTraining, hidden_spans
from nano.networks import TextAndCodes
from nano.train import Workshop, main
from nano.vocabulary import UNKNOWN_ID, Vocabulary
from tests.conftest import ROOT

PLAN = recipes.MINIATURE


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder after a whole miniature training."""
    if sound_font() is None:
        pytest.skip(NEEDED)
    folder = tmp_path_factory.mktemp("work")
    threads = torch.get_num_threads()
    main(["all", "--work", str(folder), "--miniature", "--device", "cpu"])
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    return folder


@pytest.fixture
def shop(work):
    return Workshop(work, PLAN, "cpu", 0)


def codec_training(shop, **changes) -> CodecTraining:
    return CodecTraining(PLAN.codec, replace(PLAN.codec_recipe, **changes), shop.songs("train"))


def lm_training(shop, kind, **changes) -> LMTraining:
    recipe = replace(PLAN.lm_recipes[kind][0], **changes)
    return LMTraining(PLAN.lms[kind], PLAN.text, recipe, shop.tokens("train"), Vocabulary(vocabulary()))


def test_the_codec_s_loss_falls(shop):
    training = codec_training(shop, autoencoder_steps=10_000)
    losses = [training.step() for _ in range(40)]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])


@pytest.mark.parametrize("kind", ["text", "melody"])
def test_the_language_model_s_loss_falls(shop, kind):
    training = lm_training(shop, kind)
    losses = [float(training.step().mean()) for _ in range(40)]
    assert losses[0] == pytest.approx(np.log(PLAN.codec.card), rel=0.1)
    assert np.mean(losses[-5:]) < losses[0] - 0.2


def decoder_training(shop, **changes) -> DecoderTraining:
    recipe = replace(PLAN.decoder_recipe, **changes)
    return DecoderTraining(shop.codec().codec, recipe, shop.songs("train"), shop.tokens("train").codes)


def test_a_widened_codec_encodes_and_decodes_as_before(shop):
    narrow = shop.codec().codec
    wide = widened(narrow, 2 * PLAN.codec.n_filters, torch.Generator().manual_seed(0))
    assert wide.config.n_filters == 2 * PLAN.codec.n_filters
    songs = torch.from_numpy(shop.songs("valid")[:2].astype(np.float32))[:, None]
    codes = narrow.encode(songs, narrow.sample_rate)
    assert torch.equal(wide.encode(songs, wide.sample_rate), codes)
    assert (wide.decode(codes) - narrow.decode(codes)).abs().max() < 1e-5
    with pytest.raises(ValueError, match="n_filters is 1, but the codec has 2"):
        widened(narrow, 1, torch.Generator())


def test_a_decoder_s_training_lowers_its_loss_and_leaves_the_codes_alone(shop, tmp_path):
    training = decoder_training(shop, steps=60, n_filters=4)
    songs = shop.songs("valid")[:2]
    before = shop.codec().codec
    losses = [training.step() for _ in range(40)]
    assert np.mean(losses[-8:]) < 0.95 * np.mean(losses[:8])
    after = train_decoder(training, tmp_path / "decoder.pt", songs[:, :16000])
    audio = torch.from_numpy(songs.astype(np.float32))[:, None]
    assert torch.equal(after.encode(audio, 16000), before.encode(audio, 16000))
    assert isinstance(after, EnCodec) and not torch.equal(after.decode(after.encode(audio, 16000)), audio)
    again = train_decoder(decoder_training(shop, steps=60, n_filters=4), tmp_path / "decoder.pt", songs[:, :16000])
    assert all(torch.equal(a, b) for a, b in zip(after.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    "make",
    [codec_training, decoder_training, lambda s: lm_training(s, "text"), lambda s: lm_training(s, "melody")],
)
def test_a_training_goes_on_from_its_checkpoint_exactly(shop, make, tmp_path):
    straight = make(shop)
    straight.step_number = 28 if straight.recipe.steps > 30 else 0
    for _ in range(3):
        straight.step()
    save_checkpoint(tmp_path / "x.pt", straight.state())
    expected = [straight.step() for _ in range(3)]
    resumed = make(shop)
    resumed.restore(load_checkpoint(tmp_path / "x.pt", resumed.settings()))
    for value in expected:
        assert torch.equal(torch.as_tensor(resumed.step()), torch.as_tensor(value))


def test_a_killed_training_ends_with_the_same_weights(work, shop, tmp_path):
    """kill -9 in the middle, then the same command again."""
    script = f"""
import sys, torch
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from musicgen.training import codec
from nano import recipes
from nano.train import Workshop
torch.set_num_threads(1)
shop = Workshop(Path({str(work)!r}), recipes.MINIATURE, "cpu", 0)
plan = recipes.MINIATURE
songs = shop.songs("train")
training = codec.CodecTraining(plan.codec, plan.codec_recipe, songs)
codec.train_codec(training, Path(sys.argv[1]), songs[:2, :16000], every_seconds=0.0, judge_every=1000)
"""
    command = [sys.executable, "-c", script]
    straight, killed = tmp_path / "straight.pt", tmp_path / "killed.pt"
    subprocess.run([*command, str(straight)], check=True, stderr=subprocess.DEVNULL)
    process = subprocess.Popen([*command, str(killed)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not killed.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*command, str(killed)], check=True, stderr=subprocess.DEVNULL)
    first, second = (torch.load(path, weights_only=True) for path in (straight, killed))
    assert first["step"] == second["step"] == PLAN.codec_recipe.steps
    assert all(torch.equal(first["codec"][name], second["codec"][name]) for name in first["codec"])


@pytest.mark.parametrize("melody", [False, True])
def test_a_model_that_begins_with_induction_foresees_repeats_untrained(melody):
    kind = "melody" if melody else "text"
    config = recipes.NANO.lms[kind]
    rng = torch.Generator().manual_seed(0)
    bar = torch.randint(config.card, (4, 4, 60), generator=rng)
    codes = bar.repeat(1, 1, 2)
    text = torch.tensor([[5, 9, 1]]).expand(4, 3)
    chroma = torch.zeros(4, 155, 12) if melody else None

    def loss(induction: bool) -> list[float]:
        model = TextAndCodes(config, recipes.NANO.text, 20, torch.Generator().manual_seed(1), induction=induction)
        with torch.no_grad():
            logits, *_ = model(codes[:, :, :-1], text, text > 0, chroma)
        each = torch.nn.functional.cross_entropy(logits.flatten(0, 2), codes[:, :, 1:].flatten(), reduction="none")
        each = each.view(4, 4, -1).mean(dim=(0, 1))
        return [float(each[:55].mean()), float(each[65:].mean())]

    assert abs(loss(False)[0] - loss(False)[1]) < 0.1
    assert loss(True)[1] < loss(True)[0] - 0.3


def test_induction_needs_two_layers_and_four_heads():
    config = replace(PLAN.lms["text"], num_heads=2)
    with pytest.raises(ValueError, match="2 layers of 2 heads"):
        TextAndCodes(config, PLAN.text, 20, torch.Generator(), induction=True)


@pytest.mark.parametrize("frames", [0, 40, 200, 390])
def test_a_melody_model_begins_with_a_head_that_looks_at_the_melody_of_the_same_time(frames):
    config, prefix = recipes.NANO.lms["melody"], 155 + recipes.TEXT_LENGTH
    model = TextAndCodes(config, recipes.NANO.text, 20, torch.Generator().manual_seed(1), induction=True).lm
    rng = torch.Generator().manual_seed(2)
    melody = model.project_melody(torch.eye(12)[torch.randint(12, (1, 155), generator=rng)])
    codes = model.embed(torch.randint(config.card, (1, 4, 400), generator=rng))
    rows = torch.cat([melody, torch.zeros(1, recipes.TEXT_LENGTH, config.dim), codes], dim=1)
    layer = model.transformer.layers[0]
    hidden = layer.norm_self(rows + sinusoidal_positions(torch.arange(rows.shape[1]), config.dim))
    query, key, _ = layer.self_attn.qkv(hidden).view(-1, 3, config.num_heads, 32)[:, :, -1].unbind(1)
    weights = (query[prefix + frames] @ key[: prefix + frames + 1].t() / 32**0.5).softmax(-1)
    middle = round(frames / CHROMA_STEP)
    assert float(weights[max(0, middle - 1) : middle + 2].sum().detach()) > 0.95


def test_a_melody_model_begins_with_what_the_text_model_knows(shop):
    text = lm_training(shop, "text")
    store, words = shop.tokens("train"), Vocabulary(vocabulary())
    recipe = PLAN.lm_recipes["melody"][0]
    melody = LMTraining(PLAN.lms["melody"], PLAN.text, recipe, store, words, begin=text.average)
    assert torch.equal(melody.model.lm.embedding.weight, text.model.lm.embedding.weight)
    assert torch.equal(melody.model.t5.shared.weight, text.model.t5.shared.weight)


@pytest.mark.parametrize("pattern", ["parallel", "partial_delay", "flatten", "partial_flatten", "coarse_first"])
def test_a_training_lays_its_clips_out_by_several_patterns(shop, pattern):
    training = lm_training(shop, "text", patterns=(("delay", 0.5), (pattern, 0.5)))
    drawn = [training.batches.draw(step) for step in range(12)]
    assert {batch.pattern for batch in drawn} == {"delay", pattern}
    sizes = {
        batch.pattern: named_pattern(batch.pattern, batch.codes.shape[2], (0, 1, 2, 3)).num_steps * len(batch.codes)
        for batch in drawn
    }
    assert 0.5 < sizes[pattern] / sizes["delay"] < 2.0
    batch = next(batch for batch in drawn if batch.pattern == pattern)
    losses, beside = training.losses(batch, torch.Generator().manual_seed(0))
    assert losses.isfinite().all() and beside.isfinite()


def test_unknown_words_are_put_into_captions_and_nothing_else_is_lost(shop):
    training = lm_training(shop, "text", unknown_words=0.0, foreign_words=1.0)
    caption = "a sad pop song with flute, no drums, 120 bpm"
    plain = training.batches.read([caption], None)[0].tolist()
    disturbed = training.batches.read([caption], np.random.default_rng(0))[0].tolist()
    assert len(disturbed) > len(plain) and disturbed[-1] == plain[-1]
    assert [word for word in disturbed if word != UNKNOWN_ID] == plain


def test_clips_begin_on_bars_but_for_some_and_those_are_read(shop):
    training = lm_training(shop, "text", anywhere=0.5, blind=0.5)
    rng, store = np.random.default_rng(0), training.batches.store
    for row, plan in enumerate(store.plans):
        bar = plan.beats * plan.beat_frames
        starts = [training.batches._start(row, 50, blind, rng) for blind in (True, False) for _ in range(60)]
        assert all(start % bar == 0 for start in starts[:60])
        assert all(0 <= start <= store.codes.shape[2] - 50 for start in starts)
        assert plan.ending or any(start % bar for start in starts[60:])


def test_clips_grow_longer_in_the_phases_of_a_training(shop):
    training = lm_training(shop, "text")
    assert training.batches.draw(0).codes.shape == (2, 4, 50)
    assert training.batches.draw(PLAN.lm_recipes["text"][0].steps - 1).codes.shape == (2, 4, 100)


def test_the_text_encoder_learns_whether_there_are_drums(shop):
    training = lm_training(shop, "text", text_first=(60, 16), warmup=5)
    untaught = training.model.labels.weight.clone()
    first = lm_training(shop, "text", text_first=(1, 16), warmup=5).teach_text()
    assert training.teach_text() < 0.7 * first
    assert not torch.equal(untaught, training.model.labels.weight)


def test_a_blind_clip_is_told_by_its_text_alone(shop):
    training = lm_training(shop, "text")
    batch, other = training.batches.draw(0), training.batches.draw(1)
    changed = replace(batch, codes=(batch.codes + other.codes[:, :, :50]) % PLAN.codec.card)

    for blind in (False, True):
        hidden = torch.full((len(batch.codes),), blind)
        pair = [replace(each, blind=hidden) for each in (batch, changed)]
        here, there = (training.losses(each, torch.Generator().manual_seed(0))[1] for each in pair)
        assert torch.equal(here, there) == blind


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    assert load_checkpoint(path, {}) is None
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_checkpoint(path, {})
    save_checkpoint(path, {"recipe": {"steps": 3, "seed": 1}, "step": 0})
    with pytest.raises(ValueError, match="other settings \\(steps\\)"):
        load_checkpoint(path, {"steps": 4, "seed": 1})
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["musicgen-nano", "musicgen-nano-melody"])
def test_configurations_name_their_number_format_by_the_word_that_every_transformers_reads(work, name):
    from transformers import AutoConfig

    for folder in (ROOT / "models" / name, work / "models" / name):
        table = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        assert table["torch_dtype"] == "float16" and "dtype" not in table
        assert AutoConfig.from_pretrained(folder).dtype == torch.float16


@pytest.mark.parametrize("name", ["musicgen-nano", "musicgen-nano-melody"])
def test_an_exported_model_is_loaded_and_makes_the_codes_that_transformers_makes(work, name):
    transformers = pytest.importorskip("transformers")
    folder, prompt = work / "models" / name, "A Happy rock song with zithers, in c major"
    m = load_model(folder)
    codes = m.generate([prompt], GenerationParams(duration=0.4, use_sampling=False))
    assert m.decode(codes).shape == (1, 1, 6400)
    kind = transformers.MusicgenMelodyForConditionalGeneration if "melody" in name else None
    model = (kind or transformers.MusicgenForConditionalGeneration).from_pretrained(folder).float().eval()
    seen = []
    decode = model.audio_encoder.decode
    model.audio_encoder.decode = lambda c, *rest, **named: (seen.append(c), decode(c, *rest, **named))[1]
    fixed = {"padding": "max_length", "max_length": m.config.lm.text_length} if m.config.lm.text_length else {}
    tokens = m.text_encoder.tokenizer([prompt], return_tensors="pt", **fixed)
    model.generate(**tokens, do_sample=False, guidance_scale=3.0, max_new_tokens=20 + 3)
    assert torch.equal(seen[0][0], codes)


def test_the_exported_melody_model_says_how_it_hears(work):
    m = load_model(work / "models" / "musicgen-nano-melody")
    assert (m.config.chroma.sample_rate, m.config.chroma.n_fft, m.config.chroma.hop_length) == (16000, 4096, 1031)


def test_a_model_s_file_names_the_patterns_it_knows_and_the_room_of_its_text(work, tmp_path):
    assert load_model(work / "models" / "musicgen-nano").config.patterns == ()
    folder = shutil.copytree(work / "models" / "musicgen-nano-melody", tmp_path / "melody")
    stored = json.loads((folder / "config.json").read_text())
    assert load_model(folder).config.lm.text_length == stored["text_length"] == recipes.TEXT_LENGTH
    (folder / "config.json").write_text(json.dumps({**stored, "codebook_patterns": ["parallel", "flatten"]}))
    assert load_model(folder).config.patterns == ("parallel", "flatten")
    (folder / "config.json").write_text(json.dumps({**stored, "codebook_patterns": "flatten"}))
    with pytest.raises(ValueError, match="codebook_patterns is 'flatten'; allowed is a list of names"):
        load_model(folder)
    (folder / "config.json").write_text(json.dumps({**stored, "text_length": 0}))
    with pytest.raises(ValueError, match="text_length is 0"):
        load_model(folder)


def test_training_sees_the_conditions_as_inference_does(work, shop):
    """The padded batch of training gives the logits that the engine gives row by row."""
    from musicgen.conditioning.condition import TextCondition
    from musicgen.conditioning.fuser import fuse
    from musicgen.decoding.engine import FullDecoder

    m = load_model(work / "models" / "musicgen-nano-melody")
    training = lm_training(shop, "melody")
    nothing = np.zeros(2, dtype=bool)
    batch = training.batches.make(
        np.array([0, 1]),
        [0, 0],
        50,
        ["pop", "a sad song with drums, flute and bass"],
        nothing,
        nothing,
        None,
    )
    model = training.model.eval()
    sequence = torch.full((2, 4, 5), PLAN.codec.card)
    with torch.no_grad():
        logits = model(sequence, batch.text, batch.text_mask, batch.chroma)[0][:, :, -1]
        states = model.t5(input_ids=batch.text, attention_mask=(batch.text != 0).long()).last_hidden_state
        for row in range(2):
            keep = batch.text_mask[row]
            conditions = fuse(
                model.lm,
                [TextCondition(states[row : row + 1, keep], keep[keep][None])],
                1,
                torch.device("cpu"),
                led=[True],
                leads=[MelodyLead(m.config.chroma, RecordedMelody(batch.chroma[row], torch.zeros(0), m.config.chroma))],
            )
            alone = FullDecoder(model.lm, conditions, torch.device("cpu")).next_logits(sequence[row : row + 1], 5)
            torch.testing.assert_close(alone[0, 0], logits[row], atol=1e-4, rtol=0)


def test_the_tokenizer_survives_its_file_and_knows_other_spellings(tmp_path):
    words = Vocabulary(vocabulary())
    words.tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)

    def meaning(text: str) -> list[str]:
        ids = loaded(text)["input_ids"]
        assert ids == words.tokenizer(text)["input_ids"]
        return [words.pieces[words.fold[i]] for i in ids]

    assert meaning("A HAPPY Pop song, at 121 bpm") == meaning("a happy pop song, at 120 bpm")
    assert meaning("a pop song, D  Minor") == meaning("a pop song, d minor")
    unknown = words.pieces[UNKNOWN_ID]
    assert set(meaning("coffee zymurgy \u65e5\u672c")) == {unknown, "</s>"}
    assert unknown not in meaning("hip hop with electric bass, key of f minor, bpm: 94")
    assert all(f"\u2581{tempo}" in words.pieces for tempo in TEMPI.values())


def test_si_snr_and_mel_distance_on_signals_whose_figures_are_known():
    t = torch.arange(16000) / 16000
    tone, noise = torch.sin(2 * torch.pi * 440 * t)[None], torch.cos(2 * torch.pi * 440 * t)[None]
    assert float(si_snr(tone + 0.1 * noise, tone)) == pytest.approx(20.0, abs=0.05)
    assert float(si_snr(3 * tone, tone)) > 60
    assert float(mel_distance(tone, tone, 16000)) == 0.0
    loud = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    assert float(mel_distance(loud * 2, loud, 16000)) == pytest.approx(6.02, abs=0.01)


def test_the_cross_entropy_counts_only_cells_that_hold_a_code():
    logits = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(7, (2, 3, 5))
    weights = torch.zeros(3, 5)
    weights[:, 2] = 1.0
    targets[:, :, 0] = 7
    reference = torch.nn.functional.cross_entropy(logits[:, 1, 2], targets[:, 1, 2])
    torch.testing.assert_close(codes_cross_entropy(logits, targets, weights)[1], reference)
    weights[:, 3] = 3.0
    targets[:] = 0
    a, b = (-logits.log_softmax(-1)[:, 1, column, 0].mean() for column in (2, 3))
    torch.testing.assert_close(codes_cross_entropy(logits, targets, weights)[1], (a + 3 * b) / 4)


def test_rendering_takes_up_where_it_stopped(work, shop):
    files = {path: path.stat().st_mtime_ns for path in (work / "train").iterdir()}
    assert shop.songs("train").shape == (PLAN.songs, 64000)
    assert {path: path.stat().st_mtime_ns for path in (work / "train").iterdir()} == files


def test_an_interrupted_codec_training_is_taken_up_by_the_command(work, shop):
    """All stages are done, so the command finds nothing to do."""
    training = codec_training(shop)
    train_codec(training, work / "codec.pt", shop.songs("valid")[:1, :16000])
    assert training.step_number == PLAN.codec_recipe.steps


def test_the_pattern_study_trains_and_measures_each_pattern_once(work, capsys):
    arguments = [
        "--work",
        str(work),
        "--miniature",
        "--device",
        "cpu",
        "--patterns",
        "delay",
        "flatten",
        "--seeds",
        "1",
    ]
    tables = []
    for _ in range(2):
        patterns.main(arguments)
        tables.append(capsys.readouterr().out)
    torch.set_flush_denormal(False)
    assert tables[0] == tables[1]
    rows = [line.split(" | ") for line in tables[0].splitlines()[2:]]
    assert [row[0] for row in rows] == ["| delay", "| flatten"]
    assert float(rows[1][2]) > 3.5 * float(rows[0][2])
    assert all(0.0 <= float(row[6]) <= 1.0 and float(row[5]) > 0 for row in rows)


def test_hidden_spans_cover_a_part_of_a_share_of_the_clips():
    hidden = hidden_spans(400, 300, 0.5, torch.Generator().manual_seed(1)).float().mean(dim=1)
    touched = hidden > 0
    assert 0.4 < touched.float().mean() < 0.6
    assert hidden[touched].min() >= 0.2 and hidden.max() < 1.0
    assert not hidden_spans(8, 100, 0.0, torch.Generator()).any()


def test_a_store_of_some_tempi_holds_only_their_songs(shop):
    store = shop.tokens("steady-train")
    chosen = store.plans[0].beat_frames
    part = store.of_tempi((chosen,))
    rows = [row for row, plan in enumerate(store.plans) if plan.beat_frames == chosen]
    assert len(part) == len(rows) > 0 and {plan.beat_frames for plan in part.plans} == {chosen}
    assert np.array_equal(part.codes, store.codes[rows]) and np.array_equal(part.rolls, store.rolls[rows])
    assert len(store.of_tempi(())) == len(store)
